"""Findings: what a check has to report. Values; what they say in words is made by reports/."""

from enum import Enum

import attrs

from emu.checks.kinds import Facts, FindingKind
from emu.checks.told import BeyondRange, Gap, LostError, NotRolledBack, WrongResult
from emu.engine import Deadlock, Trace
from emu.hypervisor.records import CallRecord, Update
from emu.iommus.formats import FAULT
from emu.iommus.paths import Path, PathEntry
from emu.units import Dfn, Maddr, Mfn, address_frame, frame_address

__all__ = [
    "BeyondRange",
    "Evidence",
    "Finding",
    "FindingKind",
    "Foreign",
    "FreedTable",
    "Gap",
    "Illegal",
    "Late",
    "LostError",
    "NotRolledBack",
    "OldPath",
    "Overrun",
    "Owed",
    "Payment",
    "Released",
    "Stale",
    "Stuck",
    "Use",
    "WrongResult",
]


class Payment(Enum):
    """What became of a debt by the end of the hypercall, or after it."""

    NEVER = "never"  # nobody has flushed
    LATE = "late"  # a flush removed the translation after the hypercall
    WRONG_RANGE = "wrong-range"  # whoever owed it flushed other pages of the domain
    WRONG_DOMAIN = "wrong-domain"  # whoever owed it flushed another domain
    FAILED = "failed"  # whoever owed it flushed the page, and was told that this had failed
    INEFFECTIVE = "ineffective"  # whoever owed it flushed the page, and the translation may be used all the same
    CONTINUED = "continued"  # the hypercall ended with a continuation, before its last pass could pay


class Evidence(Enum):
    """How a stale translation is known."""

    POSSIBLE = "possible"  # the ledger allows it when the promise is made
    OBSERVED = "observed"  # a device used it afterwards


@attrs.frozen
class Use:
    """A device's use of a translation."""

    device: str
    step: int


@attrs.frozen(kw_only=True)
class OldPath:
    """What a unit may still use although it should be gone: an old way to an old leaf.

    Attributes:
        agent, call, step: who returned from which call when; or whose release, or whose hypercall's end it was.
        changed: the step up to which words count as replaced: that of the call's own change.
        update: what the call stored or found; None for a flush, and for a release.
        path: the old way.
        replaced: the entry of the path that was overwritten first; None where a frame was released that is mapped.
    """

    agent: str
    call: str
    step: int
    domain: int
    dfn: Dfn
    unit: str
    tag: int
    path: Path
    replaced: PathEntry | None
    changed: int
    update: Update | None
    use: Use | None = None

    @property
    def root(self) -> Maddr:
        """The highest table of the domain."""
        return frame_address(address_frame(self.path.entries[0].address))

    @property
    def frame(self) -> Mfn | None:
        """The frame to which the old path leads; None if it leads to a fault."""
        return self.path.translation.frame(self.dfn)

    @property
    def page(self) -> tuple[int, Dfn, str, Mfn | None]:
        """What it is about, whoever has promised or owed: domain, dfn, unit and frame."""
        return (self.domain, self.dfn, self.unit, self.frame)

    @property
    def change(self) -> int | None:
        """The step of the store that made the path an old one; None where the page is still mapped."""
        return self.replaced.overwritten if self.replaced else None

    @property
    def evidence(self) -> Evidence:
        """Whether a device has used the translation."""
        return Evidence.POSSIBLE if self.use is None else Evidence.OBSERVED

    def facts_of(self, check: str, trace: Trace) -> Facts:
        """Return what its signature says besides the kind: the agent that replaced the entry owes the flush."""
        owed_by = trace.agent_of(self.change).name if self.change else self.agent
        return (check, self.domain, self.dfn, self.frame, self.unit, owed_by)


