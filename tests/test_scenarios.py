"""The declared verdicts of the scenarios: over every trace, and over a thousand random schedules."""

import json
from collections import Counter

import pytest

from emu.checks.findings import Finding, FindingKind, Stale
from emu.engine.hosts import direct
from emu.errors import ScenarioError
from emu.reports.findings import sentence
from emu.running.run import Run
from emu.running.verdict import Verdict
from emu.scenarios.expectation import CLEAN
from emu.scenarios.library import bundled_names, find
from tests.cells import CELLS
from tests.running.explored import bundled_with, explored
from tests.test_unchanged import CELLS as COMMITTED_CELLS
from tests.test_unchanged import counted

SEEDS = 250

COMMITTED = json.loads(COMMITTED_CELLS.read_text())


def run(name: str, parameters: str = "", executions: int = SEEDS) -> Run:
    done = Run(bundled_with(name, parameters), "random", 0, executions, sources=False)
    done.on("direct")
    return done


def findings(done: Run) -> list[Finding]:
    assert done.reported is not None
    return done.reported.findings


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
    assert done.reported is not None
    assert done.reported.machine.domains[domain].is_crashed == (domain != 0)


@pytest.mark.parametrize("domain", [0, 1])
def test_without_the_wrappers_flush_the_error_of_the_map_is_kept(domain: int) -> None:
    done = run("map_fails_halfway", f"domain={domain} dont_flush=true", 1)
    assert (done.verdict, done.with_findings) == (Verdict.CONSISTENT, 0)


def test_the_log_says_for_whom_and_how_long_two_cpus_waited() -> None:
    machine = bundled_with("two_wait_for_mapping_lock").build()
    direct.run(machine.execution(Run(bundled_with("two_wait_for_mapping_lock"), "round-robin", 0, 1).make_strategy(0)))
    events = list(machine.trace.events())
    contended = [event for event in events if event.name == "lock.contend"]
    waited = [event.fields for event in events if event.name == "lock.acquire" and "waited" in event.fields]
    assert len(contended) == len(waited) == 2
    assert all(keys["lock"] == "d1.mapping_lock" for keys in waited)
    assert all(keys["waited_for"] == "cpu0" and keys["waited"] > 0 for keys in waited)


SLOW = ("np_cache=true", "free_after_detach", "completion_wait_given_up", "remove_moved_page", "coherent=false")
"""Words of cells that take seconds."""


def is_left_out(what: str, revision: str) -> bool:
    """Whether a cell needs `-m long`: it is slow, or has as many traces as on merged, and the same findings."""
    here, merged = (COMMITTED.get(f"{what} revision={one}") for one in (revision, "merged"))
    if revision == "merged" or merged is None or here is None:
        return False
    is_like_merged = all(here[key] == merged[key] for key in ("traces", "signatures"))
    return is_like_merged or any(word in what.split() for word in SLOW)


@pytest.mark.parametrize(
    ("what", "revision"),
    [pytest.param(*cell, marks=[pytest.mark.long] if is_left_out(*cell) else []) for cell in CELLS],
)
def test_each_revision_has_the_verdict_of_the_table(what: str, revision: str) -> None:
    done = explored(bundled_with(*f"{what} revision={revision}".split(maxsplit=1)))
    assert done.is_exhausted
    assert counted(done) == COMMITTED[f"{what} revision={revision}"]
    assert done.verdict is (Verdict.SHOWN if done.bound.expectation.kind else Verdict.PROVED)


@pytest.mark.parametrize("what", dict.fromkeys(what for what, revision in CELLS if revision == "merged"))
def test_what_fails_halfway_and_flushes_changes_one_verdict_only(what: str) -> None:
    before, after = (bundled_with(*f"{what} revision={one}".split(maxsplit=1)) for one in ("merged", "flush_on_error"))
    assert (before.expectation == after.expectation) is ("failed_map" not in what and "order_bug" not in what)


