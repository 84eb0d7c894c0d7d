"""Executions of one scenario on one host, one after the other: the base of a run and an exploration."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import attrs

from emu.analysis.judged import Judged
from emu.checks.findings import Finding
from emu.engine import Execution
from emu.engine.hosts import direct
from emu.engine.hosts import trio as controlled
from emu.engine.never_awaited import Forgotten
from emu.engine.watchdog import watchdog
from emu.errors import LimitReached, ModelError, ScenarioError
from emu.machine.machine import Machine
from emu.running.verdict import Verdict
from emu.scenarios.scenario import BoundScenario

RunEach = Callable[[Iterable[Execution]], None]
"""Runs executions one after the other; each is asked for when the one before it has ended."""


def run_each_on(host: str) -> RunEach:
    """Return the function that runs executions on a host, "trio" or "direct"."""
    return direct.run_each if host == "direct" else controlled.run_each


@attrs.define(eq=False)
class Executions(ABC):
    """Executions of one scenario, one after the other, on a fresh machine each.

    Attributes:
        machine: the machine of the present execution.
        started: how many executions have begun.
        done: how many executions have ended.
        limit: the limit that ended them early, in words.
        has_reached_limit: that was a limit of one execution.
        failure: the mistake of the scenario that ended them.
        is_stopping: the present execution is the last.
        on_progress: called when an execution has ended.
        forgotten: the calls that were never awaited.
        judged: how often the checks were asked in the executions that count.
    """

    bound: BoundScenario
    machine: Machine | None = attrs.field(default=None, init=False)
    started: int = attrs.field(default=0, init=False)
    done: int = attrs.field(default=0, init=False)
    limit: str | None = attrs.field(default=None, init=False)
    has_reached_limit: bool = attrs.field(default=False, init=False)
    failure: ModelError | None = attrs.field(default=None, init=False)
    is_stopping: bool = attrs.field(default=False, init=False)
    on_progress: Callable[[], None] = attrs.field(default=lambda: None, init=False)
    forgotten: Forgotten = attrs.field(factory=Forgotten, init=False)
    judged: Judged = attrs.field(factory=Judged, init=False)

    @abstractmethod
    def each(self) -> Iterator[Execution]:
        """Yield executions, and evaluate each when it has ended."""

    @property
    @abstractmethod
    def verdict(self) -> Verdict:
        """The verdict of all executions on the claim."""

    @property
    @abstractmethod
    def has_emulator_bug(self) -> bool:
        """Whether the emulator's check of itself has failed."""

    def run_all(self, run_each: RunEach) -> None:
        """Run the executions, until there are no more, a limit is reached or the scenario makes a mistake."""
        with self.guarded(), self.forgotten.watched():
            run_each(self.each())

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Watch the agents, and keep the limit or the mistake of the scenario that ends the body."""
        try:
            with watchdog(self.progress):
                yield
        except LimitReached as limit:
            self.limit = str(limit)
            self.has_reached_limit = True
        except ModelError as failure:
            self.failure = failure

    def progress(self) -> tuple[int, int]:
        """Return a value that changes with every step."""
        return self.started, -1 if self.machine is None else self.machine.trace.step

    def set_up(self, *, sources: bool = False) -> Machine:
        """Return a fresh machine with the scenario's cast, for the next execution."""
        self.started += 1
        self.machine = self.bound.build(sources=sources, is_checking=True)
        self.refuse_sequential(self.machine)
        return self.machine

    def conclude(self, execution: Execution) -> list[Finding]:
        """Return the findings of the present machine in its execution."""
        return [] if self.machine is None else self.machine.conclude(execution)

    def refuse_sequential(self, machine: Machine) -> None:
        """Refuse a scenario in which nothing runs concurrently, unless it declares that.

        Raises:
            ScenarioError: naming the scenario.
        """
        scenario = self.bound.scenario
        actors = [agent for agent in machine.agents if not agent.is_daemon]
        if len(actors) == 1 and not scenario.is_sequential:
            raise ScenarioError(
                f"in {scenario.name} nothing runs concurrently: give a second CPU or a device something to do, or "
                "declare it with @scenario(sequential=True)"
            )
