"""The Trio host against the direct one, and what only Trio can show."""

import signal
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import attrs
import pytest
import trio
import trio.lowlevel
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.cpus import Cpu, SpinLock
from emu.engine import Access, Agent, Choose, Deadlock, Execution, Kind, Latch, Limits, Operation, Strategy, Trace, Wait
from emu.engine.hosts import direct
from emu.engine.hosts import trio as trio_host
from emu.engine.strategies.random import RandomStrategy
from emu.engine.strategies.round_robin import RoundRobinStrategy
from emu.errors import ModelError
from emu.memory import Memory

Body = Callable[[], Coroutine[Any, Any, None]]
RunEach = Callable[[Iterable[Execution]], None]


class Do(NamedTuple):
    """One instruction of a random program; `lock` holds a lock for so many of the instructions that follow it."""

    verb: str
    number: int
    span: int = 0


INSTRUCTIONS = [
    *(Do(verb, number) for verb in ("add", "add", "choose", "ring", "wait") for number in range(2)),
    *(Do("lock", number, span) for number in range(2) for span in (1, 3)),
]


@attrs.define
class Add(Operation[int]):
    """Add to a shared counter, and return what it was."""

    counters: list[int]
    number: int
    amount: int
    old: int = 0

    event = "add"

    def perform(self, step: int) -> int:
        self.old = self.counters[self.number]
        self.counters[self.number] += self.amount
        return self.old

    def describe(self) -> tuple[str, dict[str, int]]:
        return self.event, {"counter": self.number, "old": self.old, "amount": self.amount}


@attrs.define
class Ring(Operation[None]):
    """Set a latch."""

    latch: Latch

    event = "ring"

    def perform(self, step: int) -> None:
        self.latch.set(step)


class World:
    """What the agents of one execution share."""

    def __init__(self) -> None:
        self.trace = Trace()
        self.memory = Memory()
        self.counters = [0, 0]
        self.latches = [Latch(f"latch {i}", Access.to(("latch",), i, Kind.WRITE)) for i in range(2)]
        self.locks = [SpinLock(f"lock {i}") for i in range(2)]

    async def obey(self, cpu: Cpu, program: Sequence[Do]) -> None:
        while program:
            (verb, number, span), program = program[0], program[1:]
            if verb == "add":
                old = await Add(self.counters, number, 1)
                if old % 2:  # what comes next depends on what others did before
                    await Add(self.counters, number, 10)
            elif verb == "choose":
                self.trace.note("chosen", number=await Choose("a number", number + 2))
            elif verb == "ring":
                await Ring(self.latches[number])
            elif verb == "wait":
                await Wait(self.latches[number])
            elif self.locks[number].holder != cpu.name:
                async with self.locks[number].held(cpu):
                    await self.obey(cpu, program[:span])
                program = program[span:]

    def agent(self, number: int, program: Sequence[Do]) -> Agent:
        cpu = Cpu(number, self.memory, self.trace)
        return Agent(cpu.name, lambda: self.obey(cpu, program), {"cpu": number})


Seen = tuple[list[tuple[int, str, str, dict[str, Any]]], Deadlock | None, list[int]]


def what_happens(host: Callable[[Execution], None], programs: list[list[Do]], seed: int) -> Seen:
    """Run programs under a seed, and return all that can be seen of it."""
    world = World()
    agents = [world.agent(number, program) for number, program in enumerate(programs)]
    execution = Execution(agents, RandomStrategy.seeded(seed), world.trace)
    host(execution)
    events = [(event.step, event.agent.name, event.name, dict(event.fields)) for event in world.trace.events()]
    return events, execution.deadlock, world.counters


def run_on_trio(execution: Execution) -> None:
    trio.run(trio_host.run, execution)


def programs() -> st.SearchStrategy[list[list[Do]]]:
    return st.lists(st.lists(st.sampled_from(INSTRUCTIONS), max_size=6), min_size=1, max_size=4)


def step() -> Choose:
    return Choose("nothing", 1)


def steps(count: int) -> Body:
    async def body() -> None:
        for _ in range(count):
            await step()

    return body


async def endless() -> None:
    while True:
        await step()


