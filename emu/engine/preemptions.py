"""Preemptions: how many an execution has up to a step, and how few an interleaving of its trace can have.

A preemption is a step of another agent while the agent that took the last step could go on. Engines are free: their
steps are not counted, and looked through.

Of all interleavings of a trace the best is found over its prefixes, which are far fewer: a prefix is given by how many
steps each agent has taken. A prefix with fewer preemptions goes first, then one with fewer switches, then a shorter
one.
"""

import heapq
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import attrs

from emu.engine.accesses import Space
from emu.engine.agents import Agent
from emu.engine.happens_before import HappensBefore
from emu.engine.locks import Acquire, Release, TakeTicket
from emu.engine.operations import Choose
from emu.engine.trace import Trace

STATES_MAX = 200_000

NOBODY = -1


class Cost(NamedTuple):
    """What an interleaving costs its reader, up to a step."""

    preemptions: int
    switches: int
    steps: int


class State(NamedTuple):
    """A prefix of an interleaving.

    Attributes:
        taken: for each agent, how many steps it has taken.
        last: the agent that took the last step.
        going: the agent that took the last step that was no engine's.
        queues: for each lock whose order is free, its holder and those who wait.
    """

    taken: tuple[int, ...]
    last: int
    going: int
    queues: tuple[tuple[int, ...], ...]


class TooManyStatesError(Exception):
    """There are more prefixes than may be looked at."""


@attrs.frozen
class Recorded:
    """The steps of an execution, and what each needs.

    Attributes:
        order: which steps come before which in every interleaving.
        awaited: for each step, the step that set the latch that it waited for; 0 if it did not wait.
        locking: for each step that takes a ticket of a lock whose order is free, gets the lock or releases it: the
            class of the operation, and the index of the lock.
        chosen: for each step, what it chose.
        is_free: for each agent, whether its steps are not counted.
        goes_on: for each agent, whether it could have gone on after its last step.
        locks: how many locks there are whose order is free.
    """

    order: HappensBefore
    awaited: tuple[int, ...]
    locking: dict[int, tuple[type, int]]
    chosen: dict[int, int]
    is_free: tuple[bool, ...]
    goes_on: tuple[bool, ...]
    locks: int

    @classmethod
    def of(cls, trace: Trace, agents: Sequence[Agent], unordered: Collection[Space] = ()) -> "Recorded":
        """Return the steps of an execution that has ended.

        Args:
            agents: all of its agents, by number.
            unordered: the locks whose sections may come in any order, as short sections do.
        """
        order, free = HappensBefore.of(trace, unordered, len(agents)), sorted(unordered)
        awaited: list[int] = []
        locking: dict[int, tuple[type, int]] = {}
        chosen: dict[int, int] = {}
        for step, (_, operation) in enumerate(trace.performed(), start=1):
            lock = lock_of(operation)
            latch = operation.waits_for
            is_free = lock in unordered
            if lock is not None and is_free:
                locking[step] = (type(operation), free.index(lock))
            awaited.append(latch.set_at if latch is not None and not is_free else 0)
            if isinstance(operation, Choose):
                chosen[step] = operation.chosen
        return cls(
            order,
            tuple(awaited),
            locking,
            chosen,
            tuple(agent.is_daemon for agent in agents),
            tuple(not agent.is_done and agent.can_step() for agent in agents),
            len(free),
        )

    def initial(self) -> State:
        """Return the prefix without any step."""
        return State((0,) * len(self.is_free), NOBODY, NOBODY, ((),) * self.locks)

    def next_of(self, state: State, agent: int) -> int | None:
        """Return the next step of an agent; None if it takes none."""
        steps = self.order.steps[agent]
        return steps[state.taken[agent]] if state.taken[agent] < len(steps) else None

    def has_taken(self, state: State, step: int) -> bool:
        """Whether a step is in a prefix; 0 stands for the start, which is in all."""
        return not step or self.order.place(step) <= state.taken[self.order.agents[step - 1]]

    def can_go_on(self, state: State, agent: int) -> bool:
        """Whether an agent could take a step after a prefix, be it another one than the trace's."""
        step = self.next_of(state, agent)
        if step is None:
            return self.goes_on[agent]
        kind, lock = self.locking.get(step, (None, 0))
        if kind is Acquire:
            return state.queues[lock][0] == agent
        return self.has_taken(state, self.awaited[step - 1])

    def can_take(self, state: State, agent: int) -> bool:
        """Whether the agent's next step of the trace can come next."""
        step = self.next_of(state, agent)
        if step is None or not self.can_go_on(state, agent):
            return False
        clock = self.order.clocks[step - 1]
        return all(mine <= theirs for mine, theirs in zip(clock, ahead(state.taken, agent), strict=True))

    def take(self, state: State, agent: int) -> State:
        """Return the prefix with the next step of an agent."""
        step = self.order.steps[agent][state.taken[agent]]
        going = state.going if self.is_free[agent] else agent
        queues = state.queues
        if step in self.locking:
            kind, lock = self.locking[step]
            queue = queues[lock]
            after = (*queue, agent) if kind is TakeTicket else queue[1:] if kind is Release else queue
            queues = (*queues[:lock], after, *queues[lock + 1 :])
        return State(ahead(state.taken, agent), agent, going, queues)

    def preempts(self, state: State, agent: int) -> bool:
        """Whether a step of an agent after a prefix is a preemption."""
        going = state.going
        return going not in (NOBODY, agent) and not self.is_free[agent] and self.can_go_on(state, going)

    def prefixes(self, goal: int) -> Iterator[tuple[State, int]]:
        """Yield the prefix of the execution before each step up to a step, and the agent that takes the step."""
        state = self.initial()
        for agent in self.order.agents[:goal]:
            yield state, agent
            state = self.take(state, agent)

    def cost(self, goal: int) -> Cost:
        """Return what the execution itself costs up to a step."""
        preemptions = switches = 0
        for state, agent in self.prefixes(goal):
            preemptions += self.preempts(state, agent)
            switches += state.last not in (NOBODY, agent)
        return Cost(preemptions, switches, goal)

    def preempting(self, goal: int) -> Iterator[int]:
        """Yield the steps that are preemptions, up to a step."""
        taken = enumerate(self.prefixes(goal), start=1)
        return (step for step, (state, agent) in taken if self.preempts(state, agent))

    def best(self, goal: int, below: Cost | None = None) -> tuple[Cost, list[int]] | None:
        """Return the cheapest interleaving that reaches a step, by the steps of this execution, and what it costs.

        Args:
            below: only one that costs less; None for any.

        Raises:
            TooManyStatesError: if more than `STATES_MAX` prefixes had to be looked at.
        """
        return Search(self, goal, below).run()


