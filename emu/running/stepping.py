"""Stepping through a replay: one step after the other, and back by running again from the start.

Executions are deterministic, so the state after step k is that of every replay after step k. Each step is taken as the
direct host takes it, and the end of the execution is judged as a run judges it. A call that was never awaited is the
whole replay's to report.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter

import attrs

from emu.checks.findings import Finding
from emu.checks.signatures import signature
from emu.engine import Agent, Execution, Trace
from emu.engine.trace import Event
from emu.errors import InternalError
from emu.machine.machine import Machine
from emu.running.replay import Replay
from emu.running.run import Run

WantsStop = Callable[[], bool]


def never() -> bool:
    """Return that nobody wants to stop."""
    return False


@attrs.define(eq=False)
class Stepping:
    """A replay that stands after one of its steps.

    Attributes:
        whole: the same replay, to its end.
        run: the run of the present execution.
        execution: the present execution, whose agents are suspended.
        upcoming: the agent that takes the next step; None once every step is taken.
        new: what the checks have reported after the latest step, or at the end.
        has_ended: the end of the execution was judged, or a mistake or a limit has ended it.
    """

    replay: Replay
    whole: Run
    run: Run = attrs.field(init=False)
    executions: Iterator[Execution] = attrs.field(init=False)
    execution: Execution = attrs.field(init=False)
    upcoming: Agent | None = attrs.field(init=False)
    new: list[Finding] = attrs.field(init=False)
    has_ended: bool = attrs.field(init=False)
    events: dict[str, list[Event]] = attrs.field(init=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        for event in self.whole_trace.events():
            if not event.is_note:
                self.events.setdefault(event.agent.name, []).append(event)
        self.begin()

    @property
    def machine(self) -> Machine:
        """The machine of the present execution."""
        return machine_of(self.run)

    @property
    def step(self) -> int:
        """The number of the latest step; 0 before the first."""
        return self.execution.trace.step

    @property
    def whole_trace(self) -> Trace:
        """The trace of the whole replay."""
        return machine_of(self.whole).trace

    @property
    def steps(self) -> int:
        """How many steps the whole replay takes."""
        return self.whole_trace.step

    @property
    def findings(self) -> list[Finding]:
        """The findings so far; all of the replay's once it has ended."""
        shown = self.run.reported
        return shown.findings if shown is not None and self.run.done else self.machine.found()

    @property
    def agents(self) -> Sequence[Agent]:
        """All agents."""
        return self.execution.agents

    def begin(self) -> None:
        """Begin a fresh execution, and bring its agents to their first operations."""
        self.run = self.replay.prepared()
        self.executions = self.run.each()
        self.upcoming, self.has_ended = None, False
        with self.guarded():
            self.execution = next(self.executions)
            for agent in self.agents:
                self.execution.start(agent)
            self.upcoming = self.execution.pick()
        self.new = self.findings

    def close(self) -> None:
        """End the present execution, wherever it stands."""
        if not self.has_ended:
            self.execution.end()
            self.has_ended = True

    def advance(self, steps: int | None = None, wants_stop: WantsStop = never) -> None:
        """Take so many steps, or all that are left; what comes after the last step is the end of the execution.

        Args:
            wants_stop: asked after each step; no further one is taken once it says so.
        """
        with self.guarded():
            while not self.has_ended and steps != 0:
                self.take()
                steps = None if steps is None else steps - 1
                if wants_stop():
                    return

    def go_to(self, step: int, wants_stop: WantsStop = never) -> None:
        """Go to the state after a step, backwards by a fresh execution; the last step is as far as it goes.

        Args:
            wants_stop: as for `advance`.
        """
        if step < self.step or self.has_ended:
            self.close()
            self.begin()
        steps = min(step, self.steps) - self.step
        if steps:
            self.advance(steps, wants_stop)

    def take(self) -> None:
        """Take the next step; after the last one, end the execution and judge it."""
        self.new, before = [], self.findings
        if self.upcoming is None:
            self.execution.end()
            next(self.executions, None)
            self.has_ended = True
        else:
            self.execution.step(self.upcoming)
            self.upcoming = self.execution.pick()
        if self.findings != before:
            known = {self.mark(one) for one in before}
            self.new = [one for one in self.findings if self.mark(one) not in known]

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Let a mistake of the scenario, or a limit, end the execution."""
        with self.run.guarded():
            yield
        if (self.run.failure is not None or self.run.limit is not None) and not self.has_ended:
            self.execution.end()
            self.has_ended = True

    def in_whole(self, finding: Finding) -> tuple[Finding, Trace]:
        """Return a finding as the whole replay reports it, which knows what follows; itself if it does not last."""
        mark, whole = self.mark(finding)[:2], self.whole.reported
        for one in whole.findings if whole is not None else ():
            if self.mark(one)[:2] == mark:
                return one, self.whole_trace
        return finding, self.execution.trace

    def mark(self, finding: Finding) -> tuple[object, ...]:
        """Return what makes a finding another one than those before: what it is about, its step and its evidence."""
        about = signature(finding, self.execution.trace)
        return about, getattr(finding, "step", None), getattr(finding, "evidence", None)

    def next_event(self, agent: Agent) -> Event | None:
        """Return the event of the next step that an agent takes in the whole replay; None if it takes none."""
        events = self.events.get(agent.name, [])
        place = bisect_right(events, self.step, key=attrgetter("step"))
        return events[place] if place < len(events) else None


def machine_of(run: Run) -> Machine:
    """Return the machine of the present execution of a run.

    Raises:
        InternalError: if no execution has begun.
    """
    if run.machine is None:
        raise InternalError("a replay was to be taken step by step, and has not begun")
    return run.machine
