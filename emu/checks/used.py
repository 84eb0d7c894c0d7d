"""Findings about an access: a device or a unit has read or written a word that it should not have."""

import attrs

from emu.checks.kinds import Facts, FindingKind
from emu.engine import Trace
from emu.units import Dfn, Maddr, Mfn, address_frame


@attrs.frozen
class Late:
    """An access that was translated before an invalidation and made after a promise that the translation is gone.

    Attributes:
        agent, call, promised: the promise's CPU, call and step; the call is put_page where the frame was freed.
    """

    device: str
    step: int
    unit: str
    domain: int
    dfn: Dfn
    frame: Mfn
    is_write: bool
    agent: str
    call: str
    promised: int

    kind = FindingKind.LATE

    def facts(self, trace: Trace) -> Facts:
        promise = f"{self.call} of {self.agent}"
        return (promise, self.domain, self.dfn, self.frame, self.unit, self.device)


@attrs.frozen
class LateStatus:
    """A status word that a unit wrote into a frame that was free, or was freed after software had asked for the word.

    Attributes:
        asked: the step at which software had asked for the word.
        agent, freed: the CPU that freed the frame, and the step.
        owner: the domain that owns the frame now; None if it is free.
    """

    step: int
    unit: str
    address: Maddr
    asked: int
    agent: str
    freed: int
    owner: int | None

    kind = FindingKind.LATE

    @property
    def frame(self) -> Mfn:
        """The frame of the word."""
        return address_frame(self.address)

    def facts(self, trace: Trace) -> Facts:
        return (f"status after put_page of {self.agent}", self.owner, None, self.frame, self.unit, self.unit)


@attrs.frozen
class ForeignAccess:
    """An access that was programmed while one domain had the device, and translated by the tables of another.

    Attributes:
        programmed_by: the domain whose driver had programmed it.
        domain: the domain whose memory was accessed.
    """

    device: str
    step: int
    unit: str
    dfn: Dfn
    frame: Mfn
    programmed_by: int
    domain: int

    kind = FindingKind.FOREIGN

    def facts(self, trace: Trace) -> Facts:
        driver = f"programmed by domain {self.programmed_by}"
        return (driver, self.domain, self.dfn, self.frame, self.unit, self.device)


@attrs.frozen
class Illegal:
    """A device's use of a translation that the ledger does not allow."""

    device: str
    step: int
    unit: str
    dfn: Dfn
    leaf: int

    kind = FindingKind.ILLEGAL

    def facts(self, trace: Trace) -> Facts:
        return ("ledger", None, self.dfn, None, self.unit, self.device)
