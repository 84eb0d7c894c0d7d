"""The first line of a finding's report: its name, its evidence, and what is wrong."""

from emu.checks.details import Act
from emu.checks.findings import (
    Asserted,
    BeyondRange,
    Finding,
    ForeignAccess,
    FreedTable,
    Gap,
    Illegal,
    Late,
    LateStatus,
    LostError,
    NoBreak,
    NotIsolated,
    NotRolledBack,
    Overrun,
    Owed,
    Released,
    Stale,
    StaleAssignment,
    Stuck,
    Torn,
    WrongResult,
)
from emu.engine import Trace
from emu.reports.findings import call_of, harm_of, walker
from emu.reports.stale import evidence, harm, occasion


def headline(finding: Finding, trace: Trace) -> str:
    """Return the first line of the report."""
    match finding:
        case Stale() | Owed() | Released():
            what = f"{occasion(finding)[0]} ({evidence(finding, trace)})"
            frame = f" mfn {finding.frame:#x}:" if isinstance(finding, Released) else ""
            return f"{what}:{frame} {finding.unit} could still {harm(finding)}"
        case LostError() | NotRolledBack() | WrongResult() | BeyondRange() | Gap():
            return of_call(finding)
        case StaleAssignment() | NotIsolated() | Torn() | NoBreak():
            return of_reach(finding)
        case Stuck():
            return f"deadlock: no agent can go on after step {finding.deadlock.step}"
        case Asserted():
            return f"assertion: {finding.claim!r} does not hold"
        case _:
            return of_access(finding)


def of_reach(finding: StaleAssignment | NotIsolated | Torn | NoBreak) -> str:
    """Return the first line about what a device could reach, or a walker find."""
    match finding:
        case StaleAssignment():
            what, could = harm_of(finding)
            return f"{what} (possible): for device {finding.device} {finding.unit} could {could}"
        case NotIsolated():
            did = "accessed" if finding.use or finding.act is Act.ACCESS else "could access"
            who = f"device {finding.use.device}" if finding.use else "a device"
            if finding.act is Act.ACCESS:
                who = f"device {finding.agent}"
            return f"not isolated ({finding.evidence.value}): {who} {did} mfn {finding.frame:#x}"
        case Torn():
            led = f"domain {finding.domain} dfn {finding.dfn:#x} led to mfn {finding.frame:#x} between two stores"
            return f"torn entry ({finding.evidence.value}): {led}"
        case NoBreak():
            page = f"domain {finding.domain} dfn {finding.dfn:#x}"
            return f"no break: {page} got another entry while {walker(finding)} could still use the one before"


def of_call(finding: LostError | NotRolledBack | WrongResult | BeyondRange | Gap) -> str:
    """Return the first line about a call."""
    match finding:
        case LostError():
            return f"lost error: {call_of(finding)} hid a failure"
        case NotRolledBack():
            return f"not rolled back: {call_of(finding)} failed and left pages mapped"
        case WrongResult():
            return f"wrong result: {call_of(finding)} did not do what its success says"
        case Gap():
            return f"gap: {call_of(finding)} left dfn {finding.page:#x} unmapped for a time"
        case BeyondRange():
            what = "outside of any call" if finding.call is None else f"outside of {call_of(finding)}"
            return f"beyond range: domain {finding.page_domain} dfn {finding.page:#x} was changed {what}"


def of_access(finding: Overrun | FreedTable | Late | LateStatus | ForeignAccess | Illegal) -> str:
    """Return the first line about an access or a store."""
    match finding:
        case Overrun():
            return f"overrun: {finding.agent} stored too much in {finding.array}"
        case FreedTable():
            return f"freed table: {finding.agent} stored an entry into mfn {finding.frame:#x}, no page table any more"
        case Late():
            return f"late access: device {finding.device} used mfn {finding.frame:#x} after it was promised to be gone"
        case LateStatus():
            return f"late access: {finding.unit} wrote a status into mfn {finding.frame:#x} after that was freed"
        case ForeignAccess():
            return f"foreign access: device {finding.device} did in domain {finding.domain} what another had programmed"
        case Illegal():
            return f"illegal translation: device {finding.device} used what the ledger forbids; this is a bug of emu"
