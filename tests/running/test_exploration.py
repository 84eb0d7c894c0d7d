"""Explorations: their executions, their limits, and their verdicts."""

import itertools
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from emu.cpus import Cpu
from emu.devices.device import Device
from emu.engine import Access, Event, Kind, Trace, watchdog
from emu.engine.strategies.optimal import Optimal
from emu.errors import ModelError, ScenarioError
from emu.machine.machine import Machine
from emu.memory import WORDS, word_number
from emu.running.exploration import ScenarioExploration
from emu.running.verdict import Verdict
from emu.scenarios.expectation import CLEAN, DEADLOCK, STALE, STALE_FAULT, STALE_OBSERVED, Expectation
from emu.units import Dfn
from tests.running.explored import Body, bundled_with, explored, of, store_and_load, two_owners

G = Dfn(0x10)


def spins_unless_stored(m: Machine) -> None:
    """Never ends where the load comes first and goes on."""

    @m.cpu(0)
    async def storer(cpu: Cpu) -> None:
        await cpu.store64(0, 1)

    @m.cpu(1)
    async def loader(cpu: Cpu) -> None:
        while not await cpu.load64(0):
            pass


def test_an_exploration_is_exhausted_when_every_trace_was_executed() -> None:
    done = explored(of(store_and_load))
    assert (done.is_exhausted, done.done, done.coverage.steps, done.coverage.blocked) == (True, 2, 4, 0)
    assert (done.coverage.share, done.limit, done.failure) == (1.0, None, None)


@pytest.mark.parametrize(("strategy", "executions"), [("optimal", 2), ("depth-first", 2), ("random", 7)])
def test_every_strategy_executes_the_same_on_both_hosts(strategy: str, executions: int) -> None:
    options = {"strategy": strategy, "executions": 7}
    one, other = (explored(of(store_and_load), host, **options) for host in ("direct", "trio"))
    assert one.done == other.done == executions
    assert one.coverage == other.coverage


def test_random_executions_have_the_seeds_that_follow() -> None:
    later = explored(of(two_owners, STALE), strategy="random", executions=4, seed=3)
    all_of_them = explored(of(two_owners, STALE), strategy="random", executions=7)
    firsts = [cause.first for cause in all_of_them.causes.values()]
    assert [cause.first + 3 for cause in later.causes.values()] == firsts == [4]


def test_a_section_that_was_not_as_declared_begins_the_exploration_anew() -> None:
    bound = bundled_with("remap_before_flush", "coherent=false")
    done, stepwise = explored(bound), explored(bound, sections=False)
    assert done.started == stepwise.started + 1
    assert done.coverage.short_locks == stepwise.coverage.short_locks == []
    assert (done.done, done.coverage.steps) == (stepwise.done, stepwise.coverage.steps)
    counts, stepwise_counts = ([one.executions for one in each.causes.values()] for each in (done, stepwise))
    assert counts == stepwise_counts


def test_findings_before_a_section_that_was_not_as_declared_are_forgotten() -> None:
    def stores_more_when_first(m: Machine) -> None:
        lock, never = m.domain(1).p2m_lock, m.signal("what never comes")
        word = (Access.to(WORDS, word_number(0), Kind.WRITE),)

        @m.cpu(0)
        async def storer(cpu: Cpu) -> None:
            async with lock.held(cpu, word):
                await cpu.store64(0, 1)

        @m.cpu(1)
        async def loader(cpu: Cpu) -> None:
            async with lock.held(cpu, word):
                is_second = await cpu.load64(0)
                if not is_second:
                    await cpu.store64(8, 1)
            if is_second:
                await never.wait()

    bound = of(stores_more_when_first, DEADLOCK)
    done, stepwise = explored(bound), explored(bound, sections=False)
    assert done.started == stepwise.started + 2
    assert (done.done, done.coverage.steps) == (stepwise.done, stepwise.coverage.steps)
    (cause,), (cause_stepwise,) = done.causes.values(), stepwise.causes.values()
    assert (cause.executions, cause.first) == (cause_stepwise.executions, cause_stepwise.first)


def test_the_locks_of_short_sections_are_named() -> None:
    bound = bundled_with("remap_before_flush")
    assert explored(bound).coverage.short_locks == ["d1.mapping_lock"]
    assert explored(bound, sections=False).coverage.short_locks == []
    assert explored(bound, strategy="depth-first", executions=3).coverage.short_locks == []


