"""Every class of interleavings of a program: an enumeration that is independent of the engine's search.

It goes over the classes of prefixes and takes every step that is enabled in each, so every way into a class is
executed, and what the agents have seen must not depend on the way. So what steps declare is tested, not believed.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Any, TypeVar, cast

import attrs

from emu.checks.signatures import Signature, signature
from emu.engine import Access, Agent, Choose, Execution
from emu.iommus.amd.unit import AmdUnit
from emu.iommus.requests import TableRead
from emu.iommus.smmu.unit import SmmuUnit
from emu.iommus.unit import Unit
from emu.iommus.vtd.unit import VtdUnit
from emu.iommus.walk_cache import ReachedTable
from emu.machine.machine import Machine
from emu.scenarios.scenario import BoundScenario

CLASSES_MAX = 2_000_000

TIMES = {"began", "held", "held_since", "holder", "waited", "waited_for", "reads"}
"""What an event tells of steps, or of who came before: equal classes may differ in it."""

Way = tuple[int, int]
Levels = tuple[tuple[Way, ...], ...]
Announced = tuple[str, tuple[Access, ...]]
Looks = tuple[tuple[int, ...], tuple[Announced | None, ...], frozenset[Signature], int]
Item = TypeVar("Item")


def cached_device_entries(unit: Unit) -> dict[int, Any]:
    """Return what a unit has cached of the devices' own entries; an SMMU caches none of its registers."""
    if isinstance(unit, SmmuUnit):
        return {}
    return unit.device_table.entries if isinstance(unit, AmdUnit) else cast(VtdUnit, unit).contexts.entries


@attrs.define
class Chosen:
    """Makes the choice that it was told to make."""

    chosen: int = 0

    def pick(self, enabled: Sequence[Agent]) -> Agent:
        return enabled[0]

    def choose(self, choice: Choose) -> int:
        return self.chosen


@cache
def conflict(one: tuple[Access, ...], other: tuple[Access, ...]) -> bool:
    return any(mine.conflicts(theirs) for mine in one for theirs in other)


@attrs.define
class Past:
    """What has happened in an interleaving.

    Attributes:
        ways: who has taken each step, and what it chose.
        performed: who performed what, and on which level of the normal form.
        levels: for each agent the levels of its steps, with what they chose.
        seen: for each agent, what its steps have told it.
    """

    ways: tuple[Way, ...]
    performed: tuple[tuple[int, tuple[Access, ...], int], ...]
    levels: Levels
    seen: tuple[int, ...]


