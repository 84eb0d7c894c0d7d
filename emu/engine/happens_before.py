"""Which steps of an execution come before which in every interleaving of its trace.

A step happens before another if both are of one agent, if the later one was waiting for what the earlier one did, or if
they are dependent; and so on, from step to step.
"""

from collections.abc import Collection, Iterable, Iterator

import attrs
from sortedcontainers import SortedDict

from emu.engine.accesses import Access, Kind, Space
from emu.engine.trace import Trace
from emu.errors import InternalError

Clock = tuple[int, ...]
"""For each agent, by its number, how many of its steps."""


@attrs.frozen
class HappensBefore:
    """The order that an execution shares with all interleavings of its trace. Steps count from 1.

    Attributes:
        agents: the number of the agent that took each step.
        touched: what each step has touched.
        clocks: for each step, how many steps of each agent happened before it or are it.
        direct: for each step, the steps of other agents before it that no step between them orders before it already.
        steps: for each agent, its steps.
    """

    agents: tuple[int, ...]
    touched: tuple[tuple[Access, ...], ...]
    clocks: tuple[Clock, ...]
    direct: tuple[tuple[int, ...], ...]
    steps: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, trace: Trace, unordered: Collection[Space] = (), agents: int = 0) -> "HappensBefore":
        """Return the order of a trace that keeps its sources.

        Args:
            unordered: locks whose sections any interleaving may take in another order.
            agents: how many agents there are, if some may have taken no step.

        Raises:
            InternalError: if the trace does not keep them: then nobody knows what its steps have touched.
        """
        if not trace.sources:
            raise InternalError("the order of steps was asked of a trace that keeps no sources")
        return Builder.build(trace, unordered, agents)

    def precedes(self, one: int, other: int) -> bool:
        """Whether a step happens before another one."""
        agent = self.agents[one - 1]
        return one != other and self.place(one) <= self.clocks[other - 1][agent]

    def depend(self, one: int, other: int) -> bool:
        """Whether the order of two steps can matter, be they of one agent or of two."""
        return self.agents[one - 1] == self.agents[other - 1] or any(
            mine.conflicts(theirs) for mine in self.touched[one - 1] for theirs in self.touched[other - 1]
        )

    def place(self, step: int) -> int:
        """Return the number of a step among the steps of its agent, from 1."""
        return self.clocks[step - 1][self.agents[step - 1]]

    def past(self, step: int) -> Iterator[int]:
        """Yield the steps that happen before a step, in order."""
        clock = self.clocks[step - 1]
        return (one for one in range(1, step) if self.place(one) <= clock[self.agents[one - 1]])


NARROW = 64
"""So many numbers of a range are entered one by one: most ranges are an entry of two words."""

Latest = dict[tuple[Kind, int], int]
"""The latest step that touched an object, by how and by which agent."""


@attrs.define
class Objects:
    """The latest steps on the objects of one space: by number, and by range for ranges that are not narrow."""

    numbers: SortedDict[int, Latest] = attrs.field(factory=SortedDict)
    ranges: dict[tuple[int, int], Latest] = attrs.field(factory=dict)

    def enter(self, access: Access, agent: int, step: int) -> None:
        """Keep the step of an agent that has touched an object, or a range of them."""
        if access.last - access.first < NARROW:
            for number in range(access.first, access.last + 1):
                self.numbers.setdefault(number, {})[access.kind, agent] = step
        else:
            self.ranges.setdefault((access.first, access.last), {})[access.kind, agent] = step

    def conflicting(self, access: Access) -> Iterator[int]:
        """Yield the latest steps that an access conflicts with, by agent."""
        near = [self.numbers[number] for number in self.numbers.irange(access.first, access.last)]
        near += [found for (first, last), found in self.ranges.items() if first <= access.last and access.first <= last]
        for latest in near:
            for (kind, _), step in latest.items():
                if kind is not access.kind or kind is Kind.WRITE:
                    yield step


class Builder:
    """The clocks, as far as they are computed."""

    def __init__(self, agents: int) -> None:
        self.spaces: dict[Space, Objects] = {}
        self.numbers: list[int] = []
        self.clocks: list[list[int]] = []
        self.touched: list[tuple[Access, ...]] = []
        self.direct: list[tuple[int, ...]] = []
        self.steps: list[list[int]] = [[] for _ in range(agents)]

    @classmethod
    def build(cls, trace: Trace, unordered: Collection[Space], agents: int) -> HappensBefore:
        """Compute the clocks of all steps."""
        performed = list(trace.performed())
        builder = cls(agents or max((1 + agent.number for agent, _ in performed), default=0))
        for (agent, operation), declared in zip(performed, trace.declared, strict=True):
            touched, latch = operation.touched(), operation.waits_for
            accesses = tuple(
                access for access in (declared if touched is None else touched) if access.space not in unordered
            )
            is_ordered = latch is not None and latch.touch.space not in unordered
            builder.add(agent.number, accesses, latch.set_at if latch and is_ordered else 0)
        return HappensBefore(
            tuple(builder.numbers),
            tuple(builder.touched),
            tuple(map(tuple, builder.clocks)),
            tuple(builder.direct),
            tuple(map(tuple, builder.steps)),
        )

    def add(self, agent: int, accesses: tuple[Access, ...], awaited: int) -> None:
        """Add the next step. It has waited for what the step `awaited` did, if that is not 0."""
        own = self.steps[agent]
        clock = list(self.clocks[own[-1] - 1]) if own else [0] * len(self.steps)
        direct = []
        for earlier in sorted({awaited, *self.conflicting(accesses)} - {0}, reverse=True):
            other, theirs = self.numbers[earlier - 1], self.clocks[earlier - 1]
            if theirs[other] > clock[other]:
                direct.append(earlier)
                clock = list(map(max, clock, theirs))
        self.numbers.append(agent)
        own.append(len(self.numbers))
        clock[agent] = len(own)
        self.clocks.append(clock)
        self.touched.append(accesses)
        self.direct.append(tuple(sorted(direct)))
        for access in accesses:
            self.spaces.setdefault(access.space, Objects()).enter(access, agent, own[-1])

    def conflicting(self, accesses: Iterable[Access]) -> Iterator[int]:
        """Yield the latest steps of each agent that a step with these accesses depends on."""
        for access in accesses:
            if access.space in self.spaces:
                yield from self.spaces[access.space].conflicting(access)