def test_progress_is_told_after_each_execution() -> None:
    done = ScenarioExploration(bundled_with("remap_before_flush"), "remap_before_flush")
    shares: list[tuple[int, float]] = []
    done.on_progress = lambda: shares.append((done.done, done.coverage.share))
    done.on("direct")
    assert [number for number, _ in shares] == list(range(1, 17))
    assert all(0 <= share < 1 for _, share in shares)


def test_progress_changes_with_every_step_and_every_execution() -> None:
    done = ScenarioExploration(of(store_and_load), __file__)
    seen = []
    for execution in done.each():
        for agent in execution.agents:
            execution.start(agent)
            seen.append(done.progress())
        while (chosen := execution.pick()) is not None:
            execution.step(chosen)
            seen.append(done.progress())
    assert len(set(seen)) == 4 * 3


def test_there_are_no_more_executions_than_wanted() -> None:
    done = explored(bundled_with("remap_before_flush"), executions=5)
    assert (done.done, done.is_exhausted, done.limit) == (5, False, "--executions 5")


def test_a_limit_of_time_lets_the_first_execution_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emu.running.exploration.time", SimpleNamespace(monotonic=itertools.count(step=100).__next__))
    done = explored(bundled_with("remap_before_flush"), seconds=0.5)
    assert (done.done, done.is_exhausted, done.limit) == (1, False, "--time 0.5")


def test_an_exploration_that_is_stopped_keeps_its_findings() -> None:
    done = ScenarioExploration(bundled_with("remap_before_flush"), "remap_before_flush")

    def stop() -> None:
        done.is_stopping = done.done == 3

    done.on_progress = stop
    done.on("direct")
    assert (done.done, done.is_exhausted, done.limit is None) == (3, False, False)
    assert done.verdict is Verdict.SHOWN


@pytest.mark.parametrize("host", ["direct", "trio"])
def test_an_execution_that_is_too_long_ends_the_exploration(host: str) -> None:
    done = explored(of(spins_unless_stored, parameters="steps=30"), host)
    assert not done.is_exhausted
    assert done.limit is not None
    assert "30 steps without ending" in done.limit
    assert done.verdict is Verdict.UNDECIDED


@pytest.mark.parametrize(
    ("body", "expected", "executions", "verdict"),
    [
        (store_and_load, CLEAN, None, Verdict.PROVED),
        (store_and_load, CLEAN, 1, Verdict.UNDECIDED),
        (store_and_load, STALE, None, Verdict.CONTRADICTED),
        (store_and_load, STALE, 1, Verdict.UNDECIDED),
        (two_owners, STALE, None, Verdict.SHOWN),
        (two_owners, STALE, 3, Verdict.SHOWN),
        (two_owners, STALE, 1, Verdict.UNDECIDED),
        (two_owners, STALE_OBSERVED, None, Verdict.SHOWN),
        (two_owners, CLEAN, None, Verdict.CONTRADICTED),
        (two_owners, CLEAN, 3, Verdict.CONTRADICTED),
        (two_owners, STALE_FAULT, 3, Verdict.CONTRADICTED),
        (two_owners, DEADLOCK, None, Verdict.CONTRADICTED),
    ],
)
def test_an_exploration_has_a_verdict_on_the_declared_finding(
    body: Body, expected: Expectation, executions: int | None, verdict: Verdict
) -> None:
    assert explored(of(body, expected), executions=executions).verdict is verdict


def raises_unless_stored(m: Machine) -> None:
    """A mistake that one of two traces makes."""

    @m.cpu(0)
    async def storer(cpu: Cpu) -> None:
        await cpu.store64(0, 1)

    @m.cpu(1)
    async def loader(cpu: Cpu) -> None:
        if not await cpu.load64(0):
            raise KeyError("nothing is stored")


@pytest.mark.parametrize("host", ["direct", "trio"])
def test_a_mistake_ends_the_exploration_and_its_schedule_leads_there(host: str) -> None:
    done = explored(of(raises_unless_stored), host)
    assert isinstance(done.failure, ModelError)
    assert "cpu1, at tests/running/test_exploration.py:" in str(done.failure)
    assert "raised KeyError: 'nothing is stored'" in str(done.failure)
    saved = done.failing_schedule()
    assert saved is not None
    assert saved.schedule().agents[-1] == "cpu1"