BLAME = """
flag_left_set revision=merged                     | owed           | owed: never  | 0 | 0x1000 | 0x180002 | vtd0 | cpu0
flag_left_set revision=merged later=remove        | released       | released     | 0 | 0x1000 | 0x180002 | vtd0 | cpu0
displace_while_moving revision=merged             | released       | released     | 1 | 0x1001 | 0x180003 | vtd0 | cpu0
remove_moved_page revision=merged                 | released       | released     | 1 | 0x1000 | 0x180002 | vtd0 | cpu0
free_before_flush revision=merged                 | released       | released     | 1 | 0x1000 | 0x180002 | vtd0 | cpu0
failed_map_leaves_entries revision=merged         | released       | released     | 1 | 0x1000 | 0x180002 | vtd0 | cpu0
failed_map_leaves_entries revision=merged         | owed           | owed: never  | 1 | 0x1000 | 0x180004 | vtd0 | cpu0
softirq_in_flagged_loop revision=merged       | owed      | owed: wrong-domain    | 1 | 0x1000 | 0x180002 | vtd0 | cpu0
softirq_in_flagged_loop release=true              | released       | released     | 1 | 0x1000 | 0x180002 | vtd0 | cpu0
table_freed_before_flush revision=merged          | released       | released     | 1 | 0x1000 | 0x101003 | vtd0 | cpu0
flush_after_continuation revision=merged          | owed       | owed: continued  | 1 | 0x1000 | 0x180002 | vtd0 | cpu0
unmap_fails_halfway revision=v1                   | released       | released     | 1 | 0x1001 | 0x180003 | vtd0 | cpu0
unmap_fails_halfway revision=v1        | lost-error | unmap: unmap_page            | 1 | 0x1001 | None | None | cpu0
map_fails_halfway revision=v1          | lost-error | map: map_page                | 1 | 0x1002 | None | None | cpu0
timeout_on_one_unit revision=merged    | lost-error | unmap: iotlb_flush on vtd0   | 1 | 0x1000 | None | None | cpu0
timeout_on_one_unit revision=merged               | stale          | unmapped     | 1 | 0x1000 | 0x180003 | vtd0 | cpu0
timeout_on_one_unit revision=merged               | stale          | unmapped     | 1 | 0x1000 | 0x180003 | vtd1 | cpu0
unmap_claims_nothing_was_there revision=merged    | stale          | unmapped     | 1 | 0x1000 | 0x180002 | vtd0 | cpu0
domain_id_freed_too_early revision=merged         | stale          | unmapped     | 2 | 0x1000 | 0x180002 | vtd0 | cpu1
map_into_dying_domain revision=merged         | freed-table | freed by cpu0       | 1 | 0x1001 | 0x101003 | None | cpu1
write_in_flight drain=false                 | late-access | unmap of cpu0       | 1 | 0x1000 | 0x180002 | vtd0 | 00:1f.0
device_returned_with_writes_queued | foreign-access | programmed by domain 1    | 0 | 0x1000 | 0x180002 | vtd0 | 00:1f.0
move_more_than_fit slots=1     | overrun | the array of 1 reference           | None | None | None | None | cpu0
unmap_twice_before_flush order=1 hole=true revision=merged | stale | unmapped     | 1 | 0x1001 | 0x180002 | vtd0 | cpu0
unmap_twice_before_flush order=1 hole=true revision=merged | stale | unmapped     | 1 | 0x1001 | 0x180002 | vtd0 | cpu1
domain_id_freed_too_early units=2 revision=merged | stale          | unmapped     | 2 | 0x1000 | 0x180003 | vtd1 | cpu1
flush_misses_last_page revision=merged        | owed       | owed: wrong-range     | 1 | 0x1001 | 0x180003 | vtd0 | cpu0
flush_misses_last_page release=true revision=merged | released | released         | 1 | 0x1001 | 0x180003 | vtd0 | cpu0
roll_back_fails_halfway revision=merged       | not-rolled-back | map              | 0 | 0x1001 | None | None | cpu0
roll_back_fails_halfway revision=v1    | lost-error | map: map_page                | 0 | 0x1002 | None | None | cpu0
hook_errs_on_last_page                        | wrong-result   | map               | 1 | 0x1001 | None | None | cpu0
hook_errs_on_last_page error=overshoot        | beyond-range   | map               | 1 | 0x1002 | None | None | cpu0
hook_errs_on_last_page error=clear-first refuse_gaps=true | gap | map              | 1 | 0x1001 | None | None | cpu0
map_into_dying_domain order=1 revision=merged | freed-table | freed by cpu0       | 1 | 0x1003 | 0x101003 | None | cpu1
write_in_flight order=1 drain=false         | late-access | unmap of cpu0       | 1 | 0x1001 | 0x180003 | vtd0 | 00:1f.0
device_returned_with_writes_queued devices=2 | foreign-access | programmed by domain 1 | 0 |0x1000|0x180002|vtd0|00:1f.1
grant_mapped_twice                            | not-isolated | isolated: withdraw  | 2 | 0x1001 | 0x180002 | vtd0 | cpu0
grant_mapped_twice release=true               | released     | released            | 2 | 0x1001 | 0x180002 | vtd0 | cpu0
grant_mapped_twice units=2                    | not-isolated | isolated: withdraw  | 2 | 0x1001 | 0x180003 | vtd1 | cpu0
grant_mapped_twice release=true units=2       | released     | released            | 2 | 0x1001 | 0x180003 | vtd1 | cpu0
failed_map_leaves_entries freed=new revision=merged | released   | released        | 1 | 0x1000 | 0x180004 | vtd0 | cpu0
failed_map_leaves_entries freed=new revision=merged | owed       | owed: never     | 1 | 0x1000 | 0x180002 | vtd0 | cpu0
free_new_frames_after_error revision=v1             | lost-error | map: map_page   | 1 | 0x1001 | None     | None | cpu0
unmap_again_page_by_page revision=v1                | lost-error | unmap: unmap_page | 1 | 0x1000 | None   | None | cpu0
unmap_again_page_by_page revision=v1                | lost-error | unmap: unmap_page | 1 | 0x1001 | None   | None | cpu0
unmap_again_page_by_page revision=v1                | released   | released        | 1 | 0x1000 | 0x180002 | vtd0 | cpu0
unmap_again_page_by_page revision=v1                | released   | released        | 1 | 0x1001 | 0x180003 | vtd0 | cpu0
timeout_of_flush revision=merged               | not-rolled-back | map             | 1 | 0x1000 | None     | None | cpu0
unmap_from_dying_domain revision=merged            | freed-table | freed by cpu0   | 1 | 0x1000 | 0x101003 | None | cpu1
free_after_detach revision=merged                   | released   | released        | 1 | 0x0    | 0x101000 | vtd0 | cpu0
free_after_detach revision=merged                   | released   | released        | 1 | 0x1000 | 0x101001 | vtd0 | cpu0
free_after_detach revision=merged                   | released   | released        | 1 | 0x1000 | 0x101002 | vtd0 | cpu0
free_after_detach revision=merged                   | released   | released        | 1 | 0x1000 | 0x101003 | vtd0 | cpu0
free_after_detach revision=merged                   | released   | released        | 1 | 0x1000 | 0x180002 | vtd0 | cpu0
freed_id_matches_domain_0 beside=freed revision=merged | stale | unmapped          | 0 | 0x1000 | 0x180002 | vtd0 | cpu1
first_map_under_new_table allocation_faults=1          | lost-error | map: map_page | 1 | 0x1000 | None   | None | cpu0
remap_before_flush iommu=amd order=1 revision=v1      | stale      | mapped        | 1 | 0x1000 | 0x180002 | amd0 | cpu0
remap_before_flush iommu=amd order=1 revision=v1      | stale      | mapped        | 1 | 0x1001 | 0x180003 | amd0 | cpu0
unmap_looks_in_wrong_half revision=merged             | stale      | unmapped      | 1 | 0x1000 | 0x80000  | amd0 | cpu0
entry_replaced_in_halves revision=merged              | torn-entry | torn          | 1 | 0x1000 | 0x380001 | amd0 | cpu0
entry_replaced_in_halves pages=2 revision=merged      | torn-entry | torn          | 1 | 0x1001 | 0x380001 | amd0 | cpu0
completion_wait_given_up revision=merged              | stale      | unmapped      | 1 | 0x1000 | 0x180002 | amd0 | cpu0
completion_wait_given_up revision=merged              | stale      | unmapped      | 1 | 0x1001 | 0x180003 | amd0 | cpu1
completion_wait_given_up revision=merged              | released   | released      | 1 | 0x1000 | 0x180002 | amd0 | cpu0
completion_wait_given_up early=next revision=merged   | stale      | unmapped      | 1 | 0x1000 | 0x180002 | amd0 | cpu0
completion_wait_given_up early=next revision=merged   | stale      | unmapped      | 1 | 0x1001 | 0x180003 | amd0 | cpu1
completion_wait_given_up early=next revision=merged   | released   | released      | 1 | 0x1001 | 0x180003 | amd0 | cpu1
"""
"""All that each defect shows: kind, check, domain, dfn, frame, unit, and who owes it."""

