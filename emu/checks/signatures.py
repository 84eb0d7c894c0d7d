"""Signatures: what makes two findings, of whatever executions, one and the same."""

from typing import NamedTuple

from emu.checks.findings import Finding, FindingKind, Foreign, LostError, NotRolledBack, Stale, Stuck, WrongResult
from emu.engine import Trace
from emu.units import Dfn, Mfn


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


def signature(finding: Finding, trace: Trace) -> Signature:
    """Return the signature of a finding in the execution that left a trace."""
    kind = finding.kind
    if isinstance(finding, Stale):
        changed = finding.replaced.overwritten if finding.replaced else None
        owed_by = trace.agent_of(changed).name if changed else finding.agent
        check = f"owed: {finding.payment.value}" if finding.payment else finding.promise
        return Signature(kind, check, finding.domain, finding.dfn, finding.frame, finding.unit, owed_by)
    if isinstance(finding, LostError):
        hook = f"{finding.call}: {finding.failure.hook}"
        return Signature(kind, hook, finding.domain, finding.failure.dfn, None, None, finding.agent)
    if isinstance(finding, NotRolledBack | WrongResult):
        return Signature(kind, finding.call, finding.domain, finding.page, None, None, finding.agent)
    if isinstance(finding, Foreign):
        check = f"programmed by domain {finding.programmed_by}"
        return Signature(kind, check, finding.domain, finding.dfn, finding.frame, finding.unit, finding.device)
    if isinstance(finding, Stuck):
        waits = "; ".join(f"{one.agent} waits for {one.waits_for}" for one in finding.deadlock.waiters)
        return Signature(kind, waits, None, None, None, None, None)
    return Signature(kind, "ledger", None, finding.dfn, None, finding.unit, finding.device)
