"""Findings: the values that checks report; emu/reports makes sentences of them."""

import attrs

from emu.checks.details import Act, Arrival, Evidence, Payment, Revived, Use
from emu.checks.kinds import Facts, FindingKind
from emu.checks.stored import FreedTable, NoBreak, Overrun, Torn
from emu.checks.told import BeyondRange, Gap, LostError, NotRolledBack, WrongResult
from emu.checks.used import ForeignAccess, Illegal, Late, LateStatus
from emu.engine import Deadlock, Trace
from emu.engine.claims import Broken, When
from emu.hypervisor.ops import MapFlags
from emu.hypervisor.records import CallRecord, Update
from emu.iommus.formats import Mapping
from emu.iommus.paths import Path, PathEntry
from emu.units import Dfn, Maddr, Mfn

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
    "NoBreak",
    "NotIsolated",
    "NotRolledBack",
    "OldPath",
    "Overrun",
    "Owed",
    "Released",
    "Stale",
    "StaleAssignment",
    "Stuck",
    "Torn",
    "WrongResult",
]


@attrs.frozen(kw_only=True)
class OldPath:
    """An old path to a leaf, which a unit may still use although the path should be gone.

    Attributes:
        agent, call, step: the CPU, the call, and the step of its return; or of a release, or of a hypercall's end.
        root: the highest table of the domain.
        changed: the step up to which a replaced word makes a path old: the step of the call's own change.
        update: the page as the call stored or found it; None for a flush, and for a release.
        path: the old path.
        replaced: the entry of the path that was overwritten first; None where the released frame is still mapped.
        lacks_permissions: the path leads to the right leaf, through a table entry that permits less.
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
    root: Maddr
    path: Path
    replaced: PathEntry | None
    changed: int
    update: Update | None
    use: Use | None = None
    lacks_permissions: bool = False
    wanted: Mapping | None = None
    arrival: Arrival | None = None

    @property
    def frame(self) -> Mfn | None:
        """The frame to which the old path leads; None if it leads to a fault."""
        return self.path.translation.frame(self.dfn)

    @property
    def is_fault(self) -> bool:
        """Whether the unit may refuse an access that should be possible."""
        return self.frame is None or self.lacks_permissions

    @property
    def page(self) -> tuple[int, Dfn, str, Mfn | None]:
        """The subject of the finding, apart from the promise: domain, dfn, unit and frame."""
        return (self.domain, self.dfn, self.unit, self.frame)

    @property
    def change(self) -> int | None:
        """The step of the store that made the path old; None where the page is still mapped."""
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
        """Return the facts of the signature: the agent that replaced the entry owes the flush."""
        owed_by = trace.agent_of(self.change).name if self.change else self.agent
        return (check, self.domain, self.dfn, self.frame, self.unit, owed_by)


@attrs.frozen(kw_only=True)
class Stale(OldPath):
    """A promise that an old translation is gone, made while a unit could still use the translation.

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
    """A device that has changed its domain, and for which a unit may still use the old context entry.

    Attributes:
        joined: the domain to which the device was given; None where it was taken away.
        left: the domain whose tables may still translate for it; None where the unit may still refuse its requests.
        is_untranslated: the unit may let its requests through untranslated instead.
        revived: a promise of the joined domain that does not hold for the device, instead.
    """

    step: int
    device: str
    joined: int | None
    left: int | None
    unit: str
    is_untranslated: bool = False
    revived: Revived | None = None

    @property
    def kind(self) -> FindingKind:
        """Whether the unit may still translate for the device, refuse its requests, or let them through."""
        if self.is_untranslated:
            return FindingKind.NOT_ISOLATED
        return FindingKind.STALE_FAULT if self.left is None and self.revived is None else FindingKind.STALE

    def facts(self, trace: Trace) -> Facts:
        agent = trace.agent_of(self.step).name
        left, dfn = (self.left, None) if self.revived is None else (self.joined, self.revived.dfn)
        return (f"assigned: {self.device}", left, dfn, None, self.unit, agent)


@attrs.frozen(kw_only=True)
class Owed(OldPath):
    """A flush that a call had put off, and that was not paid when its hypercall ended.

    Attributes:
        debt: the call that had put the flush off.
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
    """A frame that was freed or given away while a translation to it could still be used.

    Attributes:
        table: the frame, where it held a page table that the path reads.
        debt: the call that had put the flush off, where the flush was never paid.
        generation: the generation of the frame.
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


@attrs.frozen(kw_only=True)
class NotIsolated:
    """A frame in reach of a domain's devices which its owner does not let the domain map so; or which is a page table.

    Attributes:
        domain: the domain whose tables lead to the frame; None where the unit let an access through untranslated.
        owner: the domain that owns the frame; None where the frame is a page table that no domain has.
        is_table: the frame is a page table.
        allowed: the permissions that the owner gives the domain.
        use: a use by a device.
    """

    agent: str
    act: Act
    step: int
    domain: int | None
    dfn: Dfn
    frame: Mfn
    unit: str
    owner: int | None
    is_table: bool
    allowed: MapFlags
    use: Use | None = None

    kind = FindingKind.NOT_ISOLATED

    @property
    def page(self) -> tuple[int | None, Dfn, str, Mfn]:
        """The subject of the finding, apart from the act: domain, dfn, unit and frame."""
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
    """A claim or assertion of the scenario that does not hold (engine/claims.py, Broken)."""

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
        """Return the signature's facts, without an agent for a claim about the end: interleavings differ in it."""
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
    | Torn
    | NoBreak
    | Overrun
    | Late
    | LateStatus
    | ForeignAccess
    | NotIsolated
    | Stuck
    | Asserted
    | Illegal
)
"""Each has a `kind`, and `facts` by which two findings of a kind, of any executions, count as one cause."""
