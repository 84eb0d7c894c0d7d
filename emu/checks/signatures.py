"""Signatures: equal for two findings, of any executions, that are the same."""

from typing import NamedTuple

from emu.checks.findings import Finding, FindingKind
from emu.engine import Trace
from emu.units import Dfn, Mfn


class Signature(NamedTuple):
    """A finding without its steps and its evidence.

    Attributes:
        check: the promise, the hook, the waits of a deadlock, or the text of a claim.
        frame: the frame to which a stale translation leads; None if it leads to none.
        owed_by: the agent that changed the entry to flush, made the call, or broke the claim.
    """

    kind: FindingKind
    check: str
    domain: int | None
    dfn: Dfn | None
    frame: Mfn | None
    unit: str | None
    owed_by: str | None

    def __str__(self) -> str:
        return self.written()

    def written(self, frame: str | None = None) -> str:
        """Return it as a text, perhaps with a name in the place of the frame's number."""
        values = [self.kind.value, *self[1:4], frame or self.frame, *self[5:]]
        return " | ".join("-" if value is None else str(value) for value in values)


def signature(finding: Finding, trace: Trace) -> Signature:
    """Return the signature of a finding in the execution that left a trace."""
    return Signature(finding.kind, *finding.facts(trace))