BLAMED: dict[str, set[tuple[str, ...]]] = {}
for row in BLAME.strip().splitlines():
    title, *facts = (cell.strip() for cell in row.split("|"))
    BLAMED.setdefault(title, set()).add(tuple(facts))


@pytest.mark.parametrize("what", BLAMED)
def test_each_defect_is_found_with_its_page_its_frame_its_unit_and_who_is_to_blame(what: str) -> None:
    done = explored(bundled_with(*what.split(maxsplit=1)))
    found = {
        (
            one.kind.value,
            one.check,
            str(one.domain),
            *("None" if number is None else f"{number:#x}" for number in (one.dfn, one.frame)),
            str(one.unit),
            str(one.owed_by),
        )
        for one in done.causes
    }
    assert found == BLAMED[what]


PUT_OFF = {
    "flag_left_set later=remove revision=merged": ("unmap", "returned without one at step"),
    "displace_while_moving revision=merged": ("unmap", "the flush came late: cpu0 submitted it"),
    "remove_moved_page revision=merged": ("unmap", "the flush came late: cpu0 submitted it"),
    "failed_map_leaves_entries revision=merged": ("map", "returned without one at step"),
    "softirq_in_flagged_loop release=true": ("map", "had tag 1, and at vtd0 domain 1 has tag 2; no other followed"),
    "flush_misses_last_page release=true": ("map", "covered dfn 0x1000 only; no other followed"),
}
"""Frames that were released before a flush that was put off: by which call, and what became of it."""