@attrs.define
class Search:
    """The search for the cheapest interleaving.

    Attributes:
        came_from: for each prefix that was reached, the one before it, and the cost of both ways so far.
    """

    recorded: Recorded
    goal: int
    below: Cost | None
    came_from: dict[State, tuple[State | None, Cost]] = attrs.field(factory=dict)

    def run(self) -> tuple[Cost, list[int]] | None:
        """Go from prefix to prefix, the cheapest first."""
        recorded = self.recorded
        first = recorded.initial()
        self.came_from[first] = None, Cost(0, 0, 0)
        to_do, entered = [(Cost(0, 0, 0), 0, first)], 0
        while to_do:
            cost, _, state = heapq.heappop(to_do)
            if self.came_from[state][1] < cost:
                continue
            if recorded.has_taken(state, self.goal):
                return cost, list(self.way(state))
            for agent in range(len(recorded.is_free)):
                if recorded.can_take(state, agent):
                    following, total = self.follow(state, cost, agent)
                    if self.enter(state, following, total):
                        entered += 1
                        heapq.heappush(to_do, (total, entered, following))
        return None

    def follow(self, state: State, cost: Cost, agent: int) -> tuple[State, Cost]:
        """Return the prefix with one more step, and what it costs."""
        recorded = self.recorded
        preemptions = cost.preemptions + recorded.preempts(state, agent)
        switches = cost.switches + (state.last not in (NOBODY, agent))
        return recorded.take(state, agent), Cost(preemptions, switches, cost.steps + 1)

    def enter(self, state: State, following: State, cost: Cost) -> bool:
        """Keep a way to a prefix if it is the cheapest so far; return whether it is.

        Raises:
            TooManyStatesError: if there are too many prefixes.
        """
        if self.below is not None and cost >= self.below:
            return False
        known = self.came_from.get(following)
        if known is not None and known[1] <= cost:
            return False
        if known is None and len(self.came_from) >= STATES_MAX:
            raise TooManyStatesError
        self.came_from[following] = state, cost
        return True

    def way(self, state: State) -> list[int]:
        """Return the steps that lead to a prefix."""
        steps: list[int] = []
        while (before := self.came_from[state][0]) is not None:
            steps.append(self.recorded.order.steps[state.last][before.taken[state.last]])
            state = before
        return steps[::-1]


def ahead(taken: tuple[int, ...], agent: int) -> tuple[int, ...]:
    """Return how many steps each agent has taken after one more of an agent."""
    return (*taken[:agent], taken[agent] + 1, *taken[agent + 1 :])


def lock_of(operation: object) -> Space | None:
    """Return the lock that an operation takes a ticket of, gets or releases; None if it is another operation."""
    match operation:
        case TakeTicket() | Release():
            return operation.lock.space
        case Acquire():
            return operation.ticket.lock.space
    return None
