"""Programs whose number of traces is known: the search executes each trace once, and gives up no execution."""

import attrs
import pytest

from emu.bench import details
from emu.bench.benchmark import Program, make_agents
from emu.bench.checks import CHECKS, measure_checks
from emu.bench.details import DETAILS, measure_details
from emu.bench.library import benchmarks, find_programs
from emu.bench.programs import Counts, ProgramMeasure, count, exploration_of, measure, mistakes, repeat
from emu.bench.steps import STEPS, measure_steps
from emu.bench.timing import REPETITIONS_MAX, REPETITIONS_MIN, best_times
from emu.engine import Agent, TicketLock, Variable
from emu.engine.hosts import direct
from emu.errors import ScenarioError
from tests.engine.brute_force import Form, form_of, performed_by, traces_of

FLUSHES = ("flush_page", "flush_all", "flush_page_locked", "flush_all_locked")


def program(name: str) -> Program:
    (found,) = find_programs([name], with_long=False)
    return found


def long(name: str) -> object:
    return pytest.param(name, marks=pytest.mark.long)


@pytest.mark.parametrize(
    "name",
    [
        *("readers-8", long("readers-13")),
        *("writers-7", long("writers-8")),
        "n_writers_a_reader-6",
        *("lastzero-5", "lastzero-10", long("lastzero-12")),
        *("incrw-4", long("incrw-5")),
        *("fib_bench-4", long("fib_bench-5")),
        *("sb-5", long("sb-6")),
        *("reorder-3", long("reorder-4")),
        *("indexer-12", "indexer-13", "indexer-14", long("indexer-15")),
        *("filesystem-14", "filesystem-16", "filesystem-18", "filesystem-19", long("filesystem-22")),
        *("philosophers-6", "philosophers_reversed-7"),
        *("twostage-2", "twostage-3"),
        *(f"{flush}.{detail}-1" for flush in FLUSHES for detail in ("one", "table", "word", "commute")),
        *(f"{flush}.{detail}-2" for flush in FLUSHES for detail in ("table", "word", "commute")),
        *(f"{flush}.{detail}-3" for flush in FLUSHES for detail in ("word", "commute")),
        *(long(f"{flush}.table-3") for flush in FLUSHES),
        *("flush_page.one-2", "flush_all.one-2", long("flush_page_locked.one-2"), long("flush_all_locked.one-2")),
    ],
)
def test_every_trace_is_executed_once_and_none_is_given_up(name: str) -> None:
    known = program(name)
    counts = count(known)
    assert (counts.traces, counts.executions, counts.blocked) == (known.traces, known.traces, 0)
    assert counts.deadlocks == known.deadlocks


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("flush", FLUSHES)
def test_where_kinds_depend_on_state_no_trace_is_missed_and_none_takes_more_than_two_executions(
    flush: str, size: int
) -> None:
    known = program(f"{flush}.present-{size}")
    forms: list[Form] = []
    exploration = exploration_of(known)
    for execution in exploration.each():
        direct.run(execution)
        if not exploration.search.is_blocked:
            forms.append(form_of(len(execution.agents), performed_by(execution)))
    brute = traces_of(known.make, classes_max=10_000)
    assert brute is not None
    assert set(forms) == brute.all
    assert len(brute.all) == known.traces <= exploration.executions <= 2 * known.traces
    assert mistakes(known, count(known)) == []


@pytest.mark.parametrize("name", ["twostage-2", "philosophers-4", "flush_all.word-2", "lastzero-4", "sb-2"])
def test_what_is_known_is_what_brute_force_counts(name: str) -> None:
    known = program(name)
    brute = traces_of(known.make, classes_max=10_000)
    assert brute is not None
    assert (len(brute.all), len(brute.deadlocked)) == (known.traces, known.deadlocks)


def racing_writers() -> list[Agent]:
    x = Variable("x", 0)

    async def write() -> None:
        await x.write(1)

    return make_agents(write, write, write)


RIGHT = Counts(executions=6, blocked=0, deadlocks=0, traces=6, steps=18, schedules=())


@pytest.mark.parametrize(
    ("counts", "complaint"),
    [
        (attrs.evolve(RIGHT, traces=5), "5 distinct traces, and there are 6"),
        (attrs.evolve(RIGHT, executions=7), "7 executions, and 6 are enough"),
        (attrs.evolve(RIGHT, blocked=1), "1 executions were given up, and none has to be"),
        (attrs.evolve(RIGHT, deadlocks=1), "1 executions end in a deadlock, and 0 of the traces do"),
    ],
)
def test_each_wrong_count_is_reported(counts: Counts, complaint: str) -> None:
    known = Program("racing", racing_writers, traces=6)
    assert mistakes(known, RIGHT) == []
    assert mistakes(known, counts) == [complaint]
    assert ProgramMeasure(known, counts, 1.0, 1.0).mistakes() == [f"racing: {complaint}"]


