"""Every trace of a program, counted the plain way: what the searches are measured against.

Two interleavings are the same trace if each agent chooses the same in them, and every two steps that conflict come in
the same order. So a trace is known by what each agent chose at each of its steps, and by how many steps of each agent
happened before that step.

The count goes depth first over the classes of prefixes, never into one of them twice. An execution cannot be copied,
so each way that is left aside is reached by a run of its own, from the start.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import attrs

from emu.engine import Access, Agent, Choose, Execution, Trace

Program = Callable[[], list[Agent]]
"""Makes fresh agents, the same ones each time."""

Way = tuple[int, int]
"""An agent by number, and what it chooses; 0 if nothing."""

Clock = tuple[int, ...]
"""How many steps of each agent happened before a step, itself included."""

Form = tuple[tuple[tuple[int, Clock], ...], ...]
"""A trace: for each agent what it chose at each step, and the clock of the step."""


class Performed(NamedTuple):
    """A step, what it chose and what it touched."""

    agent: int
    chosen: int
    touched: tuple[Access, ...]
    clock: Clock


@attrs.define
class Traces:
    """The traces of a program."""

    all: set[Form] = attrs.field(factory=set)
    deadlocked: set[Form] = attrs.field(factory=set)


class Script:
    """A strategy that is told what to choose."""

    chosen = 0

    def pick(self, enabled: Sequence[Agent]) -> Agent | None:
        return None

    def choose(self, choice: Choose) -> int:
        return self.chosen


class Run:
    """An execution that is taken step by step."""

    def __init__(self, program: Program) -> None:
        self.agents = program()
        self.script = Script()
        self.execution = Execution(self.agents, self.script, Trace())
        self.path: tuple[Way, ...] = ()
        self.steps: list[Performed] = []
        for agent in self.agents:
            self.execution.start(agent)

    @property
    def form(self) -> Form:
        return form_of(len(self.agents), self.steps)

    @property
    def is_deadlocked(self) -> bool:
        """Whether an agent is left that no one can wake; to be asked once there is no way to go on."""
        return any(agent.pending is not None and not agent.is_daemon for agent in self.agents)

    def ways(self) -> list[Way]:
        """Return in which ways the execution can go on."""
        return [
            (number, chosen)
            for number, agent in enumerate(self.agents)
            if agent.pending is not None and (agent.pending.waits_for is None or agent.pending.waits_for.is_set)
            for chosen in range(agent.pending.count if isinstance(agent.pending, Choose) else 1)
        ]

    def take(self, *path: Way) -> "Run":
        """Take these steps, and return the run."""
        for number, chosen in path:
            self.script.chosen = chosen
            operation = self.agents[number].pending
            assert operation is not None
            announced = tuple(operation.accesses())
            self.execution.step(self.agents[number])
            touched = operation.touched()
            add_step(self.steps, len(self.agents), number, chosen, announced if touched is None else touched)
        self.path += path
        return self


def add_step(steps: list[Performed], agents: int, agent: int, chosen: int, touched: Iterable[Access]) -> None:
    """Append a step, with the clock that it has after those before it."""
    accesses = tuple(touched)
    clock = [0] * agents
    for step in steps:
        if step.agent == agent or any(one.conflicts(two) for one in accesses for two in step.touched):
            clock = [max(pair) for pair in zip(clock, step.clock, strict=True)]
    clock[agent] += 1
    steps.append(Performed(agent, chosen, accesses, tuple(clock)))


def form_of(agents: int, steps: Sequence[Performed]) -> Form:
    """Return the trace that an interleaving belongs to."""
    of_agent: list[list[tuple[int, Clock]]] = [[] for _ in range(agents)]
    for step in steps:
        of_agent[step.agent].append((step.chosen, step.clock))
    return tuple(map(tuple, of_agent))


def performed_by(execution: Execution) -> list[Performed]:
    """Return the steps of an execution that has ended, each with what its operation says now that it touched."""
    steps: list[Performed] = []
    for agent, operation in execution.trace.performed():
        touched = operation.touched()
        chosen = operation.chosen if isinstance(operation, Choose) else 0
        accesses = operation.accesses() if touched is None else touched
        add_step(steps, len(execution.agents), agent.number, chosen, accesses)
    return steps


def traces_of(program: Program, *, classes_max: int, at_end: Callable[[Run], object] | None = None) -> Traces | None:
    """Return every trace of a program; None if its prefixes are in more classes than that.

    Args:
        at_end: called with a run of each trace.
    """
    traces = Traces()
    seen: set[Form] = set()
    todo: list[tuple[Way, ...]] = [()]
    while todo:
        run = Run(program).take(*todo.pop())
        while (form := run.form) not in seen and len(seen) < classes_max:
            seen.add(form)
            ways = run.ways()
            if not ways:
                traces.all.add(form)
                if at_end is not None:
                    at_end(run)
                if run.is_deadlocked:
                    traces.deadlocked.add(form)
                break
            todo += [(*run.path, way) for way in ways[1:]]
            run.take(ways[0])
        run.execution.end()
        if len(seen) >= classes_max:
            return None
    return traces


def interleavings_of(program: Program, *path: Way) -> int:
    """Return in how many ways a program can go on after these steps to its end."""
    run = Run(program).take(*path)
    ways = run.ways()
    run.execution.end()
    return sum(interleavings_of(program, *path, way) for way in ways) if ways else 1
