"""Signatures: what makes two findings, of whatever executions, one and the same."""

from typing import NamedTuple

from emu.checks.findings import (
    Finding,
    FindingKind,
    Foreign,
    FreedTable,
    Illegal,
    Late,
    LostError,
    NotRolledBack,
    Overrun,
    Stale,
    Stuck,
    WrongResult,
)
from emu.engine import Trace
from emu.units import Dfn, Mfn

Facts = tuple[str, int | None, Dfn | None, Mfn | None, str | None, str | None]
"""What a signature says besides the kind."""


class Signature(NamedTuple):
    """What is broken, without the steps at which it happened and without the evidence.

    Attributes:
        check: which promise, which hook, or who waits for what.
        frame: to which a stale translation leads; None where it leads to none.
        owed_by: who changed what was to be flushed, or made the call.
    """

    kind: FindingKind
    check: str
    domain: int | None
    dfn: Dfn | None
    frame: Mfn | None
    unit: str | None
    owed_by: str | None

    def __str__(self) -> str:
        values = [self.kind.value, *self[1:]]
        return " | ".join("-" if value is None else str(value) for value in values)


def signature(finding: Finding, trace: Trace) -> Signature:
    """Return the signature of a finding in the execution that left a trace."""
    what: Facts
    match finding:
        case Stale():
            what = stale(finding, trace)
        case LostError(failure=failure):
            hook = f"{finding.call}: {failure.hook}"
            what = (hook, finding.domain, failure.dfn, None, None, finding.agent)
        case NotRolledBack() | WrongResult():
            what = (finding.call, finding.domain, finding.page, None, None, finding.agent)
        case FreedTable():
            freed = f"freed by {finding.freed[0]}" if finding.freed else "no table"
            what = (freed, finding.domain, finding.dfn, finding.frame, None, finding.agent)
        case Overrun():
            what = (finding.array, None, None, None, None, finding.agent)
        case Late():
            promise = f"{finding.call} of {finding.agent}"
            what = (promise, finding.domain, finding.dfn, finding.frame, finding.unit, finding.device)
        case Foreign():
            driver = f"programmed by domain {finding.programmed_by}"
            what = (driver, finding.domain, finding.dfn, finding.frame, finding.unit, finding.device)
        case Stuck(deadlock=deadlock):
            waits = "; ".join(f"{one.agent} waits for {one.waits_for}" for one in deadlock.waiters)
            what = (waits, None, None, None, None, None)
        case Illegal():
            what = ("ledger", None, finding.dfn, None, finding.unit, finding.device)
    return Signature(finding.kind, *what)


def stale(finding: Stale, trace: Trace) -> Facts:
    """Return what makes a stale translation the same."""
    check = f"owed: {finding.payment.value}" if finding.payment else finding.promise
    owed_by = trace.agent_of(finding.change).name if finding.change else finding.agent
    return (check, finding.domain, finding.dfn, finding.frame, finding.unit, owed_by)
