"""The order that an execution shares with all interleavings of its trace."""

import random

import pytest

from emu.engine import Agent, Execution, TicketLock, Trace, Variable
from emu.engine.happens_before import HappensBefore
from emu.engine.hosts import direct
from emu.engine.strategies.random import RandomStrategy
from emu.errors import InternalError


def traced(seed: int, *, sources: bool = True) -> Trace:
    """Run three agents that take random steps on two variables and a lock."""
    chance, lock = random.Random(seed), TicketLock("lock")
    variables = [Variable("x", 0), Variable("y", 0)]

    def body(name: str) -> Agent:
        plan = [(chance.random(), chance.choice(variables)) for _ in range(4)]

        async def act() -> None:
            for kind, variable in plan:
                if kind < 0.3:
                    async with lock.held_by(name):
                        await variable.write(1)
                elif kind < 0.6:
                    await variable.compare_and_swap(0, 1)
                else:
                    await variable.read()

        return Agent(name, act, {})

    trace = Trace(sources=sources)
    direct.run(Execution([body(name) for name in "abc"], RandomStrategy.seeded(seed), trace))
    return trace


def closure(trace: Trace) -> set[tuple[int, int]]:
    """Return every ordered pair of steps, by looking at all pairs."""
    performed = list(trace.performed())
    before: set[tuple[int, int]] = set()
    touched = [
        operation.touched() or declared for (_, operation), declared in zip(performed, trace.declared, strict=True)
    ]
    for late, (agent, operation) in enumerate(performed):
        for early in range(late - 1, -1, -1):
            awaited = operation.waits_for is not None and operation.waits_for.set_at == early + 1
            conflict = any(one.conflicts(other) for one in touched[early] for other in touched[late])
            if awaited or conflict or performed[early][0] is agent:
                before |= {(early + 1, late + 1)} | {(first, late + 1) for first, last in before if last == early + 1}
    return before


@pytest.mark.parametrize("seed", range(30))
def test_a_step_happens_before_what_depends_on_it_and_what_follows_from_that(seed: int) -> None:
    trace = traced(seed)
    order, expected = HappensBefore.of(trace), closure(trace)
    steps = range(1, trace.step + 1)
    assert {(one, other) for one in steps for other in steps if order.precedes(one, other)} == expected
    for step in steps:
        assert list(order.past(step)) == sorted(one for one, other in expected if other == step)


@pytest.mark.parametrize("seed", range(30))
def test_the_direct_steps_and_the_order_of_each_agent_give_the_whole_order(seed: int) -> None:
    order = HappensBefore.of(traced(seed))
    for step, direct_steps in enumerate(order.direct, start=1):
        own = [one for one in order.steps[order.agents[step - 1]] if one < step][-1:]
        reached = {*own, *direct_steps}
        assert {past for one in reached for past in order.past(one)} | reached == set(order.past(step))
        for one in direct_steps:
            assert not any(order.precedes(one, other) for other in reached)


def test_the_order_of_a_trace_without_sources_is_not_known() -> None:
    with pytest.raises(InternalError, match="keeps no sources"):
        HappensBefore.of(traced(0, sources=False))
