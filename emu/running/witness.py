"""The witness: an access that is appended to a schedule, by which a device uses a stale translation.

Where units cache table entries, an access may not be enough: the entry has to be cached before it is replaced, the
page's own translation must not be, and the walk has to start at the entry. A unit may do each of these at any time.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, TypeGuard

import attrs
import cattrs
from cattrs.gen import make_dict_unstructure_fn

from emu.checks.details import Evidence
from emu.checks.findings import Finding, OldPath
from emu.devices.device import Device
from emu.engine import Agent
from emu.iommus.iotlb import Evict
from emu.machine.machine import Machine
from emu.machine.role import WITNESS
from emu.units import Dfn

REQUESTS = 1 << 31
"""The number of a witness's first request, so that the device's own requests keep their numbers."""

EARLIER = f" earlier{WITNESS}"
"""The end of the name of the agent that makes a witness's first access."""


@attrs.frozen
class Witness:
    """An access that is appended to a schedule: a device of the domain reads a page, or writes to it.

    Attributes:
        start: the number of the cached table entry at which its walk starts, from 1 on; 0 if that does not matter.
        before: the step of the schedule before which the device reads the page a first time; 0 if it does not.
        is_write: it is a write.
    """

    device: str
    dfn: int
    start: int = 0
    before: int = 0
    is_write: bool = False

    @classmethod
    def of(cls, finding: OldPath, machine: Machine) -> "Witness":
        """Return the access that can show a finding, by a device for which the unit may use the translation."""
        return cls(machine.user_of(finding).bdf, finding.dfn)

    @classmethod
    def all_of(cls, finding: OldPath, machine: Machine) -> Iterator["Witness"]:
        """Yield the accesses that could show a finding; several where a cached table entry was replaced."""
        one = cls.of(finding, machine)
        yield one
        device = machine.devices[one.device]
        if device.unit.walk_cache is None or finding.change is None or not finding.replaces_table:
            return
        is_write = finding.lacks_permissions and not finding.path.translation.write
        for before in (0, finding.change):
            for start in range(1, len(finding.path.entries)):
                yield attrs.evolve(one, start=start, before=before, is_write=is_write)

    def join(self, machine: Machine) -> list[str]:
        """Let a device of a machine make the accesses, besides its others; return the names of the new agents.

        The last of them makes the access that shows the finding.
        """
        device = attrs.evolve(machine.device(self.device).actor, first_request=REQUESTS)
        bodies = {f"{self.device}{EARLIER}": self.read_earlier} if self.before else {}
        bodies[f"{self.device}{WITNESS}"] = self.access
        for name, body in bodies.items():
            machine.add_agent(Agent(name, partial(body, device), {"device": self.device}))
        return list(bodies)

    async def read_earlier(self, device: Device) -> None:
        """Read the page, so that the unit caches the table entries that lead to it."""
        await device.read(Dfn(self.dfn))

    async def access(self, device: Device) -> None:
        """Make the access; if it is to walk, after the unit has dropped what it has cached of the page."""
        if self.start:
            await Evict(device.unit.iotlb, Dfn(self.dfn))
        if self.is_write:
            await device.write(Dfn(self.dfn), 0)
        else:
            await device.read(Dfn(self.dfn))


def unstructured(witness: Witness) -> dict[str, Any]:
    """Return a witness as JSON data, without what is as in every other one."""
    return UNSTRUCTURE(witness)


UNSTRUCTURE = make_dict_unstructure_fn(Witness, cattrs.global_converter, _cattrs_omit_if_default=True)
cattrs.register_unstructure_hook(Witness, unstructured)


def is_used(finding: Finding | None) -> bool:
    """Whether a device has used what it should not: the evidence of a finding is *observed*."""
    return getattr(finding, "evidence", None) is Evidence.OBSERVED


def is_usable(finding: Finding | None) -> TypeGuard[OldPath]:
    """Whether a device could use a stale translation, and none has."""
    return isinstance(finding, OldPath) and finding.evidence is Evidence.POSSIBLE
