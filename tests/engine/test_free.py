"""Free-running on Trio: who goes next is Trio's business, and agents may use what Trio offers."""

import random
from collections.abc import Callable, Coroutine
from typing import Any

import attrs
import pytest
import trio
import trio.lowlevel

from emu.cpus import Cpu, SpinLock
from emu.engine import Access, Agent, Choose, Deadlock, Execution, Kind, Latch, Limits, Operation, Trace, Wait, Waiter
from emu.engine.hosts import free
from emu.engine.hosts.trio import run_each_by
from emu.engine.strategies.random import RandomStrategy
from emu.errors import LimitReached, ModelError
from emu.memory import Memory

Body = Callable[[], Coroutine[Any, Any, None]]


class NoCheckpoints(random.Random):
    """A generator under which no step is followed by a checkpoint."""

    def random(self) -> float:
        return 0.99


@attrs.define
class Named(Operation[None]):
    """An event by any name."""

    name: str

    def perform(self, step: int) -> None:
        return None

    def describe(self) -> tuple[str, dict[str, Any]]:
        return self.name, {}


@attrs.define
class Ring(Operation[None]):
    """Set a latch."""

    latch: Latch

    event = "ring"

    def perform(self, step: int) -> None:
        self.latch.set(step)


def latch(name: str = "the bell", holder: tuple[str, int] | None = None) -> Latch:
    return Latch(name, Access.to(("latch",), 0, Kind.WRITE), lambda: holder)


def step() -> Named:
    return Named("step")


def steps(count: int) -> Body:
    """Return the body of an agent whose steps are named 0, 1, ..."""

    async def body() -> None:
        for number in range(count):
            await Named(str(number))

    return body


def waiting(awaited: Latch) -> Body:
    async def body() -> None:
        await Wait(awaited)

    return body


def execution_of(*bodies: Body, daemon: Body | None = None, limits: Limits | None = None) -> Execution:
    """Return the execution of agents a, b, ... and perhaps of a daemon."""
    agents = [Agent(name, body, {}) for name, body in zip("abcdef", bodies, strict=False)]
    if daemon is not None:
        agents.append(Agent("daemon", daemon, {}, is_daemon=True))
    return Execution(agents, RandomStrategy.seeded(0), Trace(), limits or Limits())


def run(execution: Execution, generator: random.Random | None = None) -> Execution:
    """Run an execution, which is expected to end within seconds."""

    async def main() -> None:
        with trio.fail_after(5):
            await free.run(execution, generator or random.Random(0))

    trio.run(main)
    return execution


def order(execution: Execution) -> str:
    """Return the names of the agents in the order of their steps."""
    return "".join(event.agent.name for event in execution.trace.events())


def events_of(execution: Execution, agent: str) -> list[str]:
    return [event.name for event in execution.trace.events() if event.agent.name == agent]


def longest_run(names: str) -> int:
    """Return how many steps in a row one agent took at most, while the others were not done yet."""
    unfinished = names[: min(names.rindex(name) for name in set(names))]
    longest = row = 0
    for before, now in zip(" " + unfinished, unfinished, strict=False):
        row = row + 1 if now == before else 1
        longest = max(longest, row)
    return longest


def test_every_agent_takes_its_own_steps_in_order_under_every_generator() -> None:
    for seed in range(20):
        execution = run(execution_of(steps(5), steps(5), steps(5)), random.Random(seed))
        assert [events_of(execution, name) for name in "abc"] == [["0", "1", "2", "3", "4"]] * 3


def test_steps_are_numbered_from_one() -> None:
    execution = run(execution_of(steps(3), steps(3)))
    assert [event.step for event in execution.trace.events()] == [1, 2, 3, 4, 5, 6]


def test_different_generators_make_different_interleavings() -> None:
    seen = {order(run(execution_of(steps(6), steps(6)), random.Random(seed))) for seed in range(50)}
    assert len(seen) > 5


def test_agents_do_not_move_in_lock_step() -> None:
    runs = [order(run(execution_of(steps(12), steps(12)), random.Random(seed))) for seed in range(50)]
    assert max(longest_run(names) for names in runs) >= 4


def test_without_checkpoints_no_agent_is_interrupted() -> None:
    assert order(run(execution_of(steps(6), steps(6)), NoCheckpoints())) in {"a" * 6 + "b" * 6, "b" * 6 + "a" * 6}


def test_an_agent_may_sleep() -> None:
    async def body() -> None:
        await step()
        await trio.lowlevel.checkpoint()
        await trio.sleep(0.001)
        await step()

    assert run(execution_of(body, body)).trace.step == 4


def test_an_agent_may_wait_for_an_event_of_trio() -> None:
    bell = trio.Event()

    async def wait() -> None:
        await bell.wait()
        await step()

    async def ring() -> None:
        await step()
        bell.set()

    assert order(run(execution_of(wait, ring))) == "ba"


