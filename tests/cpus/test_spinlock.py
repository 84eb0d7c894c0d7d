"""Spinlocks are ticket locks: one CPU at a time, who asks first is served first."""

from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.cpus import Cpu, Signal, SpinLock
from emu.engine import Agent, Choose, Execution, Strategy, Trace, Waiter
from emu.engine.hosts import direct
from emu.engine.strategies.random import RandomStrategy
from emu.errors import ModelError
from emu.memory import Memory

Body = Callable[[Cpu], Coroutine[Any, Any, None]]


@attrs.define
class Script:
    """Picks the agents whose numbers it is given, one a step; afterwards the first that is enabled."""

    turns: list[int]

    def pick(self, enabled: Sequence[Agent]) -> Agent:
        if not self.turns:
            return enabled[0]
        name = f"cpu{self.turns.pop(0)}"
        return next(agent for agent in enabled if agent.name == name)

    def choose(self, choice: Choose) -> int:
        return 0


def step() -> Choose:
    return Choose("nothing", 1)


def execution_of(strategy: Strategy, *bodies: Body) -> Execution:
    """Return the execution of CPUs 0, 1, ... with what each is to do."""
    trace, memory = Trace(), Memory()
    agents: list[Agent] = []
    for number, body in enumerate(bodies):
        cpu = Cpu(number, memory, trace)
        agents.append(Agent(cpu.name, partial(body, cpu), {"cpu": number}))
    return Execution(agents, strategy, trace)


def run(strategy: Strategy, *bodies: Body) -> Execution:
    execution = execution_of(strategy, *bodies)
    direct.run(execution)
    return execution


def events(execution: Execution, name: str) -> list[tuple[int, str, dict[str, Any]]]:
    """Return step, agent and keys of the events of one name."""
    trace = execution.trace
    return [(event.step, event.agent.name, dict(event.fields)) for event in trace.events() if event.name == name]


def locking(lock: SpinLock, *, times: int = 1, work: int = 1) -> Body:
    """Return the body of a CPU that takes a lock and does some work under it."""

    async def body(cpu: Cpu) -> None:
        for _ in range(times):
            async with lock.held(cpu):
                for _ in range(work):
                    await step()

    return body


def contended() -> Execution:
    """CPU 0 holds the lock from step 2 to step 5; CPU 1 asks for it at step 3 and gets it at step 6."""
    lock = SpinLock("lock")
    return run(Script([0, 0, 1, 0, 0, 1]), locking(lock), locking(lock))


@settings(database=None, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(2, 5))
def test_one_cpu_holds_a_lock_at_a_time(seed: int, count: int) -> None:
    lock = SpinLock("lock")
    inside: list[Cpu] = []
    most: list[int] = []

    async def body(cpu: Cpu) -> None:
        for _ in range(3):
            async with lock.held(cpu):
                inside.append(cpu)
                most.append(len(inside))
                await step()
                await step()
                inside.remove(cpu)

    execution = run(RandomStrategy.seeded(seed), *[body] * count)
    assert most == [1] * (3 * count)
    assert execution.deadlock is None


@settings(database=None, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(2, 5))
def test_who_asks_first_is_served_first(seed: int, count: int) -> None:
    lock = SpinLock("lock")
    execution = run(RandomStrategy.seeded(seed), *[locking(lock, times=3)] * count)
    asked = [event.agent.name for event in execution.trace.events() if event.name in {"lock.ticket", "lock.contend"}]
    served = [agent for _, agent, _ in events(execution, "lock.acquire")]
    assert asked == served
    assert len(served) == 3 * count


def test_tickets_are_numbered_from_zero() -> None:
    lock = SpinLock("lock")
    execution = run(RandomStrategy.seeded(1), locking(lock, times=4))
    assert [keys["ticket"] for _, _, keys in events(execution, "lock.ticket")] == [0, 1, 2, 3]


def test_a_lock_in_use_makes_another_cpu_wait() -> None:
    lock = SpinLock("lock")
    execution = execution_of(Script([0, 0, 1]), locking(lock, work=9), locking(lock))
    for agent in execution.agents:
        execution.start(agent)
    for _ in range(3):
        chosen = execution.pick()
        assert chosen is not None
        execution.step(chosen)
    assert [agent.name for agent in execution.agents if agent.can_step()] == ["cpu0"]
    execution.end()


