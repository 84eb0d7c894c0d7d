"""An exploration misses nothing: compared with every class of interleavings, and with random schedules."""

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import attrs
import pytest

from emu.checks.signatures import Signature, signature
from emu.engine import Access, Agent, Choose
from emu.engine.hosts import direct
from emu.engine.strategies import Strategy
from emu.engine.strategies.random import RandomStrategy
from emu.hypervisor.vtd.driver import VtdDriver
from emu.iommus.vtd.formats import WaitDescriptor
from emu.platforms import AMD, SMMU, VTD
from emu.running.exploration import ScenarioExploration
from emu.running.plan import Plan
from emu.scenarios.library import bundled_names, find
from emu.scenarios.scenario import BoundScenario
from emu.units import Maddr
from tests.classes import Classes, Way, conflict, told
from tests.programs import PROGRAMS


def bound_to(name: str, parameters: str, **others: str) -> BoundScenario:
    """Return a small program, or a scenario that comes with emu, with parameters as a user writes them."""
    written = dict(pair.split("=") for pair in parameters.split())
    return (PROGRAMS.get(name) or find(name)).bind({**others, **written})


def explored(bound: BoundScenario, *, sections: bool, strategy: str = "optimal") -> ScenarioExploration:
    done = ScenarioExploration(bound, bound.scenario.name, Plan(strategy, sections=sections))
    for execution in done.each():
        direct.run(execution)
    assert done.is_exhausted
    assert done.coverage.blocked == 0
    return done


@attrs.define
class Priorities:
    """Runs whoever has the highest of random priorities, which change now and then: so somebody may lag far behind."""

    random: random.Random
    of: dict[int, float] = attrs.field(factory=dict)

    @classmethod
    def seeded(cls, seed: int) -> "Priorities":
        return cls(random.Random(seed))

    def pick(self, enabled: Sequence[Agent]) -> Agent:
        for agent in enabled:
            self.of.setdefault(agent.number, self.random.random())
        first = max(enabled, key=lambda agent: self.of[agent.number])
        if self.random.random() < 1 / 8:
            self.of[first.number] = self.random.random()
        return first

    def choose(self, choice: Choose) -> int:
        return self.random.randrange(choice.count)


STRATEGIES: tuple[Callable[[int], Strategy], ...] = (RandomStrategy.seeded, Priorities.seeded)


def seeded(bound: BoundScenario, seeds: int) -> set[Signature]:
    """Return the signatures that random schedules show, half of them with random priorities."""
    shown: set[Signature] = set()
    for seed in range(seeds):
        machine = bound.build()
        execution = machine.execution(STRATEGIES[seed % 2](seed))
        direct.run(execution)
        shown |= {signature(finding, machine.trace) for finding in machine.conclude(execution)}
    return shown


LARGE = ("remove_moved_page", "domain_id_freed_too_early")
"""Scenarios whose enumeration takes many seconds: only with `-m long`, as are all on other revisions than merged."""

ON_VTD, ON_AMD, ON_SMMU = (
    [name for name in bundled_names() if one in find(name).platforms()] for one in (VTD, AMD, SMMU)
)

SMALL_FORMS = [
    pytest.param(name, revision, marks=[pytest.mark.long] if name in LARGE or revision != "merged" else [])
    for name in ON_VTD
    for revision in ("implicit", "v1", "merged")
] + [pytest.param("failed_map_leaves_entries", "flush_on_error")]

SLOW_ON_AMD = (
    "command_buffer_full",
    "completion_wait_given_up",
    "device_returned_with_writes_queued",
    "remove_moved_page",
)
"""Scenarios that have many classes on AMD-Vi: only with `-m long`."""

WEAK = {"coherent": "false", "write_buffer": "true"}
WITH_ENGINE = {"synchronous": "false"}

SLOW_IF_WEAK = (
    "device_returned_with_writes_queued",
    "domain_id_freed_too_early",
    "freed_id_matches_domain_0",
    "map_into_flagged_region",
    "map_same_frame_before_flush",
    "remap_before_flush",
    "remove_moved_page",
    "two_wait_for_mapping_lock",
)
"""Scenarios that have many classes where stores become visible late: only with `-m long`."""