def test_an_agent_receives_what_trio_answers() -> None:
    received: list[str] = []
    send, receive = trio.open_memory_channel[str](0)

    async def sender() -> None:
        await step()
        await send.send("news")

    async def receiver() -> None:
        received.append(await receive.receive())

    run(execution_of(sender, receiver))
    assert received == ["news"]


def test_a_lock_of_trio_keeps_other_agents_out() -> None:
    def locking(lock: trio.Lock) -> Body:
        async def body() -> None:
            async with lock:
                await step()
                await trio.lowlevel.checkpoint()
                await step()
                await step()

        return body

    for seed in range(20):
        lock = trio.Lock()
        assert order(run(execution_of(locking(lock), locking(lock)), random.Random(seed))) in {"aaabbb", "bbbaaa"}


def test_a_spinlock_keeps_other_agents_out() -> None:
    inside: list[str] = []

    def locking(cpu: Cpu, lock: SpinLock) -> Body:
        async def body() -> None:
            async with lock.held(cpu):
                inside.append(cpu.name)
                await step()
                await step()
                assert inside.pop() == cpu.name
                assert not inside

        return body

    for seed in range(20):
        trace, lock = Trace(), SpinLock("lock")
        cpus = [Cpu(number, Memory(), trace) for number in range(3)]
        agents = [Agent(cpu.name, locking(cpu, lock), {}) for cpu in cpus]
        execution = run(Execution(agents, RandomStrategy.seeded(0), trace), random.Random(seed))
        assert execution.deadlock is None


def test_a_timeout_reaches_an_agent_that_waits_and_it_goes_on() -> None:
    gave_up = trio.Event()

    async def impatient() -> None:
        with trio.move_on_after(0.005) as scope:
            await Wait(latch())
        assert scope.cancelled_caught
        gave_up.set()
        await Named("went on")

    execution = run(execution_of(impatient, gave_up.wait))
    assert events_of(execution, "a") == ["went on"]
    assert execution.deadlock is None


def test_a_timeout_reaches_an_agent_that_waits_while_nobody_else_can_go_on() -> None:
    async def impatient() -> None:
        with trio.move_on_after(0.005):
            await Wait(latch())
        await Named("went on")

    execution = run(execution_of(impatient, waiting(latch())))
    assert events_of(execution, "a") == ["went on"]


def test_an_agent_may_catch_an_exception_of_trio() -> None:
    caught: list[str] = []
    send, receive = trio.open_memory_channel[str](0)

    async def body() -> None:
        await send.aclose()
        try:
            await receive.receive()
        except trio.EndOfChannel:
            caught.append("end of channel")
        await step()

    assert run(execution_of(body)).trace.step == 1
    assert caught == ["end of channel"]


def test_a_latch_that_another_agent_sets_ends_a_wait() -> None:
    for seed in range(20):
        bell = latch()

        async def ring(bell: Latch = bell) -> None:
            await step()
            await Ring(bell)
            await step()

        execution = run(execution_of(waiting(bell), waiting(bell), ring), random.Random(seed))
        assert execution.deadlock is None
        assert execution.trace.step == 5


def test_a_latch_that_is_set_after_a_sleep_is_no_deadlock() -> None:
    bell = latch()

    async def ring() -> None:
        await trio.sleep(0.005)
        await Ring(bell)

    execution = run(execution_of(waiting(bell), ring))
    assert execution.deadlock is None
    assert order(execution) == "ba"


def test_a_choice_is_made_by_the_strategy() -> None:
    chosen: list[int] = []

    async def body() -> None:
        chosen.extend([await Choose("a number", 1_000) for _ in range(5)])

    run(execution_of(body))
    strategy = RandomStrategy.seeded(0)
    assert chosen == [strategy.choose(Choose("a number", 1_000)) for _ in range(5)]


def test_a_deadlock_is_found() -> None:
    for seed in range(20):
        one, other = latch("one", ("b", 3)), latch("other")
        execution = run(execution_of(waiting(one), waiting(other)), random.Random(seed))
        assert execution.deadlock == Deadlock(0, (Waiter("a", "one", 0, "b", 3), Waiter("b", "other", 0, None, None)))


def test_a_deadlock_is_found_after_others_have_ended() -> None:
    for seed in range(20):
        execution = run(execution_of(steps(3), waiting(latch()), steps(6)), random.Random(seed))
        assert execution.deadlock is not None
        assert [waiter.agent for waiter in execution.deadlock.waiters] == ["b"]
        assert execution.trace.step == 9


def test_a_daemon_may_wait_at_the_end() -> None:
    for seed in range(20):
        execution = run(execution_of(steps(3), steps(5), daemon=waiting(latch())), random.Random(seed))
        assert execution.deadlock is None
        assert execution.trace.step == 8


def test_a_daemon_that_can_go_on_does_go_on() -> None:
    assert run(execution_of(steps(1), daemon=steps(20))).trace.step == 21