def test_a_mistake_that_its_schedule_does_not_repeat_has_no_schedule() -> None:
    executions = itertools.count(1)

    def forgetful(m: Machine) -> None:
        number = next(executions)

        @m.cpu(0)
        async def storer(cpu: Cpu) -> None:
            await cpu.store64(0, 1)
            if number == 3:
                raise KeyError

        @m.cpu(1)
        async def loader(cpu: Cpu) -> None:
            await cpu.load64(0)

    done = explored(of(forgetful))
    assert done.failure is not None
    assert done.failing_schedule() is None


def test_an_exploration_without_a_mistake_has_no_schedule_that_leads_to_one() -> None:
    assert explored(of(store_and_load)).failing_schedule() is None


@pytest.mark.parametrize(
    ("then", "now", "complaint"),
    [
        ([1], [2], "did memory.store .* value=1, and when the same schedule was repeated memory.store .* value=2: "),
        pytest.param(
            [],
            [1],
            "did .*, and when the same schedule was repeated memory.store .* value=1: ",
        ),
        pytest.param(
            [1],
            [],
            "did memory.store .* value=1, and when the same schedule was repeated .*: ",
        ),
    ],
    ids=["other", "more", "less"],
)
def test_the_first_execution_is_repeated_and_must_do_the_same(then: list[int], now: list[int], complaint: str) -> None:
    values = itertools.chain([then], itertools.repeat(now))

    def keeps_state(m: Machine) -> None:
        stored = next(values)

        @m.cpu(0)
        async def storer(cpu: Cpu) -> None:
            for value in stored:
                await cpu.store64(0, value)

        @m.cpu(1)
        async def loader(cpu: Cpu) -> None:
            await cpu.load64(8)

    done = explored(of(keeps_state), seed=1)
    assert done.done == 0
    with pytest.raises(ModelError, match=f"cpu[01], at step [12], {complaint}something is kept between executions"):
        raise done.failure or AssertionError


def test_a_set_up_that_fails_is_raised() -> None:
    def alone(m: Machine) -> None:
        m.domain(-1)

    with pytest.raises(ScenarioError, match="there is no domain -1"):
        explored(of(alone))


def test_a_device_and_a_cpu_run_concurrently_and_one_cpu_alone_does_not() -> None:
    def reads_alone(m: Machine) -> None:
        m.premap(m.domain(1, devices=("00:1f.0",)), G, m.allocate())

        @m.device("00:1f.0")
        async def reader(device: Device) -> None:
            await device.read(G)

    with pytest.raises(ScenarioError, match="nothing runs concurrently"):
        explored(of(reads_alone))
    assert explored(bundled_with("replace_while_device_reads", "order=0 dma=1")).is_exhausted


def test_the_watchdog_does_not_end_a_search_that_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[None] = []
    progress, advance = ScenarioExploration.progress, Optimal.advance

    def counted(self: ScenarioExploration) -> object:
        looks.append(None)
        return progress(self)

    def slow(self: Optimal) -> bool:
        until = len(looks) + 3
        while len(looks) < until:
            pass
        return advance(self)

    monkeypatch.setattr(watchdog, "SECONDS", 0.01)
    monkeypatch.setattr(ScenarioExploration, "progress", counted)
    monkeypatch.setattr(Optimal, "advance", slow)
    assert explored(of(store_and_load)).is_exhausted


def test_an_execution_without_findings_builds_no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    rendered: list[int] = []
    events = Trace.events

    def watched(trace: Trace) -> Iterator[Event]:
        rendered.append(trace.step)
        return events(trace)

    def refuse(**_: object) -> None:
        pytest.fail("a finding is built")

    monkeypatch.setattr(Trace, "events", watched)
    for made in ("promises.Stale", "promises.Owed", "releases.Released"):
        monkeypatch.setattr(f"emu.checks.{made}", refuse)
    done = explored(bundled_with("two_wait_for_mapping_lock"))
    assert (done.is_exhausted, done.done) == (True, 6)
    assert len(rendered) == 2, "only the first execution and its repetition are compared event by event"