SLOW_IF_LOOSE = (
    "device_returned_with_writes_queued",
    "displace_while_moving",
    "domain_id_freed_too_early",
    "freed_id_matches_domain_0",
    "map_into_flagged_region",
    "move_more_than_fit",
    "remap_before_flush",
    "timeout_on_one_unit",
    "two_wait_for_mapping_lock",
)
"""Scenarios that have many classes where the unit is an agent whose waits do not fence: only with `-m long`."""

TOO_LARGE_IF_LOOSE = "remove_moved_page"
"""It has 106,230 traces, more than can be enumerated; with the waits of one CPU only it has 14,589 and 4,935."""


def small_forms_of(slow: Sequence[str], names: Sequence[str] = ON_VTD) -> list[Any]:
    """Return the scenarios that a vendor can run; those that are slow are for `-m long`."""
    return [pytest.param(name, marks=[pytest.mark.long] if name in slow else []) for name in names]


REPAIRED = """
flag_left_set repaired=true
flag_left_set later=remove repaired=true
softirq_in_flagged_loop release=true
softirq_in_flagged_loop release=true repaired=true
free_before_flush repaired=true
displace_while_moving form=2020-3
remove_moved_page form=2020-2
move_more_than_fit form=2020-3
unmap_claims_nothing_was_there repaired=true
timeout_on_one_unit repaired=true
domain_id_freed_too_early repaired=true
device_returned_with_writes_queued repaired=true
write_in_flight drain=false
flush_after_continuation repaired=true
table_freed_before_flush repaired=true
map_into_dying_domain repaired=true
map_into_dying_domain order=1
map_into_dying_domain order=1 repaired=true
unmap_twice_before_flush order=1 hole=true
device_returned_with_writes_queued devices=2
device_returned_with_writes_queued devices=2 repaired=true
write_in_flight order=1
write_in_flight order=1 drain=false
map_dma_unmap_dma order=1 extend=true
flush_misses_last_page repaired=true
flush_misses_last_page release=true
flush_misses_last_page release=true repaired=true
hook_errs_on_last_page repaired=true
hook_errs_on_last_page error=overshoot
hook_errs_on_last_page error=clear-first refuse_gaps=true
grant_mapped_twice repaired=true
grant_mapped_twice units=2
grant_mapped_twice release=true
grant_mapped_twice release=true repaired=true
free_all_but_one_page kept=0
free_all_but_one_page change=replace
free_all_but_one_page change=replace kept=0
failed_map_leaves_entries freed=new
free_new_frames_after_error extend=true
batch_flushes_whole_domain coherent=false
timeout_of_flush flusher=flush-all
timeout_of_flush flusher=flush
unmap_from_dying_domain repaired=true
free_after_detach repaired=false
free_after_detach repaired=true coherent=false
freed_id_matches_domain_0 beside=freed
free_page_after_page coherent=false
first_map_under_new_table allocation_faults=1
""".strip().splitlines()
"""The other variants of scenarios that have two; `drain` is on by default."""

SLOW_VARIANTS = (
    "device_returned_with_writes_queued devices=2",
    "device_returned_with_writes_queued devices=2 repaired=true",
    "domain_id_freed_too_early repaired=true",
    "freed_id_matches_domain_0 beside=freed",
    "remove_moved_page form=2020-2",
)
"""Variants whose enumeration takes many seconds: only with `-m long`."""


def compare(bound: BoundScenario) -> None:
    """Explore a program step by step and in short sections, and hold that against every class of interleavings."""
    classes = Classes.of(bound)
    stepwise, short = explored(bound, sections=False), explored(bound, sections=True)
    assert stepwise.done == classes.traces
    assert set(stepwise.causes) == set(short.causes) == classes.signatures


def compare_with_every_class(name: str, parameters: dict[str, str]) -> None:
    """Compare the exploration of a scenario that comes with emu."""
    compare(find(name).bind(parameters))