@attrs.frozen(kw_only=True)
class Stale(OldPath):
    """A promise that an old translation is gone, made while a unit could still use it.

    Attributes:
        promise: "mapped", "unmapped", "flushed", or "taken back" by a call that has failed.
    """

    promise: str

    @property
    def kind(self) -> FindingKind:
        """Whether the old path leads to a translation or to a fault."""
        return FindingKind.STALE_FAULT if self.path.translation == FAULT else FindingKind.STALE

    def facts(self, trace: Trace) -> Facts:
        return self.facts_of(self.promise, trace)


@attrs.frozen(kw_only=True)
class Owed(OldPath):
    """A flush that a call had put off, and that was not paid when its hypercall ended.

    Attributes:
        debt: that call.
        payment: what became of the debt.
        flag_is_left_set: the CPU's iommu_dont_flush_iotlb was still set.
    """

    debt: CallRecord = attrs.field(repr=False, eq=False)
    payment: Payment
    flag_is_left_set: bool = False

    kind = FindingKind.OWED
    promise = "owed"

    def facts(self, trace: Trace) -> Facts:
        return self.facts_of(f"{self.promise}: {self.payment.value}", trace)


@attrs.frozen(kw_only=True)
class Released(OldPath):
    """A frame that was freed or given away while somebody else's translation to it could still be used.

    Attributes:
        table: the frame, where it was that of a page table which the path reads.
        debt: the call that had put off the flush, where that was not paid.
        generation: of the frame.
    """

    table: Mfn | None
    debt: CallRecord | None = attrs.field(default=None, repr=False, eq=False)
    generation: int = 0

    kind = FindingKind.RELEASED
    promise = "released"

    @property
    def frame(self) -> Mfn | None:
        """The frame that was released."""
        return self.table or super().frame

    def facts(self, trace: Trace) -> Facts:
        return self.facts_of(self.promise, trace)


@attrs.frozen
class FreedTable:
    """A store to a page table that was freed before; or to what its domain took for one.

    Attributes:
        frame: of the table.
        freed: who has freed it, and at which step; None where it was never a page table, and the domain found the way
            there in a table that was freed and then used by somebody else.
    """

    agent: str
    step: int
    domain: int
    dfn: Dfn
    frame: Mfn
    freed: tuple[str, int] | None

    kind = FindingKind.FREED_TABLE

    def facts(self, trace: Trace) -> Facts:
        freed = f"freed by {self.freed[0]}" if self.freed else "no table"
        return (freed, self.domain, self.dfn, self.frame, None, self.agent)


@attrs.frozen
class Overrun:
    """More stored into an array than it has room for."""

    agent: str
    step: int
    array: str
    count: int

    kind = FindingKind.OVERRUN

    def facts(self, trace: Trace) -> Facts:
        return (self.array, None, None, None, None, self.agent)


@attrs.frozen
class Late:
    """An access that was translated before an invalidation and made after a promise that the translation is gone.

    Attributes:
        agent, call, promised: who has promised that by which call at which step; put_page where the frame was freed.
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
class Foreign:
    """An access that was programmed while one domain had the device, and translated by the tables of another.

    Attributes:
        programmed_by: the domain whose driver had asked for it.
        domain: the one whose memory was accessed.
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
class Stuck:
    """A deadlock."""

    deadlock: Deadlock

    kind = FindingKind.DEADLOCK

    def facts(self, trace: Trace) -> Facts:
        waits = "; ".join(f"{one.agent} waits for {one.waits_for}" for one in self.deadlock.waiters)
        return (waits, None, None, None, None, None)


@attrs.frozen
class Illegal:
    """A translation used that the ledger does not allow."""

    device: str
    step: int
    unit: str
    dfn: Dfn
    leaf: int

    kind = FindingKind.ILLEGAL

    def facts(self, trace: Trace) -> Facts:
        return ("ledger", None, self.dfn, None, self.unit, self.device)


Finding = (
    Stale
    | Owed
    | Released
    | LostError
    | NotRolledBack
    | WrongResult
    | BeyondRange
    | Gap
    | FreedTable
    | Overrun
    | Late
    | Foreign
    | Stuck
    | Illegal
)
"""Each says its `kind`, and by `facts` what makes two of its kind, of whatever executions, one and the same."""