def test_contention_names_the_holder_and_since_when() -> None:
    assert events(contended(), "lock.contend") == [
        (3, "cpu1", {"lock": "lock", "ticket": 1, "holder": "cpu0", "held_since": 1})
    ]


def test_after_contention_the_log_tells_for_whom_and_how_long_a_cpu_waited() -> None:
    assert (6, "cpu1", {"lock": "lock", "waited_for": "cpu0", "waited": 3}) in events(contended(), "lock.acquire")


def test_without_contention_there_is_neither() -> None:
    lock = SpinLock("lock")
    execution = run(Script([0] * 4 + [1] * 4), locking(lock), locking(lock))
    assert events(execution, "lock.contend") == []
    assert events(execution, "lock.acquire") == [(2, "cpu0", {"lock": "lock"}), (6, "cpu1", {"lock": "lock"})]


def test_a_cpu_that_has_asked_and_is_about_to_hold_a_lock_is_named_as_its_holder() -> None:
    lock = SpinLock("lock")
    execution = run(Script([0, 1]), locking(lock), locking(lock))
    assert [(agent, keys["holder"]) for _, agent, keys in events(execution, "lock.contend")] == [("cpu1", "cpu0")]


def test_a_release_tells_how_long_the_lock_was_held() -> None:
    lock = SpinLock("lock")
    execution = run(RandomStrategy.seeded(1), locking(lock, work=4))
    assert events(execution, "lock.release") == [(7, "cpu0", {"lock": "lock", "held": 6})]


def test_taking_a_lock_twice_is_a_deadlock_with_oneself() -> None:
    lock = SpinLock("the lock")

    async def body(cpu: Cpu) -> None:
        async with lock.held(cpu), lock.held(cpu):
            await step()

    execution = run(RandomStrategy.seeded(1), body)
    assert execution.deadlock is not None
    (waiter,) = execution.deadlock.waiters
    assert (waiter.agent, waiter.waits_for, waiter.holder) == ("cpu0", "the lock the lock", "cpu0")


def test_a_lock_may_be_taken_again_once_it_was_released() -> None:
    lock = SpinLock("lock")
    assert len(events(run(RandomStrategy.seeded(1), locking(lock, times=2)), "lock.acquire")) == 2


def test_a_cpu_may_hold_two_different_locks() -> None:
    one, other = SpinLock("one"), SpinLock("other")

    async def body(cpu: Cpu) -> None:
        async with one.held(cpu), other.held(cpu):
            assert (one.holder, other.holder) == (cpu.name, cpu.name)
            await step()

    execution = run(RandomStrategy.seeded(1), body)
    assert [keys["lock"] for _, _, keys in events(execution, "lock.release")] == ["other", "one"]


def test_a_body_that_raises_releases_the_lock() -> None:
    lock = SpinLock("lock")

    async def body(cpu: Cpu) -> None:
        with pytest.raises(ValueError, match="within"):
            async with lock.held(cpu):
                raise ValueError("within")
        assert lock.holder != cpu.name

    execution = run(Script([0, 0, 1]), body, locking(lock))
    assert len(events(execution, "lock.release")) == 2
    assert execution.deadlock is None


def test_a_lock_is_released_when_its_execution_ends() -> None:
    lock = SpinLock("lock")

    async def fails(cpu: Cpu) -> None:
        await step()
        raise ValueError("enough")

    async def body(cpu: Cpu) -> None:
        async with lock.held(cpu):
            await Signal("never").wait()

    with pytest.raises(ModelError):
        run(Script([0, 0, 1]), body, fails)
    assert lock.holder is None


def test_a_deadlock_over_two_locks_names_their_holders_and_since_when() -> None:
    one, other = SpinLock("one"), SpinLock("other")

    def taking(first: SpinLock, second: SpinLock) -> Body:
        async def body(cpu: Cpu) -> None:
            async with first.held(cpu), second.held(cpu):
                await step()

        return body

    execution = run(Script([0, 0, 1, 1, 0, 1]), taking(one, other), taking(other, one))
    assert execution.deadlock is not None
    assert execution.deadlock.waiters == (
        Waiter("cpu0", "the lock other", since=5, holder="cpu1", held_since=3),
        Waiter("cpu1", "the lock one", since=6, holder="cpu0", held_since=1),
    )


def test_locks_of_different_names_share_no_objects() -> None:
    assert SpinLock("one").space != SpinLock("other").space
