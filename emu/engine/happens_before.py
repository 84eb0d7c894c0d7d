"""Which steps of an execution come before which in every interleaving of its trace.

A step happens before another if both are of one agent, if the later one was waiting for what the earlier one did, or if
they are dependent; and so on, from step to step.
"""

from collections.abc import Collection, Iterator

import attrs

from emu.engine.accesses import Space
from emu.engine.dependence import Footprint, Footprints
from emu.engine.trace import Trace
from emu.errors import InternalError

Clock = tuple[int, ...]
"""For each agent, by its number, how many of its steps."""


@attrs.frozen
class HappensBefore:
    """The order that an execution shares with all interleavings of its trace. Steps count from 1.

    Attributes:
        agents: the number of the agent that took each step.
        footprints: what each step has touched.
        clocks: for each step, how many steps of each agent happened before it or are it.
        direct: for each step, the steps of other agents before it that no step between them orders before it already.
        steps: for each agent, its steps.
    """

    agents: tuple[int, ...]
    footprints: tuple[Footprint, ...]
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

    def place(self, step: int) -> int:
        """Return the number of a step among the steps of its agent, from 1."""
        return self.clocks[step - 1][self.agents[step - 1]]

    def past(self, step: int) -> Iterator[int]:
        """Yield the steps that happen before a step, in order."""
        clock = self.clocks[step - 1]
        return (one for one in range(1, step) if self.place(one) <= clock[self.agents[one - 1]])


class Builder:
    """The clocks, as far as they are computed.

    Attributes:
        latest: for each footprint, the latest step of each agent that has it.
    """

    def __init__(self, agents: int) -> None:
        self.footprints = Footprints()
        self.latest: dict[Footprint, dict[int, int]] = {}
        self.numbers: list[int] = []
        self.clocks: list[list[int]] = []
        self.touched: list[Footprint] = []
        self.direct: list[tuple[int, ...]] = []
        self.steps: list[list[int]] = [[] for _ in range(agents)]

    @classmethod
    def build(cls, trace: Trace, unordered: Collection[Space], agents: int) -> HappensBefore:
        """Compute the clocks of all steps."""
        performed = list(trace.performed())
        builder = cls(agents or max((1 + agent.number for agent, _ in performed), default=0))
        for (agent, operation), declared in zip(performed, trace.declared, strict=True):
            touched, latch = operation.touched(), operation.waits_for
            accesses = declared if touched is None else touched
            if unordered:
                accesses = tuple(access for access in accesses if access.space not in unordered)
            is_ordered = latch is not None and latch.touch.space not in unordered
            builder.add(agent.number, builder.footprints.of(accesses), latch.set_at if latch and is_ordered else 0)
        return HappensBefore(
            tuple(builder.numbers),
            tuple(builder.touched),
            tuple(map(tuple, builder.clocks)),
            tuple(builder.direct),
            tuple(map(tuple, builder.steps)),
        )

    def add(self, agent: int, footprint: Footprint, awaited: int) -> None:
        """Add the next step. It has waited for what the step `awaited` did, if that is not 0."""
        own = self.steps[agent]
        clock = list(self.clocks[own[-1] - 1]) if own else [0] * len(self.steps)
        direct = []
        for earlier in sorted({awaited, *self.conflicting(footprint)} - {0}, reverse=True):
            other, theirs = self.numbers[earlier - 1], self.clocks[earlier - 1]
            if theirs[other] > clock[other]:
                direct.append(earlier)
                clock = list(map(max, clock, theirs))
        self.numbers.append(agent)
        own.append(len(self.numbers))
        clock[agent] = len(own)
        self.clocks.append(clock)
        self.touched.append(footprint)
        self.direct.append(tuple(sorted(direct)))
        self.latest.setdefault(footprint, {})[agent] = own[-1]

    def conflicting(self, footprint: Footprint) -> Iterator[int]:
        """Yield the latest steps of each agent that a step with this footprint depends on."""
        for other in footprint.conflicting:
            yield from self.latest.get(other, {}).values()
