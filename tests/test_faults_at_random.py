"""Whatever fails in repaired scenarios, the emulator stands, and what it finds is a known defect of the software."""

from collections import Counter

import pytest

from emu.checks.signatures import Signature, signature
from emu.engine.hosts import direct
from emu.engine.strategies.random import RandomStrategy
from emu.hypervisor.revisions.loader import BUNDLED
from emu.memory import FIRST_DATA_FRAME
from emu.scenarios.library import find

FAULTS = {"allocation_faults": "1", "hook_faults": "1", "wait_faults": "1", "queue_entries": "4"}

REPAIRED = """
remap_before_flush repaired=true dma=2
remap_before_flush outer_lock=across-flush order=1
unmap_twice_before_flush outer_lock=across-flush
map_same_frame_before_flush outer_lock=across-flush
map_into_flagged_region outer_lock=across-flush
map_into_flagged_region change=replace outer_lock=across-flush
replace_while_device_reads
map_dma_unmap_dma
two_wait_for_mapping_lock
flag_left_set repaired=true
flag_left_set later=remove repaired=true
softirq_in_flagged_loop repaired=true
softirq_in_flagged_loop release=true repaired=true
free_before_flush repaired=true
displace_while_moving form=2020-3
remove_moved_page form=2020-3
move_more_than_fit slots=1 form=2020-3
unmap_claims_nothing_was_there repaired=true
unmap_fails_halfway
timeout_on_one_unit repaired=true
domain_id_freed_too_early repaired=true
device_returned_with_writes_queued repaired=true
write_in_flight
flush_after_continuation repaired=true
table_freed_before_flush repaired=true
map_into_dying_domain repaired=true
""".strip().splitlines()

DEFECTS = {
    "lost-error map: map_page": "v1: the result of the flush replaces the error of the map (D2)",
    "lost-error unmap: unmap_page": "v1: the result of the flush replaces the error of the unmap (D1)",
    "released released": "v1: so the caller frees a frame that is still mapped (D1)",
    "not-rolled-back map": "a flush that fails, or a roll-back that does, leaves a page of a failed map (D19, D20)",
    "owed owed: never": "a batch that stops at an error does not flush what the failing page had changed (B08)",
    "owed owed: failed": "the flush of a batch times out, and its caller does not look (B55, C6)",
    "released table": "tables are freed after a flush that timed out (B37)",
}
"""What may be found, and which defect it is."""

ONLY_V1 = {"lost-error map: map_page", "lost-error unmap: unmap_page", "released released"}

NEVER_V1 = {"owed owed: never", "released table"}
"""Its unmap does not put the flush off."""


def name(found: Signature) -> str:
    if found.check == "released" and found.frame is not None and found.frame < FIRST_DATA_FRAME:
        return "released table"
    return f"{found.kind.value} {found.check}"


def shown(what: str, revision: str, seeds: int) -> Counter[str]:
    """Return what random executions of a scenario show, with every fault on."""
    scenario, *parameters = what.split()
    values = dict(pair.split("=") for pair in parameters)
    bound = find(scenario).bind({**values, **FAULTS, "revision": revision})
    found: Counter[str] = Counter()
    for seed in range(seeds):
        machine = bound.build(is_checking=True)
        execution = machine.execution(RandomStrategy.seeded(seed))
        direct.run(execution)
        found.update(name(signature(one, machine.trace)) for one in machine.conclude(execution))
    return found


def check(revision: str, seeds: int) -> Counter[str]:
    found: Counter[str] = Counter()
    for what in REPAIRED:
        one = shown(what, revision, seeds)
        assert set(one) <= known(revision), (what, revision)
        found += one
    return found


def known(revision: str) -> set[str]:
    return set(DEFECTS) - (NEVER_V1 if revision == "v1" else ONLY_V1)


@pytest.mark.parametrize("revision", BUNDLED)
def test_repaired_scenarios_with_faults_show_known_defects_only(revision: str) -> None:
    assert check(revision, 25)["not-rolled-back map"] > 0


@pytest.mark.long
@pytest.mark.parametrize("revision", BUNDLED)
def test_a_hundred_thousand_executions_show_each_of_the_known_defects_and_no_other(revision: str) -> None:
    assert set(check(revision, 1_000)) == known(revision)


def test_without_faults_repaired_scenarios_show_nothing() -> None:
    for what in REPAIRED:
        scenario, *parameters = what.split()
        if scenario == "unmap_fails_halfway":
            continue
        bound = find(scenario).bind(dict(pair.split("=") for pair in parameters))
        for seed in range(20):
            machine = bound.build()
            execution = machine.execution(RandomStrategy.seeded(seed))
            direct.run(execution)
            assert machine.conclude(execution) == []
