"""Verdicts: what one execution, a run and an exploration tell of what their scenario declares."""

from collections.abc import Iterable, Sequence
from enum import Enum

from emu.checks.findings import Finding, FindingKind
from emu.scenarios.expectation import Expectation


class Verdict(Enum):
    """What executions tell of what their scenario declares."""

    SHOWN = "shown"  # the declared finding shows
    PROVED = "proved"  # there is no other execution, and none has shown anything
    CONSISTENT = "not contradicted"  # nothing speaks against it
    CONTRADICTED = "contradicted"  # there is a finding that was not declared
    FOUND = "found"  # nothing was declared, and there is a finding
    UNDECIDED = "undecided"  # it ended before there was a verdict

    @property
    def is_final(self) -> bool:
        """Whether one execution with this verdict decides for all of a run."""
        return self in {Verdict.SHOWN, Verdict.CONTRADICTED, Verdict.FOUND}


def judge_execution(expected: Expectation, findings: Sequence[Finding]) -> Verdict:
    """Return what the findings of one execution tell."""
    if any(not expected.allows(finding.kind) for finding in findings):
        return against(expected)
    return Verdict.SHOWN if any(map(expected.is_shown_by, findings)) else Verdict.CONSISTENT


def against(expected: Expectation) -> Verdict:
    """Return what a finding tells that was not declared."""
    return Verdict.FOUND if expected.unclaimed else Verdict.CONTRADICTED


def judge_run(expected: Expectation, shown: Verdict | None, *, is_search: bool, was_cut_short: bool) -> Verdict:
    """Return what the executions of a run tell together.

    Args:
        shown: the verdict of the execution that matters.
        is_search: the run goes through executions in search of what is declared.
    """
    if shown is not None and shown.is_final:
        return shown
    has_missed = is_search and expected.kind is not None
    return Verdict.UNDECIDED if was_cut_short or has_missed else Verdict.CONSISTENT


def judge_exploration(
    expected: Expectation,
    kinds: Iterable[FindingKind],
    findings: Iterable[Finding],
    *,
    is_exhausted: bool,
    has_evaluated_all: bool,
) -> Verdict:
    """Return what the executions of an exploration tell together.

    Args:
        kinds: of all that was found.
        findings: what was found, as far as it was confirmed.
        has_evaluated_all: every claim was asked in every state that matters to it.
    """
    if any(not expected.allows(kind) for kind in kinds):
        return against(expected)
    if any(map(expected.is_shown_by, findings)):
        return Verdict.SHOWN
    may_be_broken = not has_evaluated_all and expected.kind in {None, FindingKind.ASSERTION}
    if not is_exhausted or may_be_broken:
        return Verdict.UNDECIDED
    return Verdict.CONTRADICTED if expected.kind else Verdict.PROVED