def test_a_program_with_more_traces_than_are_known_is_reported() -> None:
    assert measure(Program("racing", racing_writers, traces=6)).mistakes() == []
    assert measure(Program("racing", racing_writers, traces=5)).mistakes() == [
        "racing: 6 distinct traces, and there are 5",
        "racing: 6 executions, and 5 are enough",
    ]


def test_the_plain_loop_repeats_the_schedules_that_the_search_took() -> None:
    ends: list[list[int]] = []

    def racing() -> list[Agent]:
        x, log = Variable("x", 0), list[int]()
        ends.append(log)

        async def increment(number: int) -> None:
            await x.write(await x.read() + 1)
            log.append(number * 10 + x.value)

        return make_agents(lambda: increment(1), lambda: increment(2))

    known = Program("racing", racing, traces=4)
    counts = count(known)
    searched, ends[:] = list(ends), []
    repeat(known, counts.schedules)
    assert len(ends) == 4
    assert ends == searched


def test_the_plain_loop_ends_agents_that_wait_for_ever() -> None:
    tidied = []

    def stuck() -> list[Agent]:
        a, b = TicketLock("a"), TicketLock("b")

        async def take(who: str, first: TicketLock, second: TicketLock) -> None:
            try:
                async with first.held_by(who), second.held_by(who):
                    pass
            finally:
                tidied.append(who)

        return make_agents(lambda: take("agent0", a, b), lambda: take("agent1", b, a))

    known = Program("stuck", stuck, traces=3, deadlocks=1)
    counts = count(known)
    assert mistakes(known, counts) == []
    tidied.clear()
    repeat(known, counts.schedules)
    assert sorted(tidied) == ["agent0"] * 3 + ["agent1"] * 3


def test_times_are_taken_in_turns_and_more_than_once() -> None:
    calls: list[str] = []
    times = best_times(lambda: calls.append("one"), lambda: calls.append("two"))
    assert len(times) == 2
    assert calls == ["one", "two"] * (len(calls) // 2)
    assert REPETITIONS_MIN <= len(calls) // 2 <= REPETITIONS_MAX


def test_steps_are_measured_on_both_hosts() -> None:
    measured = list(measure_steps())
    assert [one.name for one in measured] == ["random step, direct host", "controlled step, Trio host"]
    assert all(one.steps == STEPS and one.ratio > 0 for one in measured)


def test_each_detail_of_the_reference_race_has_its_number_of_traces() -> None:
    counted = {detail.name: detail for detail in measure_details(DETAILS[:4])}
    assert [(one.traces, one.is_exhausted) for one in counted.values()] == [
        (15, True),
        (15, True),
        (15, True),
        (16, True),
    ]


def test_a_detail_with_too_many_traces_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(details, "EXECUTIONS_MAX", 40)
    (given_up,) = measure_details([one for one in DETAILS if one.name == "one object for everything"])
    assert (given_up.traces, given_up.is_exhausted) == (40, False)


def test_every_benchmark_knows_the_traces_of_the_sizes_that_it_offers() -> None:
    for one in benchmarks().values():
        assert one.sizes or one.long
        assert one.story
        assert all(listed.traces > 0 for listed in one.programs(with_long=True))


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("sbb", r"there is no benchmark 'sbb' \(did you mean 'sb'\?\); `emu bench --list` shows them"),
        ("sb-", "there is no benchmark 'sb-'"),
        ("sb-many", "there is no benchmark 'sb-many'"),
        ("-6", "there is no benchmark '-6'"),
        ("sb-0", "sb-0 is too small: sizes start at 1"),
        ("twostage-4", "nobody has counted the traces of twostage-4: its sizes are 1 to 3"),
    ],
)
def test_a_name_that_is_no_benchmark_is_refused(name: str, complaint: str) -> None:
    with pytest.raises(ScenarioError, match=complaint):
        find_programs([name], with_long=False)


def test_a_name_stands_for_the_sizes_worth_a_look_and_with_all_for_the_long_ones_too() -> None:
    assert [one.name for one in find_programs(["writers"], with_long=False)] == ["writers-5", "writers-7"]
    assert [one.name for one in find_programs(["writers"], with_long=True)] == ["writers-5", "writers-7", "writers-8"]
    assert [one.name for one in find_programs(["flush_page.one"], with_long=False)] == ["flush_page.one-2"]


def test_the_time_of_checks_is_a_part_of_that_of_the_exploration() -> None:
    before = [getattr(owner, name) for owner, names in CHECKS for name in names]
    measured = measure_checks()
    assert 0 < measured.seconds < measured.bare_seconds
    assert measured.steps > 10_000
    assert [getattr(owner, name) for owner, names in CHECKS for name in names] == before
