"""Exploring a scenario: every trace, or as many as a limit allows; the findings are confirmed on Trio tasks."""

import itertools
import time
from collections.abc import Iterator

import attrs

from emu.analysis.judged import Judged
from emu.checks.findings import FindingKind
from emu.checks.signatures import Signature
from emu.engine import Execution, Exploration, Schedule, Strategy
from emu.engine.strategies.random import RandomStrategy
from emu.running.causes import Cause, enter
from emu.running.confirm import Confirmation
from emu.running.coverage import Coverage
from emu.running.executions import Executions, run_each_on
from emu.running.plan import SEARCHES, Plan
from emu.running.repetition import RepeatStrategy, refuse_difference
from emu.running.sampling import Sample
from emu.running.save import SavedSchedule
from emu.running.verdict import Verdict, judge_exploration


@attrs.define(eq=False)
class ScenarioExploration(Executions):
    """The executions of one scenario, and the causes that they show.

    Attributes:
        named: the scenario as the user named it.
        plan: the strategy and the limits.
        coverage: how much was executed.
        causes: the causes by signature, in the order in which they were found.
        showing: how many executions have shown each kind of finding.
    """

    named: str
    plan: Plan = attrs.field(factory=Plan)
    coverage: Coverage = attrs.field(factory=Coverage, init=False)
    causes: dict[Signature, Cause] = attrs.field(factory=dict, init=False)
    showing: dict[FindingKind, int] = attrs.field(factory=dict, init=False)

    def on(self, host: str) -> None:
        """Explore on a host, "trio" or "direct", then confirm each cause on Trio tasks.

        Raises:
            ScenarioError: if the scenario cannot be set up.
        """
        self.run_all(run_each_on(host))
        if self.failure is None:
            with self.forgotten.watched():
                for cause in self.causes.values():
                    self.confirmation.confirm(cause)

    def program(self, strategy: Strategy) -> Execution:
        """Return a fresh execution of the scenario."""
        return self.set_up().execution(strategy)

    def each(self) -> Iterator[Execution]:
        started = time.monotonic()
        yield from self.repeated()
        for execution in self.drawn() if self.plan.is_random else self.searched():
            self.limit = self.reached(started)
            if self.limit is not None:
                return
            yield execution
            self.forgotten.refuse(execution)

    def reached(self, started: float) -> str | None:
        """Return the limit that ends the exploration before the next execution; None if none does."""
        plan = self.plan
        if self.is_stopping:
            return "Ctrl-C"
        if plan.executions is not None and self.done >= plan.executions:
            return f"--executions {plan.executions}"
        if plan.steps is not None and self.coverage.steps >= plan.steps:
            return f"--budget {plan.steps}"
        if plan.seconds is not None and self.done and time.monotonic() - started > plan.seconds:
            return f"--time {plan.seconds:g}"
        return None

    def repeated(self) -> Iterator[Execution]:
        """Yield one execution twice: a search relies on it that a schedule repeats its execution.

        Raises:
            ModelError: if the second execution differs.
        """
        first = self.program(RandomStrategy.seeded(self.plan.seed))
        yield first
        self.forgotten.refuse(first)
        second = self.program(RepeatStrategy(Schedule.of(first.trace)))
        yield second
        refuse_difference(first.trace, second.trace)

    def searched(self) -> Iterator[Execution]:
        """Yield the executions of a search."""
        sections = self.plan.make_sections()
        exploration = Exploration(self.program, SEARCHES[self.plan.strategy], sections)
        for execution in exploration.each():
            yield execution
            if sections is not None and sections.has_left:
                self.forget()
            elif exploration.search.is_blocked:
                self.coverage.blocked += 1
            else:
                self.coverage.share = exploration.search.share
                self.look_at(execution)
            if sections is not None:
                self.coverage.keep_short(sections)
        self.coverage.exhaust()

    def drawn(self) -> Iterator[Execution]:
        """Yield executions under random schedules."""
        sample = Sample()
        for seed in itertools.count(self.plan.seed):
            strategy = sample.strategy(seed)
            execution = self.program(strategy)
            strategy.execution = execution
            yield execution
            sample.add(execution, strategy)
            self.coverage.traces = sample.traces
            self.look_at(execution)

    def forget(self) -> None:
        """Begin anew, because a section was not as declared."""
        self.done = 0
        self.judged = Judged()
        self.coverage.forget()
        self.causes.clear()
        self.showing.clear()

    def look_at(self, execution: Execution) -> None:
        """Count an execution that has ended, and enter its findings under their causes."""
        self.done += 1
        self.coverage.steps += execution.trace.step
        self.judged.add(execution.trace)
        findings = self.conclude(execution)
        enter(self.causes, self.done, findings, execution.trace)
        for kind in dict.fromkeys(finding.kind for finding in findings):
            self.showing[kind] = self.showing.get(kind, 0) + 1
        self.on_progress()

    @property
    def confirmation(self) -> Confirmation:
        """The confirmation of this exploration's findings."""
        plan, covered = self.plan, self.coverage
        return Confirmation(
            self.bound,
            self.named,
            plan.strategy,
            plan.shrink,
            covered.short,
            covered.is_exhausted,
            lambda: self.is_stopping,
        )

    def failing_schedule(self) -> SavedSchedule | None:
        """Return the schedule that leads to the scenario's mistake; None if there is none, or it does not repeat it."""
        if self.failure is None or self.machine is None:
            return None
        return self.confirmation.failing_schedule(Schedule.of(self.machine.trace), self.done + 1)

    @property
    def is_exhausted(self) -> bool:
        """Whether every trace was executed."""
        return self.coverage.is_exhausted

    @property
    def verdict(self) -> Verdict:
        """The verdict of the exploration on the claim."""
        kinds = (one.kind for one in self.causes)
        findings = (finding for cause in self.causes.values() if (finding := cause.finding) is not None)
        return judge_exploration(
            self.bound.expectation,
            kinds,
            findings,
            is_exhausted=self.is_exhausted,
            has_evaluated_all=not self.not_proved,
        )

    @property
    def not_proved(self) -> list[str]:
        """The unbroken claims that declare no object: an interleaving that was not executed may break them."""
        if self.machine is None or not self.plan.is_reduced:
            return []
        broken = {one.check for one in self.causes if one.kind is FindingKind.ASSERTION}
        return [claim.text for claim in self.machine.claims if claim.is_undeclared and claim.text not in broken]

    @property
    def has_emulator_bug(self) -> bool:
        """Whether the emulator's check of itself has failed."""
        return any(one.kind is FindingKind.ILLEGAL for one in self.causes)