def test_too_many_steps_reach_the_limit_named_steps() -> None:
    execution = execution_of(steps(1_000), steps(1_000), limits=Limits(steps=70))
    with pytest.raises(LimitReached, match=r"took 70 steps .*\(limit 'steps'\)"):
        run(execution)
    assert execution.trace.step == 70


def test_the_first_exception_comes_out_unwrapped() -> None:
    async def body() -> None:
        await step()
        raise ValueError("enough")

    with pytest.raises(ModelError, match=r"at tests/engine/test_free\.py:\d+, raised ValueError") as caught:
        run(execution_of(waiting(latch()), body, body))
    assert type(caught.value) is ModelError


def test_an_exception_ends_agents_that_are_busy() -> None:
    async def body() -> None:
        await step()
        raise ValueError("enough")

    execution = execution_of(body, steps(5_000))
    with pytest.raises(ModelError):
        run(execution)
    assert execution.trace.step < 1_000


def test_an_exception_ends_agents_that_sleep() -> None:
    async def body() -> None:
        await step()
        raise ValueError("enough")

    with pytest.raises(ModelError):
        run(execution_of(body, trio.sleep_forever))


def test_a_deadline_ends_agents_that_are_busy() -> None:
    async def main() -> bool:
        with trio.move_on_after(0.01) as scope:
            await free.run(execution_of(steps(10_000), steps(10_000)), random.Random(0))
        return scope.cancelled_caught

    assert trio.run(main)


def test_a_deadline_ends_agents_that_wait() -> None:
    async def main() -> bool:
        with trio.move_on_after(0.005) as scope:
            await free.run(execution_of(waiting(latch()), trio.sleep_forever), random.Random(0))
        return scope.cancelled_caught

    assert trio.run(main)


def test_each_agent_is_a_task_of_its_own_name() -> None:
    names: list[str] = []

    async def body() -> None:
        await step()
        names.append(trio.lowlevel.current_task().name)
        await trio.lowlevel.checkpoint()
        names.append(trio.lowlevel.current_task().name)

    run(execution_of(body, body))
    assert sorted(names) == ["a", "a", "b", "b"]


def test_a_note_is_that_of_the_agent_that_makes_it() -> None:
    bell = trio.Event()

    async def sleeper() -> None:
        await bell.wait()
        execution.trace.note("awake")
        await step()

    async def ring() -> None:
        await step()
        bell.set()

    execution = execution_of(sleeper, ring)
    run(execution)
    assert [(event.agent.name, event.name) for event in execution.trace.events()] == [
        ("b", "step"),
        ("a", "awake"),
        ("a", "step"),
    ]


def test_an_execution_has_ended_and_its_agents_too() -> None:
    execution = run(execution_of(steps(3), waiting(latch()), daemon=waiting(latch())))
    assert execution.has_ended
    assert all(agent.is_done for agent in execution.agents)


def test_what_a_cleanup_awaits_is_performed_at_the_end() -> None:
    cleaned: list[Latch] = []

    async def body() -> None:
        try:
            await Wait(latch())
        finally:
            cleaned.append(latch())
            await Ring(cleaned[0])

    run(execution_of(steps(3), daemon=body))
    assert [one.is_set for one in cleaned] == [True]


def test_a_cleanup_leaves_no_trace() -> None:
    async def body() -> None:
        try:
            await Wait(latch())
        finally:
            await Named("cleaned")

    for seed in range(20):
        execution = run(execution_of(steps(3), daemon=body), random.Random(seed))
        assert execution.trace.step == 3
        assert "cleaned" not in events_of(execution, "daemon")


def test_a_cleanup_that_releases_a_lock_which_another_agent_awaits_does_no_harm() -> None:
    for seed in range(20):
        trace, inner, outer = Trace(), SpinLock("inner"), SpinLock("outer")
        cpus = [Cpu(number, Memory(), trace) for number in range(3)]

        async def holder(cpu: Cpu = cpus[0], inner: SpinLock = inner, outer: SpinLock = outer) -> None:
            async with outer.held(cpu), inner.held(cpu):
                await Wait(latch())

        async def contender(cpu: Cpu = cpus[1], inner: SpinLock = inner) -> None:
            while inner.holder is None:
                await step()
            async with inner.held(cpu):
                await step()

        async def late() -> None:
            await steps(40)()
            await Wait(latch())

        agents = [Agent(cpu.name, body, {}) for cpu, body in zip(cpus, (holder, contender, late), strict=True)]
        execution = run(Execution(agents, RandomStrategy.seeded(0), trace), random.Random(seed))
        assert execution.deadlock is not None
        assert len(execution.deadlock.waiters) == 3


def test_many_executions_run_under_a_single_run_of_trio() -> None:
    executions = [execution_of(steps(3), steps(3)) for _ in range(30)]

    async def run_one(execution: Execution) -> None:
        await free.run(execution, random.Random(0))

    trio.run(run_each_by, run_one, executions)
    assert [execution.trace.step for execution in executions] == [6] * 30
