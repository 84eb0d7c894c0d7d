"""Verdicts on a claim: of one execution, of a run, and of an exploration."""

from collections.abc import Iterable, Sequence
from enum import Enum

from emu.checks.findings import Finding, FindingKind
from emu.scenarios.expectation import Expectation


class Verdict(Enum):
    """What executions tell of the claim about their scenario."""

    SHOWN = "shown"  # there is the claimed finding
    PROVED = "proved"  # every trace was executed, and there is no finding
    CONSISTENT = "not contradicted"  # no finding contradicts the claim
    CONTRADICTED = "contradicted"  # there is another finding, or no trace has the claimed one
    FOUND = "found"  # nothing is claimed, and there is a finding
    UNDECIDED = "undecided"  # the executions ended before there was a verdict

    @property
    def is_final(self) -> bool:
        """Whether one execution with this verdict decides the verdict of a run."""
        return self in {Verdict.SHOWN, Verdict.CONTRADICTED, Verdict.FOUND}


def judge_execution(expected: Expectation, findings: Sequence[Finding]) -> Verdict:
    """Return the verdict on the findings of one execution."""
    if any(not expected.allows(finding.kind) for finding in findings):
        return against(expected)
    return Verdict.SHOWN if any(map(expected.is_shown_by, findings)) else Verdict.CONSISTENT


def against(expected: Expectation) -> Verdict:
    """Return the verdict on a finding that the claim does not allow."""
    return Verdict.FOUND if expected.unclaimed else Verdict.CONTRADICTED


def judge_run(expected: Expectation, shown: Verdict | None, *, is_search: bool, was_cut_short: bool) -> Verdict:
    """Return the verdict on the executions of a run together.

    Args:
        shown: the verdict on the reported execution.
        is_search: the run searches several executions for the claimed finding.
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
    """Return the verdict on the executions of an exploration together.

    Args:
        kinds: the kinds of all findings.
        findings: the findings that were confirmed.
        has_evaluated_all: every claim was evaluated in every state that may break it.
    """
    if any(not expected.allows(kind) for kind in kinds):
        return against(expected)
    if any(map(expected.is_shown_by, findings)):
        return Verdict.SHOWN
    may_be_broken = not has_evaluated_all and expected.kind in {None, FindingKind.ASSERTION}
    if not is_exhausted or may_be_broken:
        return Verdict.UNDECIDED
    return Verdict.CONTRADICTED if expected.kind else Verdict.PROVED
