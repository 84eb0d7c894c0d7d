"""One execution of every trace: optimal dynamic partial order reduction with wakeup trees.

After Abdulla, Aronis, Jonsson and Sagonas (POPL 2014, JACM 2017). What is particular here:

* A choice has an edge for each of its alternatives. Inside a sequence each step keeps its choice; the last step, the
  reversed one, is open. When an open edge or an unprescribed step is taken, its other alternatives become edges beside
  it.
* An agent waits for latches only, and a latch is set once. So the step that sets a latch and the wait that it ends have
  only one order, and a blocked agent is in no race: the step that it depends on never came.
* What a step has touched decides which steps depend on it. What it might have touched decides which steps it could be
  swapped with in later executions (see `Operation.touched`): no trace is missed, but where kinds depend on state some
  may be executed twice.
* Clocks and races are computed for the new part of an execution. All races are reversed after each execution, because
  the sequence that goes with a reversed step depends on the later steps, too.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any

from emu.engine.agents import Agent
from emu.engine.dependence import Footprint, Footprints
from emu.engine.execution import Execution
from emu.engine.operations import Choose, Operation
from emu.engine.strategies import alternative_count, not_planned, not_repeated
from emu.engine.strategies.wakeup import Edge, can_begin, insert

NOTHING = Footprint(())
NOWHERE: dict[int, list[int]] = {}

Sleep = dict[tuple[int, int], Footprint]
"""Steps (agent, choice) that need not be taken, because all executions that go on with them were explored."""


class Point:
    """The state of an execution before a step.

    Attributes:
        sleep: the steps that need not be taken here, each with its footprint.
        edges: the steps left to take here; the first one is being explored.
        explored: how many steps were taken here and are explored.
    """

    __slots__ = ("edges", "explored", "sleep")

    def __init__(self, sleep: Sleep, edges: list[Edge]) -> None:
        self.sleep = sleep
        self.edges = edges
        self.explored = 0


class Taken(Edge):
    """A step of the present execution.

    Attributes:
        operation: the operation performed.
        touched: what the step has touched; `footprint` is what it might have touched.
        step: its number in the trace; a section has the number of its first step.
        place: its number among the steps of its agent, from 1.
        clock: for each agent, how many of its steps happened before this step; this step counts itself.
        races: by index, the earlier steps of other agents that could have come after this step; for each, the sequence
            last planned in its place, without this step.
    """

    __slots__ = ("clock", "operation", "place", "races", "step", "touched")

    def __init__(self, edge: Edge, footprint: Footprint, operation: Operation[Any], step: int) -> None:
        self.agent = edge.agent
        self.chosen = edge.chosen
        self.edges = edge.edges
        self.is_open = False
        self.operation = operation
        self.footprint = self.touched = footprint
        self.step = step
        self.place = 0
        self.clock: list[int] = []
        self.races: dict[int, list[Taken] | None] = {}


class Optimal:
    """Optimal dynamic partial order reduction.

    Attributes:
        taken: the steps of the present execution, or the prefix with which it begins.
        points: one before each of these steps, and perhaps one after the last.
        checked: how many of these steps have their clocks and races.
        by_agent: the indexes in `taken` of each agent's steps, as far as `checked`.
        by_footprint: the same indexes, for each footprint that these steps have touched.
        is_blocked: the present execution was given up: it can only repeat an explored one.
    """

    def __init__(self, footprints: Footprints | None = None) -> None:
        self.footprints = footprints or Footprints()
        self.taken: list[Taken] = []
        self.points: list[Point] = []
        self.by_agent: list[list[int]] = []
        self.by_footprint: dict[Footprint, dict[int, list[int]]] = {}
        self.checked = 0
        self.depth = 0
        self.is_blocked = False
        self.agents: Sequence[Agent] = ()
        self.execution: Execution | None = None
        self.beginning: Iterator[Agent] = iter(())

    def begin(self, execution: Execution) -> None:
        """Serve another execution of the same program, from its start."""
        self.execution = execution
        self.agents = execution.agents
        self.depth = 0
        self.beginning = self.prescribed()
        self.is_blocked = False
        if not self.by_agent:
            self.by_agent = [[] for _ in execution.agents]

    def pick(self, enabled: Sequence[Agent]) -> Agent | None:
        prescribed = next(self.beginning, None)
        if prescribed is not None:
            return prescribed
        depth = self.depth
        self.depth = depth + 1
        if depth == len(self.points):
            self.points.append(self.next_point())
        point = self.points[depth]
        edge = point.edges[0] if point.edges else self.unprescribed(point, enabled)
        if edge is None:
            self.is_blocked = True
            return None
        return self.take(point, edge)

    def prescribed(self) -> Iterator[Agent]:
        """Yield the agent of each step in the prefix with which the execution begins.

        Raises:
            ModelError: if an agent does not do again what it did in an earlier execution.
        """
        agents = self.agents
        for before in self.taken:
            agent = agents[before.agent]
            pending = agent.pending
            self.depth += 1
            if pending is None or not agent.is_enabled or type(pending) is not type(before.operation):
                raise not_repeated(agent, self.depth)
            before.operation = pending
            yield agent

    def choose(self, choice: Choose) -> int:
        return self.taken[self.depth - 1].chosen

    def next_point(self) -> Point:
        """Return the point after the last step: the steps that sleep there, and the steps left to take."""
        if not self.taken:
            return Point({}, [])
        self.note_touched()
        last, sleep = self.taken[-1], self.points[-1].sleep
        if sleep:
            conflicting, agent = last.footprint.conflicting, last.agent
            sleep = {step: what for step, what in sleep.items() if step[0] != agent and what not in conflicting}
        else:
            sleep = {}
        return Point(sleep, last.edges)

    def note_touched(self) -> None:
        """Keep the accesses that the last step has made, now that it was taken."""
        last, execution = self.taken[-1], self.execution
        touched = None if execution is None else execution.touched_by(last.operation)
        if touched is not None:
            last.touched = self.footprints.of(touched)

    def unprescribed(self, point: Point, enabled: Sequence[Agent]) -> Edge | None:
        """Return a step where no edge prescribes one, preferably of the last step's agent; None if all steps sleep."""
        if self.taken:
            last = self.agents[self.taken[-1].agent]
            edge = awake(last, point.sleep) if last.is_enabled else None
            if edge is not None:
                return edge
        return next((edge for agent in enabled if (edge := awake(agent, point.sleep)) is not None), None)

    def take(self, point: Point, edge: Edge) -> Agent:
        """Take the first edge of a point, with the operation that its agent has now announced.

        Raises:
            ModelError: if the agent cannot go on.
        """
        agent = self.agents[edge.agent]
        pending, execution = agent.pending, self.execution
        if pending is None or not agent.is_enabled or execution is None:
            raise not_planned(agent, self.depth)
        step = Taken(edge, self.footprints.of(execution.announced_by(agent)), pending, execution.trace.step + 1)
        point.edges[:1] = [step]
        if edge.is_open and isinstance(pending, Choose):
            self.open(point, step, pending.count)
        self.taken.append(step)
        return agent

    def open(self, point: Point, step: "Taken", count: int) -> None:
        """Add an edge for every alternative of an open edge that does not sleep.

        These edges come before the edges of other agents, so all alternatives sleep when another agent's edge is taken.
        """
        there = {other.chosen for other in point.edges if other.agent == step.agent and other is not step}
        step.chosen, *others = (
            chosen for chosen in range(count) if (step.agent, chosen) not in point.sleep and chosen not in there
        )
        point.edges[1:1] = [Edge(step.agent, chosen, step.footprint, is_open=False) for chosen in others]

    def advance(self) -> bool:
        """Plan to reverse the races of the ended execution, and turn to the next one; return whether there is one."""
        if not self.is_blocked:
            if self.taken:
                self.note_touched()
            self.plan()
        return self.go_back()

    def plan(self) -> None:
        """Find the races of the execution, and plan to explore each in the reverse order."""
        for index in range(self.checked, len(self.taken)):
            self.check(index)
        self.checked = len(self.taken)
        taken, points = self.taken, self.points
        for step in taken:
            for earlier, before in step.races.items():
                first = taken[earlier]
                agent, place = first.agent, first.place
                independent = [one for one in taken[earlier + 1 :] if one.clock[agent] < place and one is not step]
                if independent != before:
                    step.races[earlier] = independent
                    self.reverse(points[earlier], [*independent, Edge(step.agent, 0, step.footprint, is_open=True)])

    def reverse(self, point: Point, sequence: list[Edge]) -> None:
        """Plan to explore a sequence from a point, unless an equivalent one was explored or is planned."""
        if not any(can_begin(*step, footprint, sequence) for step, footprint in point.sleep.items()):
            insert(point.edges, sequence)

    def check(self, index: int) -> None:
        """Compute the clock of a step, and its races."""
        taken = self.taken
        step = taken[index]
        indexes = self.by_agent[step.agent]
        clock = list(taken[indexes[-1]].clock) if indexes else [0] * len(self.by_agent)
        latch = step.operation.waits_for
        if latch is not None and latch.set_at:
            merge(clock, taken[self.index_at(latch.set_at)].clock)
        latest: dict[int, int] = {}
        for footprint in step.touched.conflicting:
            for agent, others in self.by_footprint.get(footprint, NOWHERE).items():
                if others and taken[others[-1]].place > clock[agent] and others[-1] > latest.get(agent, -1):
                    latest[agent] = others[-1]
        for other in sorted(latest.values(), reverse=True):
            earlier = taken[other]
            if earlier.place > clock[earlier.agent]:
                step.races[other] = None
                merge(clock, earlier.clock)
        indexes.append(index)
        self.by_footprint.setdefault(step.touched, {}).setdefault(step.agent, []).append(index)
        step.place = clock[step.agent] = len(indexes)
        step.clock = clock

    def index_at(self, step: int) -> int:
        """Return the index in `taken` of the step with this number in the trace."""
        return bisect_right(self.taken, step, key=lambda one: one.step) - 1

    def go_back(self) -> bool:
        """Go back to the last point with an edge left to take; return whether there is one."""
        while self.points:
            if len(self.taken) == len(self.points):
                step, point = self.taken.pop(), self.points[-1]
                if len(self.taken) < self.checked:
                    self.by_agent[step.agent].pop()
                    self.by_footprint[step.touched][step.agent].pop()
                point.sleep[(step.agent, step.chosen)] = step.footprint
                del point.edges[0]
                point.explored += 1
                if point.edges:
                    break
            self.points.pop()
        self.checked = min(self.checked, len(self.taken))
        return bool(self.points)

    @property
    def share(self) -> float:
        """An estimate of the explored share of the space, as far as the space is known."""
        done, rest = 0.0, 1.0
        for point in self.points:
            rest /= point.explored + max(len(point.edges), 1)
            done += rest * point.explored
        return done


def awake(agent: Agent, sleep: Sleep) -> Edge | None:
    """Return an agent's next step as an open edge; None if all its alternatives sleep."""
    for chosen in range(alternative_count(agent)):
        if (agent.number, chosen) not in sleep:
            return Edge(agent.number, chosen, NOTHING, is_open=True)
    return None


def merge(clock: list[int], other: Sequence[int]) -> None:
    """Raise each component of a clock to that of another clock."""
    for agent, place in enumerate(other):
        clock[agent] = max(clock[agent], place)
