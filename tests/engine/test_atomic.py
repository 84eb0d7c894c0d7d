"""Several operations in one step: what they did is known at once, and the trace still tells each of them."""

from collections.abc import Coroutine
from typing import Any

import pytest

from emu.engine import Access, Agent, Counter, Execution, Kind, Latch, Trace, Wait
from emu.engine.atomic import AtomicBlock, InlineCoroutine
from emu.engine.hosts import direct
from emu.engine.strategies.round_robin import RoundRobinStrategy


def latch(name: str = "the latch") -> Latch:
    return Latch(name, Access.to(("latch",), 0, Kind.READ))


def execute(trace: Trace, *bodies: Any) -> None:
    agents = [Agent(f"agent {number}", body, {}) for number, body in enumerate(bodies)]
    direct.run(Execution(agents, RoundRobinStrategy(), trace))


def told(trace: Trace) -> list[tuple[int, str, str]]:
    return [(event.step, event.agent.name, event.name) for event in trace.events()]


async def increment(counter: Counter) -> int:
    """Add one in two operations, as nobody should; return what was there before."""
    old = await counter.read()
    await counter.write(old + 1)
    return old


def test_an_atomic_block_is_one_step_with_a_result() -> None:
    trace, counter, results = Trace(), Counter("n", 0), []

    async def body() -> None:
        touches = counter.writing
        results.append(await AtomicBlock("increment", lambda: increment(counter), lambda: touches, trace))

    execute(trace, body, body, body)
    assert (trace.step, counter.value) == (3, 3)
    assert results == [0, 1, 2]


def test_its_operations_are_told_after_its_name_in_order_and_at_its_step() -> None:
    trace, counter = Trace(), Counter("n", 0)

    async def body() -> None:
        await counter.read()
        await AtomicBlock("increment", lambda: increment(counter), lambda: counter.writing, trace)

    execute(trace, body)
    assert told(trace) == [
        (1, "agent 0", "variable.read"),
        (2, "agent 0", "increment"),
        (2, "agent 0", "variable.read"),
        (2, "agent 0", "variable.write"),
    ]


def test_an_atomic_block_announces_the_accesses_given_to_it_and_computes_them_anew_each_time() -> None:
    counters = [Counter("n", 0), Counter("m", 0)]
    operation = AtomicBlock("increment", lambda: increment(counters[0]), lambda: counters[0].writing, Trace())
    assert operation.accesses() == Counter("n", 0).writing
    counters.reverse()
    assert operation.accesses() == Counter("m", 0).writing


def test_nothing_is_done_before_the_step() -> None:
    made: list[None] = []

    def make() -> Coroutine[Any, Any, int]:
        made.append(None)
        return increment(Counter("n", 0))

    operation = AtomicBlock("increment", make, tuple, Trace())
    assert tuple(operation.accesses()) == ()
    assert made == []
    assert operation.perform(1) == 0
    assert made == [None]


def test_a_coroutine_that_awaits_nothing_has_its_result_at_once() -> None:
    async def nothing() -> str:
        return "done"

    inline = InlineCoroutine(nothing(), Trace())
    assert (inline.pending, inline.result) == (None, "done")
    inline.perform(1)
    assert inline.result == "done"


def test_an_inline_coroutine_stops_at_a_disabled_operation_and_goes_on_in_the_step_that_enables_it() -> None:
    trace, counter, gate = Trace(), Counter("n", 0), latch()

    async def background() -> str:
        await counter.add(1)
        await Wait(gate)
        await counter.add(10)
        return "done"

    inline = InlineCoroutine(background(), trace)
    assert counter.value == 0
    inline.perform(1)
    assert (counter.value, inline.result) == (1, None)
    assert isinstance(inline.pending, Wait)
    inline.perform(2)
    assert counter.value == 1
    gate.set(3)
    inline.perform(3)
    assert (counter.value, inline.result) == (11, "done")


def test_an_error_inside_ends_the_agent_that_took_the_step() -> None:
    async def wrong() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        AtomicBlock("wrong", wrong, tuple, Trace()).perform(1)


def test_what_has_to_wait_cannot_be_done_at_once() -> None:
    async def waits() -> str:
        await Wait(latch())
        return "done"

    with pytest.raises(Exception, match="the latch"):
        AtomicBlock("waits", waits, tuple, Trace()).perform(1)