@pytest.mark.parametrize(("name", "revision"), SMALL_FORMS)
def test_every_class_of_interleavings_is_explored_once_and_has_one_verdict(name: str, revision: str) -> None:
    compare_with_every_class(name, {**VTD.small, **find(name).small, "revision": revision})


@pytest.mark.ci_long
@pytest.mark.parametrize("name", small_forms_of(SLOW_ON_AMD, ON_AMD))
def test_so_it_is_on_amd(name: str) -> None:
    compare_with_every_class(name, {"iommu": "amd", **AMD.small, **find(name).small, "revision": "merged"})


@pytest.mark.long
@pytest.mark.parametrize(("name", "revision"), SMALL_FORMS)
def test_so_it_is_on_machines_that_are_not_small(name: str, revision: str) -> None:
    compare_with_every_class(name, {**find(name).small, "revision": revision})


@pytest.mark.ci_long
@pytest.mark.parametrize("name", small_forms_of(SLOW_IF_WEAK))
def test_so_it_is_where_walks_do_not_snoop_and_a_write_buffer_stands_before_memory(name: str) -> None:
    compare_with_every_class(name, {**VTD.small, **find(name).small, **WEAK, "revision": "merged"})


@pytest.mark.long
@pytest.mark.parametrize("name", small_forms_of(SLOW_IF_LOOSE, [name for name in ON_VTD if name != TOO_LARGE_IF_LOOSE]))
def test_so_it_is_where_the_waits_of_the_driver_do_not_fence(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emu.hypervisor.vtd.queue.WaitDescriptor", partial(WaitDescriptor, fence=False))
    compare_with_every_class(name, {**VTD.small, **find(name).small, **WITH_ENGINE, "revision": "merged"})


@pytest.mark.long
@pytest.mark.parametrize("number", [0, 1])
def test_so_it_is_where_the_waits_of_one_cpu_do_not_fence(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = {**VTD.small, **find(TOO_LARGE_IF_LOOSE).small, **WITH_ENGINE, "revision": "merged"}
    machine = find(TOO_LARGE_IF_LOOSE).bind(parameters).build()
    loose = cast(VtdDriver, machine.driver).poll_slot(machine.cpus[number])

    def wait(address: Maddr, data: int) -> WaitDescriptor:
        return WaitDescriptor(address, data, fence=address != loose)

    monkeypatch.setattr("emu.hypervisor.vtd.queue.WaitDescriptor", wait)
    compare_with_every_class(TOO_LARGE_IF_LOOSE, parameters)


@pytest.mark.long
def test_nor_do_random_schedules_show_more_where_all_waits_of_the_largest_do_not_fence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("emu.hypervisor.vtd.queue.WaitDescriptor", partial(WaitDescriptor, fence=False))
    bound = find(TOO_LARGE_IF_LOOSE).bind({**VTD.small, **WITH_ENGINE, "revision": "merged"})
    assert seeded(bound, 20_000) <= set(explored(bound, sections=False).causes)


@pytest.mark.ci_long
@pytest.mark.parametrize(
    "what", [pytest.param(what, marks=[pytest.mark.long] if what in SLOW_VARIANTS else []) for what in REPAIRED]
)
def test_the_other_variants_too(what: str) -> None:
    name, *parameters = what.split()
    values = dict(pair.split("=") for pair in parameters)
    compare_with_every_class(name, {**VTD.small, **find(name).small, **values, "revision": "merged"})


@pytest.mark.long
@pytest.mark.parametrize("what", REPAIRED)
def test_so_are_the_other_variants_on_machines_that_are_not_small(what: str) -> None:
    name, *parameters = what.split()
    values = dict(pair.split("=") for pair in parameters)
    compare_with_every_class(name, {**find(name).small, **values, "revision": "merged"})


@pytest.mark.ci_long
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("flush_that_times_out_beside_a_deferred_unmap", "synchronous=true"),
        ("flush_that_times_out_beside_a_deferred_unmap", "synchronous=true coherent=false"),
        ("flush_of_a_domain_beside_a_first_map", "synchronous=true caching_mode=true"),
        ("fault_beside_a_reassignment", "synchronous=true"),
        ("fault_beside_a_table_that_is_taken_out", "synchronous=true"),
        ("walk_beside_a_cleared_context_and_a_flush_of_a_far_page", "synchronous=true"),
        ("access_beside_two_unmaps", "synchronous=true drain=false walk_at_once=true"),
        ("allocations_beside_a_release", "synchronous=true walk_at_once=true"),
        ("access_beside_a_map_and_a_detach", "synchronous=true drain=false walk_at_once=true"),
        ("fault_beside_an_invalidation_of_leaves", "synchronous=true"),
        ("release_after_the_second_of_two_waits_that_do_not_fence", "walk_at_once=true"),
        ("release_after_the_second_of_two_waits_that_do_not_fence", "walk_at_once=true drain=false"),
        ("waits_of_two_cpus_that_do_not_fence", "walk_at_once=true"),
        ("detach_with_a_wait_that_does_not_fence", "walk_at_once=true"),
        ("status_word_into_a_frame_that_is_given_away", ""),
        ("status_word_into_a_frame_that_is_given_away", "synchronous=true"),
    ],
)
def test_nothing_is_missed_where_much_depends_on_what_a_step_declares(name: str, parameters: str) -> None:
    bound = bound_to(name, parameters, levels="3", revision="merged")
    classes = Classes.of(bound)
    done = explored(bound, sections=False)
    assert done.done == classes.traces
    assert set(done.causes) == classes.signatures >= seeded(bound, 500)


