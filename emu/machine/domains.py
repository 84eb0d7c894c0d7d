"""Which domains a machine can have."""

from collections.abc import Container, Sequence

from emu.errors import ScenarioError
from emu.hypervisor.domain import DOMID_FIRST_RESERVED, DOMID_IO, HARDWARE_DOMAIN, IommuUse


def check_domain(number: int, known: Container[int], devices: Sequence[str], use: IommuUse) -> None:
    """Refuse a domain that there cannot be.

    Raises:
        ScenarioError: naming what is wrong.
    """
    if isinstance(devices, str):
        raise ScenarioError(f"devices={devices!r} is one text: write a tuple of names, ({devices!r},)")
    if not 0 <= number < DOMID_FIRST_RESERVED and number != DOMID_IO:
        raise ScenarioError(
            f"there is no domain {number}: number domains from 0, the hardware domain, to "
            f"{DOMID_FIRST_RESERVED - 1:#x}; DOMID_IO is {DOMID_IO:#x}"
        )
    if number in known:
        raise ScenarioError(f"domain {number} exists already: give each domain a number of its own")
    if use is IommuUse.PASSTHROUGH and number != HARDWARE_DOMAIN:
        raise ScenarioError(f"domain {number} cannot be passed through: only domain {HARDWARE_DOMAIN} can")
    if use in {IommuUse.PASSTHROUGH, IommuUse.OFF} and devices:
        raise ScenarioError(f"no tables translate for the devices of domain {number}: give it none, or another use")