def execution_of(*bodies: Body, strategy: Strategy | None = None, limits: Limits | None = None) -> Execution:
    """Return the execution of agents a, b, ... which take turns."""
    agents = [Agent(name, body, {}) for name, body in zip("abcdef", bodies, strict=False)]
    return Execution(agents, strategy or RoundRobinStrategy(), Trace(), limits or Limits())


@attrs.define
class LookAround(Operation[None]):
    """Keeps which task performs it, and which tasks live beside it."""

    seen: list[tuple[str, list[str]]]

    def perform(self, step: int) -> None:
        task = trio.lowlevel.current_task()
        assert task.parent_nursery is not None
        self.seen.append((task.name, sorted(child.name for child in task.parent_nursery.child_tasks)))


def look_around() -> list[tuple[str, list[str]]]:
    """Have three agents look around once each, before any of them has ended."""
    seen: list[tuple[str, list[str]]] = []

    async def body() -> None:
        await LookAround(seen)
        await step()

    run_on_trio(execution_of(body, body, body))
    return seen


@settings(database=None, deadline=None, max_examples=150)
@given(programs(), st.integers(0, 1_000))
def test_the_same_seed_gives_the_same_trace_on_both_hosts(programs: list[list[Do]], seed: int) -> None:
    assert what_happens(run_on_trio, programs, seed) == what_happens(direct.run, programs, seed)


def test_random_programs_meet_in_orders_that_make_a_difference() -> None:
    programs = [[Do("add", 0), Do("lock", 0, 1), Do("add", 1), Do("choose", 1)]] * 2
    outcomes = {str(what_happens(direct.run, programs, seed)) for seed in range(30)}
    assert len(outcomes) > 10


def test_a_deadlock_is_the_same_on_both_hosts() -> None:
    programs = [[Do("lock", i, 2), Do("add", 0), Do("lock", 1 - i)] for i in range(2)]
    found = [what_happens(direct.run, programs, seed)[1] for seed in range(30)]
    assert any(found)
    assert [what_happens(run_on_trio, programs, seed)[1] for seed in range(30)] == found


def test_each_agent_takes_its_steps_in_a_task_of_its_own_name() -> None:
    assert [name for name, _ in look_around()] == ["a", "b", "c"]


def test_the_tasks_of_all_agents_live_at_once() -> None:
    assert [beside for _, beside in look_around()] == [["a", "b", "c"]] * 3


def test_a_task_ends_with_its_agent() -> None:
    seen: list[tuple[str, list[str]]] = []

    async def late() -> None:
        await steps(5)()
        await LookAround(seen)

    run_on_trio(execution_of(steps(1), late))
    assert seen == [("b", ["b"])]


def test_the_first_exception_comes_out_of_trio_unwrapped() -> None:
    async def body() -> None:
        await step()
        raise ValueError("enough")

    with pytest.raises(ModelError) as caught:
        run_on_trio(execution_of(steps(5), body, body, endless))
    assert type(caught.value) is ModelError


def test_an_interrupt_comes_out_of_trio_unwrapped() -> None:
    async def body() -> None:
        await step()
        signal.default_int_handler(signal.SIGINT, None)

    with pytest.raises(KeyboardInterrupt):
        run_on_trio(execution_of(steps(5), body))


def test_a_deadline_ends_agents_that_take_turns_for_ever() -> None:
    async def main() -> bool:
        with trio.move_on_after(0.001) as scope:
            await trio_host.run(execution_of(endless, endless, endless, limits=Limits(steps=1_000_000)))
        return scope.cancelled_caught

    # A deadline passes between two steps, when one task is about to run: who is cancelled first is a matter of chance.
    assert all(trio.run(main) for _ in range(20))


def test_a_deadline_ends_a_single_agent_that_goes_on_for_ever() -> None:
    async def main() -> bool:
        with trio.move_on_after(0.02) as scope:
            await trio_host.run(execution_of(endless))
        return scope.cancelled_caught

    assert trio.run(main)


def test_a_cancelled_scope_ends_a_single_agent_within_a_thousand_steps() -> None:
    async def main() -> Execution:
        with trio.CancelScope() as scope:

            async def body() -> None:
                await steps(30_000)()
                scope.cancel()
                await endless()

            execution = execution_of(body)
            await trio_host.run(execution)
        assert scope.cancelled_caught
        return execution

    assert 30_000 <= trio.run(main).trace.step <= 31_000