@attrs.define
class Following:
    """Follows a schedule, or takes one down."""

    ways: list[Way] = attrs.field(factory=list)
    touched: list[tuple[Access, ...]] = attrs.field(factory=list)
    inner: Strategy | None = None
    step: int = 0

    def pick(self, enabled: Sequence[Agent]) -> Agent | None:
        if self.inner is None:
            number, self.step = self.ways[self.step][0], self.step + 1
            return next(agent for agent in enabled if agent.number == number)
        agent = self.inner.pick(enabled)
        assert agent is not None
        assert agent.pending is not None
        self.ways.append((agent.number, 0))
        self.touched.append(tuple(agent.pending.accesses()))
        return agent

    def choose(self, choice: Choose) -> int:
        if self.inner is None:
            return self.ways[self.step - 1][1]
        self.ways[-1] = (self.ways[-1][0], self.inner.choose(choice))
        return self.ways[-1][1]


def outcome(bound: BoundScenario, strategy: Following) -> tuple[dict[int, int], set[Signature]]:
    """Return what a schedule has told each agent, and what it shows."""
    machine = bound.build()
    execution = machine.execution(strategy)
    direct.run(execution)
    seen: dict[int, int] = {}
    for agent, operation in machine.trace.performed():
        seen[agent.number] = hash((seen.get(agent.number), *told(operation.describe())))
    return seen, {signature(finding, machine.trace) for finding in machine.conclude(execution)}


def swapped(strategy: Following, chance: random.Random) -> list[Way]:
    """Return a schedule in which neighbours were swapped many times that do not depend on one another."""
    steps = list(zip(strategy.ways, strategy.touched, strict=True))
    for _ in range(chance.choice((1, 3, 12, 40, 200))):
        at = chance.randrange(len(steps) - 1)
        (one, mine), (other, theirs) = steps[at : at + 2]
        if one[0] != other[0] and not conflict(mine, theirs):
            steps[at : at + 2] = steps[at + 1], steps[at]
    return [way for way, _ in steps]


def swap_independent_steps(bound: BoundScenario, *, seeds: int, times: int) -> None:
    """Draw schedules, and hold each against what swapping independent steps makes of it, a number of times."""
    for seed in range(seeds):
        drawn = Following(inner=STRATEGIES[seed % 2](seed))
        before, chance = outcome(bound, drawn), random.Random(seed)
        for _ in range(times):
            assert outcome(bound, Following(swapped(drawn, chance))) == before


