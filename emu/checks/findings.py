"""Findings: what a check has to report. Values; what they say in words is made by reports/."""

import attrs

from emu.checks.details import Act, Arrival, Evidence, Payment, Use
from emu.checks.kinds import Facts, FindingKind
from emu.checks.told import BeyondRange, Gap, LostError, NotRolledBack, WrongResult
from emu.checks.used import ForeignAccess, Illegal, Late, LateStatus
from emu.engine import Deadlock, Trace
from emu.engine.claims import Broken, When
from emu.hypervisor.ops import MapFlags
from emu.hypervisor.records import CallRecord, Update
from emu.iommus.formats import Mapping
from emu.iommus.paths import Path, PathEntry
from emu.units import Dfn, Maddr, Mfn, address_frame, frame_address

__all__ = [
    "Asserted",
    "BeyondRange",
    "Finding",
    "FindingKind",
    "ForeignAccess",
    "FreedTable",
    "Gap",
    "Illegal",
    "Late",
    "LateStatus",
    "LostError",
    "NotIsolated",
    "NotRolledBack",
    "OldPath",
    "Overrun",
    "Owed",
    "Released",
    "Stale",
    "StaleAssignment",
    "Stuck",
    "WrongResult",
]


@attrs.frozen(kw_only=True)
class OldPath:
    """What a unit may still use although it should be gone: an old way to an old leaf.

    Attributes:
        agent, call, step: who returned from which call when; or whose release, or whose hypercall's end it was.
        changed: the step up to which words count as replaced: that of the call's own change.
        update: what the call stored or found; None for a flush, and for a release.
        path: the old way.
        replaced: the entry of the path that was overwritten first; None where a frame was released that is mapped.
        lacks_permissions: the path gives the very leaf that should be there, through an entry that permits less.
        wanted: the frame and the permissions that the page should have instead; None for a release.
        arrival: when the store that replaced the entry reached memory; None where the page is still mapped, and before
            the execution has been concluded.
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
    lacks_permissions: bool = False
    wanted: Mapping | None = None
    arrival: Arrival | None = None

    @property
    def root(self) -> Maddr:
        """The highest table of the domain."""
        return frame_address(address_frame(self.path.entries[0].address))

    @property
    def frame(self) -> Mfn | None:
        """The frame to which the old path leads; None if it leads to a fault."""
        return self.path.translation.frame(self.dfn)

    @property
    def is_fault(self) -> bool:
        """Whether what the unit may do is to refuse an access that should be possible."""
        return self.frame is None or self.lacks_permissions

    @property
    def page(self) -> tuple[int, Dfn, str, Mfn | None]:
        """What it is about, whoever has promised or owed: domain, dfn, unit and frame."""
        return (self.domain, self.dfn, self.unit, self.frame)

    @property
    def change(self) -> int | None:
        """The step of the store that made the path an old one; None where the page is still mapped."""
        return self.replaced.overwritten if self.replaced else None

    @property
    def replaces_table(self) -> bool:
        """Whether the entry that was replaced led to a table."""
        return self.replaced is not None and self.replaced != self.path.entries[-1]

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
        return FindingKind.STALE_FAULT if self.is_fault else FindingKind.STALE

    def facts(self, trace: Trace) -> Facts:
        return self.facts_of(self.promise, trace)


@attrs.frozen
class StaleAssignment:
    """A device that has changed its domain, and for which a unit may still do what it did before.

    Attributes:
        joined: the domain that it was given to; None where it was taken away.
        left: the domain by whose tables it may still be translated; None where it may be refused as if it had none.
    """

    step: int
    device: str
    joined: int | None
    left: int | None
    unit: str

    @property
    def kind(self) -> FindingKind:
        """Whether it may still be translated, or refused."""
        return FindingKind.STALE_FAULT if self.left is None else FindingKind.STALE

    def facts(self, trace: Trace) -> Facts:
        agent = trace.agent_of(self.step).name
        return (f"assigned: {self.device}", self.left, None, None, self.unit, agent)


@attrs.frozen(kw_only=True)
class Owed(OldPath):
    """A flush that a call had put off, and that was not paid when its hypercall ended.

    Attributes:
        debt: that call.
        payment: what became of the debt.
    """

    debt: CallRecord = attrs.field(repr=False, eq=False)
    payment: Payment

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


@attrs.frozen(kw_only=True)
class NotIsolated:
    """A frame in reach of a domain's devices that its owner does not let the domain map so; or that is a page table.

    Attributes:
        domain: by whose tables the frame is reached.
        owner: of the frame; None where it is a page table that no domain has.
        is_table: the frame is a page table.
        allowed: what the owner lets the domain do with the frame.
        use: by a device.
    """

    agent: str
    act: Act
    step: int
    domain: int
    dfn: Dfn
    frame: Mfn
    unit: str
    owner: int | None
    is_table: bool
    allowed: MapFlags
    use: Use | None = None

    kind = FindingKind.NOT_ISOLATED

    @property
    def page(self) -> tuple[int, Dfn, str, Mfn]:
        """What it is about, whatever was done: domain, dfn, unit and frame."""
        return (self.domain, self.dfn, self.unit, self.frame)

    @property
    def evidence(self) -> Evidence:
        """Whether a device has reached the frame."""
        return Evidence.POSSIBLE if self.use is None else Evidence.OBSERVED

    def facts(self, trace: Trace) -> Facts:
        return (f"isolated: {self.act.value}", self.domain, self.dfn, self.frame, self.unit, self.agent)


@attrs.frozen
class Stuck:
    """A deadlock."""

    deadlock: Deadlock

    kind = FindingKind.DEADLOCK

    def facts(self, trace: Trace) -> Facts:
        waits = "; ".join(f"{one.agent} waits for {one.waits_for}" for one in self.deadlock.waiters)
        return (waits, None, None, None, None, None)


@attrs.frozen
class Asserted:
    """A claim of the scenario's own that does not hold (engine/claims.py, Broken)."""

    claim: str
    when: When
    agent: str | None
    step: int
    source: str | None

    kind = FindingKind.ASSERTION

    @classmethod
    def of(cls, broken: Broken) -> "Asserted":
        """Return the finding of a claim that does not hold."""
        return cls(broken.claim, broken.when, broken.agent, broken.step, broken.source)

    def facts(self, trace: Trace) -> Facts:
        """Return what its signature says besides the kind; who took the last step of all, a trace leaves open."""
        return (self.claim, None, None, None, None, None if self.when is When.FINALLY else self.agent)


Finding = (
    Stale
    | StaleAssignment
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
    | LateStatus
    | ForeignAccess
    | NotIsolated
    | Stuck
    | Asserted
    | Illegal
)
"""Each says its `kind`, and by `facts` what makes two of its kind, of whatever executions, one and the same."""
