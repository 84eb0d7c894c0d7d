"""Causes: the count of their executions, and the schedules that are kept."""

import attrs

from emu.checks.findings import FindingKind, Stale
from emu.checks.signatures import Signature
from emu.engine import Trace
from emu.running.causes import CANDIDATES_MAX, Cause
from emu.units import Dfn
from tests.running.explored import bundled_with, explored

A_STALE_ONE = Signature(FindingKind.STALE, "mapped", 1, Dfn(0x10), None, "vtd0", "cpu0")


def test_one_execution_counts_once_for_a_cause_that_it_shows_twice() -> None:
    done = explored(bundled_with("unmap_twice_before_flush", "order=1 revision=implicit levels=3"))
    assert done.causes
    assert all(cause.executions <= done.done for cause in done.causes.values())
    assert all(1 <= cause.first <= done.done for cause in done.causes.values())


def test_an_execution_counts_for_every_cause_that_it_shows() -> None:
    done = explored(bundled_with("two_wait_for_mapping_lock", "caching_mode=true"), executions=4)
    assert [(cause.executions, cause.first) for cause in done.causes.values()] == [(4, 1)] * 3


def stale(*, is_used: bool) -> Stale:
    (cause,) = explored(bundled_with("remap_before_flush", "dma=1"), executions=40).causes.values()
    assert isinstance(cause.finding, Stale)
    return cause.finding if is_used else attrs.evolve(cause.finding, use=None)


def test_a_cause_keeps_some_candidates_until_a_device_has_used_the_translation() -> None:
    possible, observed = stale(is_used=False), stale(is_used=True)
    cause = Cause(A_STALE_ONE, 1)
    for number in range(1, CANDIDATES_MAX + 3):
        cause.add(number, possible, Trace())
    assert list(cause.candidates) == list(range(1, CANDIDATES_MAX + 1))
    cause.add(50, observed, Trace())
    cause.add(51, observed, Trace())
    cause.add(52, possible, Trace())
    assert (list(cause.candidates), cause.is_observed) == ([50], True)
    assert cause.executions == CANDIDATES_MAX + 5


def test_a_cause_that_was_not_yet_confirmed_has_no_finding() -> None:
    assert Cause(A_STALE_ONE, 1).finding is None
