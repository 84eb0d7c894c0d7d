"""Shrinking: the shortest schedule that shows a cause, and what the cause needs."""

from collections.abc import Sequence
from math import inf

import attrs
import pytest

from emu.checks.signatures import Signature, signature
from emu.cli.options import SHRINK_SECONDS
from emu.engine import Agent, Execution, Exploration, Schedule, Strategy
from emu.engine.hosts import direct
from emu.engine.strategies.depth_first import DepthFirst
from emu.engine.strategies.random import RandomStrategy
from emu.machine.machine import Machine
from emu.running.causes import Cause
from emu.running.run import Run
from emu.running.shorten import shorten
from emu.running.shrink import SECONDS, Budget, Shortened, Shrinker
from emu.running.verdict import Verdict
from emu.running.witness import is_used
from emu.scenarios.library import find
from emu.scenarios.scenario import BoundScenario
from tests.running.explored import explored

SMALL = {"levels": "3", "walk_at_once": "true"}
ENTRY = "the entry of dfn 0x1000"
SYNCHRONOUS = {**SMALL, "synchronous": "true"}


def bound_to(name: str, **parameters: str) -> BoundScenario:
    scenario = find(name)
    return scenario.bind({**scenario.small, **parameters})


def known_of(cause: Cause) -> Shortened:
    assert cause.run is not None
    assert cause.run.shortened is not None
    return cause.run.shortened


def found_by(bound: BoundScenario, seed: int) -> tuple[Schedule, list[tuple[Signature, bool]]]:
    """Return a random schedule, and what it shows: each signature, and whether a device has used what is stale."""
    machine = bound.build(sources=True)
    execution = machine.execution(RandomStrategy.seeded(seed))
    direct.run(execution)
    signed = [(signature(one, machine.trace), is_used(one)) for one in machine.conclude(execution)]
    return Schedule.of(machine.trace), list(dict.fromkeys(signed))


def shows(bound: BoundScenario, schedule: Schedule, host: str = "direct") -> dict[Signature, bool]:
    """Return what a schedule shows that is followed to the letter."""
    run = Run(bound, "random", 0, 1, replay=schedule)
    run.on(host)
    assert run.failure is None
    assert run.reported is not None
    return {one: is_used(finding) for one, finding in run.reported.signed()}


@attrs.define
class Bounded(DepthFirst):
    """Every interleaving with at most so many preemptions, counted from what the scheduler sees."""

    limit: int = 0
    used: int = 0
    going: Agent | None = None

    def pick(self, enabled: Sequence[Agent]) -> Agent:
        if self.depth == 0:
            self.used, self.going = 0, None
        going = self.going if self.going in enabled else None
        is_full = going is not None and self.used == self.limit
        agent = super().pick([one for one in enabled if one is going or one.is_daemon] if is_full else enabled)
        if not agent.is_daemon:
            self.used += going not in {None, agent}
            self.going = agent
        return agent


def causes_within(bound: BoundScenario, limit: int) -> set[tuple[Signature, bool]]:
    """Return what all interleavings with at most so many preemptions show, and whether a device has used it."""
    shown: set[tuple[Signature, bool]] = set()
    machines: list[Machine] = []

    def program(strategy: Strategy) -> Execution:
        machines[:] = [bound.build()]
        return machines[0].execution(strategy)

    for execution in Exploration(program, lambda: Bounded(limit=limit)).each():
        direct.run(execution)
        shown |= {(signature(one, machines[0].trace), is_used(one)) for one in machines[0].conclude(execution)}
    return shown


@pytest.mark.parametrize(
    ("name", "parameters", "fewest"),
    [
        ("remap_before_flush", {**SYNCHRONOUS, "revision": "merged"}, [1]),
        ("remap_before_flush", {**SYNCHRONOUS, "revision": "implicit", "order": "1"}, [1, 1]),
        ("remove_moved_page", {**SYNCHRONOUS, "revision": "merged"}, [1]),
        ("domain_id_freed_too_early", SYNCHRONOUS, [2]),
        ("entry_replaced_in_halves", {"synchronous": "true"}, [1]),
        ("free_before_flush", {**SYNCHRONOUS, "revision": "merged"}, [0]),
    ],
)
def test_no_interleaving_with_fewer_preemptions_shows_what_is_minimal(
    name: str, parameters: dict[str, str], fewest: list[int]
) -> None:
    bound = bound_to(name, **parameters)
    done = explored(bound, shrink=inf)
    assert done.is_exhausted
    assert [known_of(cause).preemptions for cause in done.causes.values()] == fewest
    for wanted, cause in done.causes.items():
        known = known_of(cause)
        assert known.is_minimal
        assert wanted in shows(bound, cause.candidates[cause.shown])
        shown = causes_within(bound, known.preemptions - 1) if known.preemptions else set()
        assert (wanted, cause.is_observed) not in shown


FOUND_AT_RANDOM = [
    ("remap_before_flush", {"dma": "2"}),
    ("unmap_twice_before_flush", {"revision": "merged"}),
    ("entry_replaced_in_halves", {}),
    ("map_fails_halfway", {}),
    ("flag_left_set", {}),
    ("map_into_dying_domain", {}),
    ("access_while_reassigned", {"iommu": "amd"}),
    ("grant_mapped_twice", {"iommu": "amd"}),
]


