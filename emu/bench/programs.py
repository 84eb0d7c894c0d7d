"""A search over a benchmark: its counts, and its time against that of a plain loop.

The plain loop sends the same coroutines through the same schedules and records nothing: its time is that of the
executions alone. Another pass, which is not timed, identifies their traces.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from emu.bench.benchmark import Program
from emu.bench.timing import best_times
from emu.engine import Execution, Exploration, Trace
from emu.engine.dependence import Footprints, NormalForm, accesses_of, normal_form
from emu.engine.execution import ExecutionEnded
from emu.engine.hosts import direct
from emu.engine.strategies.optimal import Optimal


@attrs.frozen
class Counts:
    """The numbers that an exploration counts.

    Attributes:
        executions: how many executions came to their end.
        blocked: how many were given up on the way.
        deadlocks: how many of the executions ended in a deadlock.
        traces: how many distinct traces the executions have.
        steps: the steps of all executions and blocked ones.
        schedules: for each, the number of the agent that took each step.
    """

    executions: int
    blocked: int
    deadlocks: int
    traces: int
    steps: int
    schedules: tuple[bytes, ...] = attrs.field(repr=False)


@attrs.frozen
class ProgramMeasure:
    """The counts and the time of a program's exploration.

    Attributes:
        seconds: the time of the exploration.
        plain_seconds: the time of the plain loop.
    """

    program: Program
    counts: Counts
    seconds: float
    plain_seconds: float

    @property
    def ratio(self) -> float:
        """How many times longer the exploration took."""
        return self.seconds / self.plain_seconds

    def mistakes(self) -> list[str]:
        """Return a sentence for each count that differs from the known one."""
        return [f"{self.program.name}: {mistake}" for mistake in mistakes(self.program, self.counts)]


def mistakes(known: Program, counts: Counts) -> list[str]:
    """Return a clause for each count that differs from the known one."""
    found = []
    if counts.traces != known.traces:
        found.append(f"{counts.traces} distinct traces, and there are {known.traces}")
    if counts.executions > known.executions_max:
        found.append(f"{counts.executions} executions, and {known.executions_max} are enough")
    if known.is_exact and counts.blocked:
        found.append(f"{counts.blocked} executions were given up, and none has to be")
    if known.is_exact and counts.deadlocks != known.deadlocks:
        found.append(f"{counts.deadlocks} executions end in a deadlock, and {known.deadlocks} of the traces do")
    return found


def measure(program: Program) -> ProgramMeasure:
    """Explore a program, count, and time it against the plain loop."""
    counts = count(program)
    seconds, plain_seconds = best_times(
        lambda: direct.run_each(exploration_of(program).each()), lambda: repeat(program, counts.schedules)
    )
    return ProgramMeasure(program, counts, seconds, plain_seconds)


def exploration_of(program: Program) -> Exploration:
    """Return an exploration of a program, not yet begun."""
    return Exploration(lambda strategy: Execution(program.make(), strategy, Trace()), Optimal)


def count(program: Program) -> Counts:
    """Explore a program and look at every execution."""
    exploration, footprints = exploration_of(program), Footprints()
    forms: set[NormalForm] = set()
    shared: dict[Any, Any] = {}  # the levels of one agent recur in many traces, and are kept once
    schedules = []
    for execution in exploration.each():
        direct.run(execution)
        performed = list(execution.trace.performed())
        schedules.append(bytes(agent.number for agent, _ in performed))
        if not exploration.search.is_blocked:
            steps = [(agent.number, 0, footprints.of(accesses_of(operation))) for agent, operation in performed]
            form = normal_form(len(execution.agents), steps)
            forms.add(tuple(shared.setdefault(levels, levels) for levels in form))
    return Counts(
        exploration.executions,
        exploration.blocked,
        exploration.deadlocks,
        len(forms),
        exploration.steps,
        tuple(schedules),
    )


def repeat(program: Program, schedules: Iterable[Sequence[int]]) -> None:
    """Send the agents of a program through these schedules, and do nothing else: the plain loop."""
    for schedule in schedules:
        coroutines = [agent.body() for agent in program.make()]
        pending: list[Any] = [coroutine.send(None) for coroutine in coroutines]
        for step, number in enumerate(schedule, 1):
            value = pending[number].perform(step)
            try:
                pending[number] = coroutines[number].send(value)
            except StopIteration:
                pending[number] = None
        for coroutine, operation in zip(coroutines, pending, strict=True):
            if operation is not None:
                finish(coroutine)


def finish(coroutine: Any) -> None:
    """End a coroutine that waits for ever; the operations of its cleanup are not performed."""
    try:
        coroutine.throw(ExecutionEnded())
        while True:
            coroutine.send(None)
    except (ExecutionEnded, StopIteration):
        return
