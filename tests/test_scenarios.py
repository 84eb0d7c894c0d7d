"""The declared verdicts of the scenarios, each over a thousand random schedules."""

from collections import Counter

import pytest

from emu.checks.findings import Finding, Stale
from emu.engine.hosts import direct
from emu.library import bundled, find
from emu.runs import Run, Verdict
from emu.scenario import CLEAN, BoundScenario

SEEDS = 1000


def bound(name: str, parameters: str) -> BoundScenario:
    return find(name).bind(dict(pair.split("=") for pair in parameters.split()))


def run(name: str, parameters: str = "", executions: int = SEEDS) -> Run:
    done = Run(bound(name, parameters), "random", 0, executions, sources=False)
    done.on("direct")
    return done


def findings(done: Run) -> list[Finding]:
    assert done.matters is not None
    return done.matters.findings


@pytest.mark.parametrize("parameters", ["", "levels=3", "revision=v1 outer_lock=none order=0"])
def test_a_page_remapped_before_its_flush_may_be_stale(parameters: str) -> None:
    done = run("remap_before_flush", parameters)
    assert done.verdict is Verdict.SHOWN
    (finding,) = findings(done)
    assert isinstance(finding, Stale)
    assert (finding.promise, finding.domain, finding.dfn, finding.unit) == ("mapped", 1, 0x1000, "vtd0")
    assert finding.use is None


def test_a_device_is_seen_to_use_the_stale_translation() -> None:
    done = run("remap_before_flush", "dma=8")
    assert done.verdict is Verdict.SHOWN
    (finding,) = findings(done)
    assert isinstance(finding, Stale)
    assert finding.use is not None
    assert finding.use.device == "00:1f.0"
    assert finding.use.step > finding.step


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("remap_before_flush", "outer_lock=across-flush"),
        ("remap_before_flush", "outer_lock=per-call"),
        ("remap_before_flush", "outer_lock=across-flush dma=3"),
        ("remap_before_flush", "repaired=true"),
        ("remap_before_flush", "repaired=true dma=3"),
        ("remap_before_flush", "order=1"),
        ("remap_before_flush", "order=2"),
        ("map_dma_unmap_dma", ""),
        ("map_dma_unmap_dma", "order=1"),
        ("two_wait_for_mapping_lock", ""),
    ],
)
def test_no_schedule_of_a_correct_program_gives_a_finding(name: str, parameters: str) -> None:
    done = run(name, parameters)
    assert done.bound.expectation == CLEAN
    assert (done.verdict, done.done, done.with_findings) == (Verdict.CONSISTENT, SEEDS, 0)


@pytest.mark.parametrize("domain", [0, 1])
def test_a_map_that_fails_halfway_is_reported_as_success(domain: int) -> None:
    done = run("map_fails_halfway", f"domain={domain}", 1)
    assert done.verdict is Verdict.SHOWN
    assert done.matters is not None
    assert done.matters.machine.domains[domain].is_crashed == (domain != 0)


@pytest.mark.parametrize("domain", [0, 1])
def test_without_the_wrappers_flush_the_error_of_the_map_is_kept(domain: int) -> None:
    done = run("map_fails_halfway", f"domain={domain} dont_flush=true", 1)
    assert (done.verdict, done.with_findings) == (Verdict.CONSISTENT, 0)


def test_the_log_says_for_whom_and_how_long_two_cpus_waited() -> None:
    machine = bound("two_wait_for_mapping_lock", "").build()
    direct.run(machine.execution(Run(bound("two_wait_for_mapping_lock", ""), "round-robin", 0, 1).make_strategy(0)))
    events = list(machine.trace.events())
    contended = [event for event in events if event.name == "lock.contend"]
    waited = [event.fields for event in events if event.name == "lock.acquire" and "waited" in event.fields]
    assert len(contended) == len(waited) == 2
    assert all(keys["lock"] == "d1.mapping_lock" for keys in waited)
    assert all(keys["waited_for"] == "cpu0" and keys["waited"] > 0 for keys in waited)


def test_every_scenario_has_a_story_and_declares_what_its_first_thousand_schedules_show() -> None:
    for scenario in bundled().values():
        assert scenario.story.endswith(".")
        done = run(scenario.name)
        wanted = Verdict.SHOWN if done.bound.expectation.kind else Verdict.CONSISTENT
        assert done.verdict is wanted, Counter(finding.kind for finding in findings(done))