@attrs.define
class Prefix:
    """An execution as far as it has come.

    Attributes:
        pending: what `announced` returns; None until it is asked after a step.
    """

    machine: Machine
    execution: Execution
    strategy: Chosen
    past: Past
    pending: tuple[Announced | None, ...] | None = None

    @classmethod
    def reach(cls, bound: BoundScenario, past: Past | None) -> "Prefix":
        """Return an execution that has come so far; one that has not begun where there is no past."""
        strategy = Chosen()
        machine = bound.build(is_checking=True)
        execution = machine.execution(strategy)
        for agent in execution.agents:
            execution.start(agent)
        count = len(execution.agents)
        execution.is_checking = False  # each of these steps was checked when it was taken first
        for number, strategy.chosen in past.ways if past else ():
            execution.step(execution.agents[number])
        execution.is_checking = True
        return cls(machine, execution, strategy, past or Past((), (), ((),) * count, (0,) * count))

    def go_on(self) -> list[Way]:
        """Return the steps that can be taken now."""
        return [
            (number, chosen)
            for number, agent in enumerate(self.execution.agents)
            if agent.can_step()
            for chosen in range(agent.pending.count if isinstance(agent.pending, Choose) else 1)
        ]

    def state(self) -> tuple[object, ...]:
        """Return what no agent has been told yet: memory, caches, requests in flight, promises."""
        machine = self.machine
        words = {word: (machine.memory.peek(word), machine.memory.seen(word)) for word in machine.memory.versions}
        promised = machine.judge.promised.items()
        units = [
            (
                sorted((key, entry.translation.leaf) for key, entry in unit.iotlb.entries.items()),
                sorted((source_id, entry) for source_id, (entry, _) in cached_device_entries(unit).items()),
                [(one[:-1], *self.replaced(one.reads)) for one in cached_tables(unit)],
                sorted(
                    (one.number, one.tag, one.is_translated, one.is_recalled, one.is_undrained, unit.is_void(one))
                    for one in unit.requests.in_flight.values()
                ),
            )
            for unit in machine.units
        ]
        return (
            sorted(words.items()),
            units,
            sorted((page, sorted((one.agent, one.call) for one in made)) for page, made in promised),
        )

    def replaced(self, reads: Iterable[TableRead]) -> Iterator[bool]:
        """Yield for each word that a walk has read whether walkers read a newer value by now."""
        memory, now = self.machine.memory, self.machine.trace.step
        return (read.was_replaced(memory, now) for read in reads)

    def announced(self) -> tuple[Announced | None, ...]:
        """Return for each agent what it will do next, and what that may touch."""
        if self.pending is None:
            self.pending = tuple(
                None if agent.pending is None else (type(agent.pending).__name__, tuple(agent.pending.accesses()))
                for agent in self.execution.agents
            )
        return self.pending

    def take(self, way: Way) -> None:
        """Take a step. What others have announced may change only if it depends on the step."""
        number, self.strategy.chosen = way
        agent = self.execution.agents[number]
        before = self.announced()
        announced = before[number]
        assert announced is not None
        _, accesses = announced
        past = self.past
        below = (level for other, theirs, level in past.performed if other == number or conflict(accesses, theirs))
        level = 1 + max(below, default=0)
        operation = agent.pending
        assert operation is not None
        self.execution.step(agent)
        self.pending = None
        self.past = Past(
            (*past.ways, way),
            (*past.performed, (number, accesses, level)),
            with_item(past.levels, number, (*past.levels[number], (level, way[1]))),
            with_item(past.seen, number, hash((past.seen[number], *told(operation.describe())))),
        )
        for other, (then, now) in enumerate(zip(before, self.announced(), strict=True)):
            if other != number and then is not None and then != now:
                assert conflict(accesses, then[1]), f"{announced} changes what {then} touches into {now}"

    def verdict(self) -> frozenset[Signature]:
        """Return what the checks have found so far."""
        return frozenset(signature(finding, self.machine.trace) for finding in self.machine.findings)

    def conclude(self) -> set[Signature]:
        """Return what is found where nobody can go on."""
        assert self.execution.pick() is None
        return {signature(finding, self.machine.trace) for finding in self.machine.conclude(self.execution)}


def cached_tables(unit: Unit) -> list[ReachedTable]:
    """Return the table entries that a unit has cached, in the order in which a walk finds them."""
    cached = {} if unit.walk_cache is None else unit.walk_cache.entries
    return [one for _, values in sorted(cached.items()) for one in values]


def with_item(items: tuple[Item, ...], number: int, item: Item) -> tuple[Item, ...]:
    return (*items[:number], item, *items[number + 1 :])


def told(event: tuple[str, Any]) -> Iterator[str]:
    name, fields = event
    yield "lock.ticket" if name == "lock.contend" else name
    for key, value in fields.items():
        if key not in TIMES:
            yield f"{key}={value}"


def ends(bound: BoundScenario, enter: Callable[[Prefix], bool]) -> Iterator[Prefix]:
    """Take every step that can be taken in each prefix that is new, and yield each prefix that cannot go on.

    Args:
        enter: returns whether a prefix is new.
    """
    to_do: list[tuple[Past | None, Way | None]] = [(None, None)]
    while to_do:
        past, first = to_do.pop()
        prefix = Prefix.reach(bound, past)
        if first is not None:
            prefix.take(first)
        try:
            while enter(prefix):
                following = prefix.go_on()
                if not following:
                    yield prefix
                    break
                to_do += [(prefix.past, way) for way in following[1:]]
                prefix.take(following[0])
        finally:
            prefix.execution.end()


@attrs.define
class Classes:
    """Every class of interleavings of a scenario.

    Attributes:
        traces: how many of them cannot go on.
        signatures: of all that was found.
    """

    known: dict[Levels, Looks] = attrs.field(factory=dict)
    traces: int = 0
    signatures: set[Signature] = attrs.field(factory=set)

    @classmethod
    def of(cls, bound: BoundScenario) -> "Classes":
        found = cls()
        for prefix in ends(bound, found.enter):
            found.traces += 1
            found.signatures |= prefix.conclude()
        return found

    def enter(self, prefix: Prefix) -> bool:
        """Enter a class; return whether it is new. Every way into it must look the same."""
        looks = (prefix.past.seen, prefix.announced(), prefix.verdict(), hash(str(prefix.state())))
        known = self.known.setdefault(prefix.past.levels, looks)
        assert known == looks, f"two interleavings of one class differ: {prefix.past.ways}"
        assert len(self.known) <= CLASSES_MAX
        return known is looks