@pytest.mark.parametrize(("name", "parameters"), FOUND_AT_RANDOM)
def test_what_is_found_at_random_shrinks_to_one_number_of_preemptions_from_every_seed(
    name: str, parameters: dict[str, str]
) -> None:
    bound = bound_to(name, **parameters)
    fewest: dict[tuple[Signature, bool], set[int]] = {}
    for seed in range(40):
        found, shown = found_by(bound, seed)
        for wanted, used in shown:
            shrunk = Shrinker(bound, wanted, used, budget=Budget(inf)).shrink(found)
            assert shrunk is not None
            assert shrunk.preemptions <= shrunk.found_with
            for host in ("direct", "trio"):
                assert shows(bound, shrunk.schedule, host)[wanted] >= used
            fewest.setdefault((wanted, used), set()).add(shrunk.preemptions)
    assert fewest
    assert all(len(numbers) == 1 for numbers in fewest.values())


def test_a_run_reports_the_shortest_execution_that_shows_what_it_has_found() -> None:
    bound = find("remap_before_flush").bind({"dma": "8"})
    run = Run(bound, "random", 23, 1)
    run.on("trio")
    assert run.reported is not None
    before = run.reported.machine.trace
    shorten(run, inf)
    known = run.shortened
    assert known is not None
    assert (known.found_with, known.preemptions, known.is_minimal) == (22, 0, True)
    assert run.reported.machine.trace is not before
    assert run.verdict is Verdict.SHOWN


@pytest.mark.parametrize(
    ("name", "parameters", "fewest"),
    [
        ("grant_locks_in_either_order", {}, 1),
        ("entry_replaced_in_halves", {}, 0),
        ("domain_id_freed_too_early", SYNCHRONOUS, 2),
    ],
)
def test_what_a_run_shows_is_proved_to_need_its_preemptions_where_all_traces_can_be_executed(
    name: str, parameters: dict[str, str], fewest: int
) -> None:
    bound = bound_to(name, **parameters)
    run = Run(bound, "random", next(seed for seed in range(1000) if found_by(bound, seed)[1]), 1)
    run.on("direct")
    shorten(run, inf)
    assert run.shortened is not None
    assert run.shortened.found_with is not None
    assert run.shortened.found_with > fewest
    assert (run.shortened.preemptions, run.shortened.is_minimal) == (fewest, True)


def test_a_run_without_findings_stays_as_it_is() -> None:
    run = Run(find("remap_before_flush").bind({"repaired": "true"}), "random", 0, 1)
    run.on("trio")
    before = run.reported
    shorten(run, inf)
    assert run.shortened is None
    assert run.reported is before


def test_an_exploration_that_was_not_exhausted_does_not_say_minimal() -> None:
    bound = bound_to("remove_moved_page", **SYNCHRONOUS, revision="merged")
    (whole,) = explored(bound, shrink=inf).causes.values()
    (part,) = explored(bound, shrink=inf, executions=whole.first).causes.values()
    assert known_of(whole).is_minimal
    assert not known_of(part).is_minimal


def test_shrinking_ends_at_its_budget_and_names_what_has_ended_it() -> None:
    bound = find("remap_before_flush").bind({"dma": "8"})
    found, ((wanted, used), *_) = found_by(bound, 23)
    for budget, limit in (
        (Budget(inf, replays=1), "2000 replays"),
        (Budget(seconds=0), "0 s"),
        (Budget(is_stopping=lambda: True), "Ctrl-C"),
    ):
        shrunk = Shrinker(bound, wanted, used, budget=budget).shrink(found)
        assert shrunk is not None
        assert shrunk.cut_by == limit
        assert not shrunk.is_minimal or not shrunk.preemptions


def test_a_schedule_that_does_not_show_the_cause_is_not_shrunk() -> None:
    bound = find("remap_before_flush").bind({})
    found, ((wanted, _), *_) = next(one for one in (found_by(bound, seed) for seed in range(100)) if one[1])
    assert Shrinker(bound, wanted._replace(unit="vtd9")).shrink(found) is None


@pytest.mark.parametrize(
    ("name", "parameters", "needed"),
    [
        (
            "remap_before_flush",
            {},
            [
                f"cpu0 clears {ENTRY} before cpu1 reads it",
                "cpu1's map of dfn 0x1000 returns before cpu0's flush of it completes",
            ],
        ),
        (
            "entry_replaced_in_halves",
            {},
            [
                f"cpu0 writes the high half of {ENTRY} before 00:1f.0 reads it in a walk",
                f"00:1f.0 reads {ENTRY} in a walk before cpu0 writes the low half of it",
                "00:1f.0 reads mfn 0x380001 before cpu0's map of dfn 0x1000 returns",
            ],
        ),
        (
            "domain_id_freed_too_early",
            SYNCHRONOUS,
            [
                "cpu0 takes vtd0.lock before cpu1 takes it",
                "cpu1 sets vtd0.domid_map[1] to 2 before cpu0 sets it to 0",
                "cpu0 sets vtd0.domid_map[1] to 0 before cpu1 reads it",
            ],
        ),
        ("free_before_flush", {"revision": "merged"}, []),
    ],
)
def test_a_finding_names_the_orders_without_which_it_does_not_show(
    name: str, parameters: dict[str, str], needed: list[str]
) -> None:
    (cause,) = explored(bound_to(name, **parameters), shrink=inf).causes.values()
    assert [one.text for one in known_of(cause).needs] == needed


def test_the_command_line_gives_shrinking_as_long_as_the_library_does() -> None:
    assert SHRINK_SECONDS == SECONDS