SWAPPED = [
    *((name, "levels=3 revision=merged synchronous=true walk_at_once=true drain=false") for name in PROGRAMS),
    *((name, "levels=3 revision=merged coherent=false") for name in PROGRAMS),
    *((name, "levels=3 drain=false wait_faults=1 caching_mode=true") for name in ON_VTD),
    *((name, "iommu=amd levels=2 wait_faults=1 np_cache=true") for name in ON_AMD),
    *((name, "iommu=smmu ipa_bits=32 wait_faults=1 drain=false") for name in ON_SMMU),
]


@pytest.mark.parametrize(("name", "parameters"), SWAPPED)
def test_the_order_of_independent_steps_changes_nothing_that_anyone_is_told_or_finds(
    name: str, parameters: str
) -> None:
    swap_independent_steps(bound_to(name, parameters), seeds=16, times=5)


def test_nor_is_a_finding_that_only_an_engine_far_behind_leads_to() -> None:
    bound = PROGRAMS["flush_that_times_out_beside_a_deferred_unmap"].bind({"levels": "3", "revision": "merged"})
    assert set(explored(bound, sections=False).causes) >= seeded(bound, 1500)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("remap_before_flush", ""),
        ("remap_before_flush", "levels=3 outer_lock=across-flush"),
        ("unmap_twice_before_flush", "levels=3 revision=merged"),
        pytest.param("unmap_twice_before_flush", "levels=3 coherent=false", marks=pytest.mark.long),
        ("replace_while_device_reads", "levels=3 order=1 dma=2"),
        ("map_into_flagged_region", "levels=3"),
    ],
)
def test_with_an_engine_of_its_own_too(name: str, parameters: str) -> None:
    compare(bound_to(name, parameters))


@pytest.mark.parametrize(
    ("name", "parameters", "traces", "with_findings"),
    [
        ("remap_before_flush", "", 16, 2),
        ("remap_before_flush", "levels=3", 16, 2),
        ("remap_before_flush", "synchronous=true", 15, 1),
        ("remap_before_flush", "dma=1", 193, 17),
        ("remap_before_flush", "outer_lock=across-flush", 2, 0),
        ("remap_before_flush", "repaired=true", 1, 0),
        ("two_wait_for_mapping_lock", "", 6, 0),
        ("map_dma_unmap_dma", "", 1, 0),
        ("map_fails_halfway", "", 1, 1),
        ("unmap_twice_before_flush", "levels=3 coherent=false", 40, 2),
    ],
)
def test_the_reference_races_have_so_many_traces(name: str, parameters: str, traces: int, with_findings: int) -> None:
    bound = bound_to(name, parameters)
    done = explored(bound, sections=False)
    assert (done.done, sum(cause.executions for cause in done.causes.values())) == (traces, with_findings)


@pytest.mark.parametrize("name", bundled_names())
def test_random_schedules_show_nothing_that_an_exploration_misses(name: str) -> None:
    scenario = find(name)
    bound = scenario.bind({key: value for key, value in scenario.small.items() if key not in VTD.small})
    assert seeded(bound, 200) <= set(explored(bound, sections=True).causes)


@pytest.mark.long
@pytest.mark.parametrize("name", bundled_names())
def test_twenty_thousand_random_schedules_show_nothing_that_an_exploration_misses(name: str) -> None:
    bound = find(name).bind({})
    assert seeded(bound, 20_000) <= set(explored(bound, sections=True).causes)


@pytest.mark.parametrize("name", ["remap_before_flush", "unmap_twice_before_flush"])
@pytest.mark.parametrize("revision", ["implicit", "v1", "merged"])
@pytest.mark.parametrize("order", [0, 1])
def test_sections_in_one_step_show_what_sections_step_by_step_show(name: str, revision: str, order: int) -> None:
    bound = find(name).bind({"revision": revision, "order": str(order)})
    assert set(explored(bound, sections=True).causes) == set(explored(bound, sections=False).causes)