@pytest.mark.parametrize("what", PUT_OFF)
def test_a_release_before_a_flush_that_was_put_off_names_who_owed_it_and_what_became_of_it(what: str) -> None:
    done = explored(bundled_with(*what.split(maxsplit=1)))
    (cause,) = (cause for one, cause in done.causes.items() if one.kind is FindingKind.RELEASED)
    assert cause.run is not None
    assert cause.run.reported is not None
    assert cause.finding is not None
    call, became = PUT_OFF[what]
    said = sentence(cause.finding, cause.run.reported.machine.trace)
    assert f"cpu0's {call} had put the flush off" in said
    assert became in said


@pytest.mark.parametrize("revision", ["implicit", "v1", "merged"])
@pytest.mark.parametrize(("order", "seeds"), [(2, SEEDS), (9, 5)])
def test_frames_that_are_kept_until_a_replacing_map_returns_are_never_stale(
    order: int, seeds: int, revision: str
) -> None:
    assert run("replace_while_device_reads", f"order={order} revision={revision}", seeds).with_findings == 0


def test_a_range_of_one_page_has_no_hole() -> None:
    with pytest.raises(ScenarioError, match="no hole before its last page"):
        bundled_with("unmap_twice_before_flush", "hole=true").build()


RARE = {"device_returned_with_writes_queued", "unit_used_during_flush", "context_bank_reused"}
"""Scenarios of which a thousand schedules do not show what they declare.

Somebody must rest for a whole flush; or, with a bank that is reused, a schedule with the other finding ends the search.
"""


@pytest.mark.parametrize("name", bundled_names())
def test_every_scenario_has_a_story(name: str) -> None:
    assert find(name).story.endswith(".")


@pytest.mark.ci_long
@pytest.mark.parametrize("name", [name for name in bundled_names() if name not in RARE])
def test_a_scenario_declares_what_its_first_thousand_schedules_show(name: str) -> None:
    if find(name).bind({}).expectation.unclaimed:
        return
    done = run(name, executions=1_000)
    wanted = Verdict.SHOWN if done.bound.expectation.kind else Verdict.CONSISTENT
    assert done.verdict is wanted, Counter(finding.kind for finding in findings(done))