def test_a_scope_that_is_cancelled_in_one_agent_s_step_ends_all_of_them() -> None:
    async def main() -> trio.CancelScope:
        with trio.CancelScope() as scope:

            async def body() -> None:
                await step()
                scope.cancel()
                await endless()

            await trio_host.run(execution_of(body, endless, endless))
        return scope

    assert trio.run(main).cancelled_caught


def test_agents_of_a_cancelled_execution_clean_up() -> None:
    cleaned: list[str] = []

    async def body() -> None:
        try:
            await endless()
        finally:
            cleaned.append("cleaned")

    async def main() -> Execution:
        execution = execution_of(body, body)
        with trio.move_on_after(0.01):
            await trio_host.run(execution)
        return execution

    execution = trio.run(main)
    assert execution.has_ended
    assert cleaned == ["cleaned", "cleaned"]


def test_a_cancelled_execution_has_no_deadlock() -> None:
    async def main() -> Execution:
        execution = execution_of(endless, endless)
        with trio.move_on_after(0.01):
            await trio_host.run(execution)
        return execution

    assert trio.run(main).deadlock is None


def test_other_tasks_go_on_beside_an_execution() -> None:
    async def main() -> int:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio_host.run, execution_of(endless, endless, limits=Limits(steps=1_000_000)))
            for _ in range(10):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        return 10

    assert trio.run(main) == 10


def test_two_executions_can_run_at_once() -> None:
    executions = [execution_of(steps(20), steps(20)) for _ in range(2)]

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for execution in executions:
                nursery.start_soon(trio_host.run, execution)

    trio.run(main)
    assert [execution.trace.step for execution in executions] == [40, 40]


def test_many_executions_run_under_a_single_run_of_trio() -> None:
    roots: list[trio.lowlevel.Task | None] = []

    @attrs.define
    class FindRoot(Operation[None]):
        def perform(self, step: int) -> None:
            roots.append(trio.lowlevel.current_root_task())

    async def body() -> None:
        await FindRoot()

    trio_host.run_each(execution_of(body, body) for _ in range(100))
    assert len(roots) == 200
    assert len(set(roots)) == 1


@pytest.mark.parametrize("run_each", [direct.run_each, trio_host.run_each], ids=["direct", "trio"])
def test_an_execution_is_asked_for_only_when_the_one_before_has_ended(run_each: RunEach) -> None:
    log: list[str] = []

    @attrs.define
    class Log(Operation[None]):
        number: int

        def perform(self, step: int) -> None:
            log.append(f"step of {self.number}")

    def executions() -> Iterator[Execution]:
        for number in range(3):
            log.append(f"ask for {number}")
            execution = execution_of(partial(one_step, number))
            yield execution
            assert execution.has_ended

    async def one_step(number: int) -> None:
        await Log(number)

    run_each(executions())
    assert log == ["ask for 0", "step of 0", "ask for 1", "step of 1", "ask for 2", "step of 2"]


@pytest.mark.parametrize("run_each", [direct.run_each, trio_host.run_each], ids=["direct", "trio"])
def test_after_a_failure_no_further_execution_is_asked_for(run_each: RunEach) -> None:
    asked: list[int] = []

    async def body() -> None:
        await step()
        raise ValueError("enough")

    def executions() -> Iterator[Execution]:
        for number in range(3):
            asked.append(number)
            yield execution_of(body)

    with pytest.raises(ModelError):
        run_each(executions())
    assert asked == [0]


async def two_steps_within(seconds: float) -> None:
    with trio.move_on_after(seconds):
        await steps(2)()


def test_a_scope_of_an_agent_s_own_that_does_not_end_in_time_changes_nothing() -> None:
    execution = execution_of(partial(two_steps_within, 60), steps(2))
    run_on_trio(execution)
    assert execution.trace.step == 4


def test_a_scope_of_an_agent_s_own_that_cancels_it_is_refused_in_a_sentence() -> None:
    with pytest.raises(ModelError, match="under a controlled strategy no time passes"):
        run_on_trio(execution_of(partial(two_steps_within, 0), steps(2)))
