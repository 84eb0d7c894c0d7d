"""Signatures: what makes two findings one and the same."""

from functools import cache
from typing import Any

import attrs
import pytest

from emu.checks.details import Evidence, Use
from emu.checks.findings import Finding, FindingKind, Illegal, LostError, Stale, Stuck
from emu.checks.signatures import Signature, signature
from emu.engine import Deadlock, Trace, Waiter
from emu.engine.hosts import direct
from emu.engine.strategies.random import RandomStrategy
from emu.hypervisor.records import HookFailure
from emu.scenarios.library import find
from emu.units import Dfn

Found = list[tuple[Finding, Trace]]


@cache
def found(name: str, parameters: str = "", *, seeds: int = 60) -> Found:
    """Return the findings of many random schedules."""
    bound = find(name).bind(dict(pair.split("=") for pair in parameters.split()))
    findings: Found = []
    for seed in range(seeds):
        machine = bound.build()
        execution = machine.execution(RandomStrategy.seeded(seed))
        direct.run(execution)
        findings += [(finding, machine.trace) for finding in machine.conclude(execution)]
    return findings


def signatures(findings: Found) -> set[Signature]:
    return {signature(finding, trace) for finding, trace in findings}


def a_stale_one() -> tuple[Stale, Trace]:
    finding, trace = found("remap_before_flush", "dma=4")[0]
    assert isinstance(finding, Stale)
    return finding, trace


def test_a_finding_of_many_schedules_has_one_signature_whatever_the_steps_and_the_evidence() -> None:
    findings = found("remap_before_flush", "dma=4", seeds=200)
    assert len(signatures(findings)) == 1
    stale = [finding for finding, _ in findings if isinstance(finding, Stale)]
    assert len({(finding.step, finding.changed) for finding in stale}) > 5
    assert {finding.evidence for finding in stale} == set(Evidence)


def test_stale_translations_are_distinguished_by_promise_page_frame_unit_and_the_cpu_that_owed_the_flush() -> None:
    finding, trace = a_stale_one()
    assert finding.agent == "cpu1"
    assert signature(finding, trace) == (FindingKind.STALE, "mapped", 1, 0x1000, 0x180002, "vtd0", "cpu0")


@pytest.mark.parametrize(
    ("changes", "is_another"),
    [
        ({"promise": "unmapped"}, True),
        ({"promise": "owed"}, True),
        ({"domain": 2}, True),
        ({"dfn": Dfn(0x1001)}, True),
        ({"unit": "vtd1"}, True),
        ({"step": 1000, "changed": 999}, False),
        ({"use": Use("00:1f.0", 1001)}, False),
        ({"use": None}, False),
        ({"agent": "cpu7"}, False),
        ({"update": None}, False),
    ],
)
def test_what_changes_the_signature_of_a_stale_translation(changes: dict[str, Any], is_another: bool) -> None:
    finding, trace = a_stale_one()
    changed = attrs.evolve(finding, **changes)
    assert (signature(changed, trace) != signature(finding, trace)) is is_another


def test_two_cpus_that_owe_each_other_a_flush_are_two_causes() -> None:
    both = signatures(found("map_same_frame_before_flush"))
    assert {one.owed_by for one in both} == {"cpu0", "cpu1"}
    assert len({one._replace(owed_by=None) for one in both}) == 1


def test_a_path_to_a_fault_leads_to_no_frame() -> None:
    (one,) = signatures(found("remap_before_flush", "caching_mode=true"))
    assert (one.kind, one.frame) == (FindingKind.STALE_FAULT, None)


def test_debts_are_distinguished_by_the_cpu_that_changed_the_page() -> None:
    (one,) = signatures(found("flag_left_set", seeds=1))
    assert (one.kind, one.check, one.owed_by) == (FindingKind.OWED, "owed: never", "cpu0")


def test_a_lost_error_is_told_by_call_hook_and_page() -> None:
    (one,) = signatures(found("map_fails_halfway", seeds=1))
    assert one == (FindingKind.LOST_ERROR, "map: map_page", 1, 0x1002, None, None, "cpu0")


@pytest.mark.parametrize(
    ("changes", "is_another"),
    [
        ({"failure": HookFailure("unmap_page", Dfn(3), 1, -12, 5)}, True),
        ({"failure": HookFailure("map_page", Dfn(4), 1, -12, 5)}, True),
        ({"failure": HookFailure("map_page", Dfn(3), 1, -12, 7)}, False),
        ({"call": "unmap"}, True),
        ({"agent": "cpu1"}, True),
        ({"domain": 2}, True),
        ({"step": 10}, False),
    ],
)
def test_what_changes_the_signature_of_a_lost_error(changes: dict[str, Any], is_another: bool) -> None:
    lost = LostError("cpu0", "map", 9, 1, Dfn(0), 4, HookFailure("map_page", Dfn(3), 1, -12, 5))
    trace = Trace()
    assert (signature(attrs.evolve(lost, **changes), trace) != signature(lost, trace)) is is_another


def deadlock(step: int, *waiters: tuple[str, str]) -> Signature:
    waiting = tuple(Waiter(agent, what, step - 1, "cpu9", step - 2) for agent, what in waiters)
    return signature(Stuck(Deadlock(step, waiting)), Trace())


def test_deadlocks_are_distinguished_by_the_agents_that_wait_and_their_latches() -> None:
    one = deadlock(9, ("cpu0", "the lock a"), ("cpu1", "the lock b"))
    assert one.check == "cpu0 waits for the lock a; cpu1 waits for the lock b"
    assert one == deadlock(12, ("cpu0", "the lock a"), ("cpu1", "the lock b"))
    assert one != deadlock(9, ("cpu0", "the lock b"), ("cpu1", "the lock a"))
    assert one != deadlock(9, ("cpu0", "the lock a"))


def test_an_illegal_translation_is_told_by_device_page_and_unit() -> None:
    def illegal(device: str = "00:1f.0", step: int = 5, dfn: int = 1, leaf: int = 7) -> Signature:
        return signature(Illegal(device, step, "vtd0", Dfn(dfn), leaf), Trace())

    assert illegal() == illegal(step=8, leaf=9)
    assert len({illegal(), illegal(device="00:1f.1"), illegal(dfn=2)}) == 3
