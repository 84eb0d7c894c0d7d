"""Small scenarios in every one of their traces, by plain enumeration.

A trace is a class of interleavings that differ only in the order of operations that do not conflict. Its Foata normal
form says on which level each operation stands: one more than the highest of those before it that it conflicts with.
The search goes breadth first over the classes of prefixes, and reaches each by a run from the start.
"""

from collections import Counter

import pytest

from emu.engine import Access, Execution
from emu.engine.strategies.round_robin import RoundRobinStrategy
from emu.library import find
from emu.machine import Machine
from emu.scenario import BoundScenario

Levels = tuple[tuple[int, ...], ...]
Performed = tuple[tuple[int, tuple[Access, ...], int], ...]


def reach(bound: BoundScenario, prefix: tuple[int, ...]) -> tuple[Machine, Execution]:
    """Return an execution in which these agents, by number, have taken the first steps."""
    machine = bound.build()
    execution = machine.execution(RoundRobinStrategy())
    for agent in execution.agents:
        execution.start(agent)
    for number in prefix:
        execution.step(execution.agents[number])
    return machine, execution


def level_of(agent: int, accesses: tuple[Access, ...], performed: Performed) -> int:
    """Return the level of an operation after those performed."""
    return max(
        (
            level + 1
            for other, theirs, level in performed
            if other == agent or any(one.conflicts(two) for one in accesses for two in theirs)
        ),
        default=0,
    )


def traces(bound: BoundScenario) -> Counter[int]:
    """Return how many traces there are, by the number of findings in them."""
    counts: Counter[int] = Counter()
    layer: dict[Levels, tuple[tuple[int, ...], Performed]] = {((),) * len(bound.build().agents): ((), ())}
    while layer:
        following: dict[Levels, tuple[tuple[int, ...], Performed]] = {}
        for levels, (prefix, performed) in layer.items():
            machine, execution = reach(bound, prefix)
            enabled = [number for number, agent in enumerate(execution.agents) if agent.can_step()]
            if not enabled:
                assert execution.pick() is None
                counts[len(machine.conclude(execution))] += 1
            for number in enabled:
                operation = execution.agents[number].pending
                assert operation is not None
                accesses = tuple(operation.accesses())
                level = level_of(number, accesses, performed)
                grown = (*levels[:number], (*levels[number], level), *levels[number + 1 :])
                following[grown] = ((*prefix, number), (*performed, (number, accesses, level)))
            execution.end()
        layer = following
    return counts


@pytest.mark.parametrize(
    ("name", "parameters", "expected"),
    [
        ("remap_before_flush", {}, {0: 14, 1: 2}),
        ("remap_before_flush", {"levels": "3"}, {0: 14, 1: 2}),
        ("remap_before_flush", {"outer_lock": "across-flush"}, {0: 2}),
        ("remap_before_flush", {"repaired": "true"}, {0: 1}),
        ("two_wait_for_mapping_lock", {}, {0: 6}),
        ("map_dma_unmap_dma", {}, {0: 1}),
        ("map_fails_halfway", {}, {1: 1}),
        ("unmap_twice_before_flush", {"coherent": "false", "levels": "3"}, {0: 38, 1: 2}),
    ],
)
def test_every_trace_of_a_small_scenario_is_judged_as_declared(
    name: str, parameters: dict[str, str], expected: dict[int, int]
) -> None:
    assert traces(find(name).bind(parameters)) == expected
