"""Running a scenario: one execution a seed, until the declared finding shows."""

import random
from collections.abc import Callable, Iterator
from enum import Enum

import attrs
import trio

from emu.checks.findings import Finding, Illegal
from emu.engine import Execution, Schedule, Strategy
from emu.engine.forgotten import Forgotten
from emu.engine.hosts import direct, free
from emu.engine.hosts import trio as controlled
from emu.engine.strategies.random import RandomStrategy
from emu.engine.strategies.replay import ReplayStrategy
from emu.engine.strategies.round_robin import RoundRobinStrategy
from emu.engine.watchdog import watchdog
from emu.errors import LimitReached, ModelError, ScenarioError
from emu.machine.machine import Machine
from emu.scenarios.expectation import Expectation
from emu.scenarios.scenario import BoundScenario, Scenario
from emu.units import Dfn


class Verdict(Enum):
    """What a run tells of what its scenario declares."""

    SHOWN = "shown"  # the declared finding shows
    PROVED = "proved"  # there is no other execution, and none has shown anything
    CONSISTENT = "not contradicted"  # nothing speaks against it
    CONTRADICTED = "contradicted"  # there is a finding that was not declared
    UNDECIDED = "undecided"  # it ended before there was a verdict


@attrs.frozen
class Ended:
    """An execution that has ended.

    Attributes:
        seed: of its strategy.
        verdict: what it tells by itself.
    """

    seed: int
    machine: Machine
    findings: list[Finding]
    verdict: Verdict


def judge(expectation: Expectation, findings: list[Finding]) -> Verdict:
    """Return what the findings of one execution tell."""
    if any(not expectation.allows(finding.kind) for finding in findings):
        return Verdict.CONTRADICTED
    return Verdict.SHOWN if any(map(expectation.is_shown_by, findings)) else Verdict.CONSISTENT


def check_concurrency(scenario: Scenario, execution: Execution, findings: list[Finding]) -> None:
    """Refuse a scenario in which nothing ran concurrently, found nothing, and was not meant to.

    Raises:
        ScenarioError: naming the scenario.
    """
    actors = [agent for agent in execution.agents if not agent.is_daemon]
    if len(actors) < 2 and not (findings or scenario.is_sequential):
        raise ScenarioError(
            f"in {scenario.name} nothing runs concurrently: give a second CPU or a device something to do, or "
            "declare it with @scenario(sequential=True)"
        )


@attrs.define
class Run:
    """Executions of one scenario under one strategy.

    Attributes:
        seed: of the first execution; each later one takes the next number.
        executions: how many at most.
        sources: keep source lines, for logs and findings.
        done: how many have ended.
        with_findings: how many of them had findings.
        matters: the execution to show: the one that decides, else the first with findings, else the last.
        limit: what stopped the run before its time.
        failure: a scenario's own mistake that stopped it.
        is_stopping: end after the present execution.
        on_progress: called whenever an execution has ended.
        replay: a schedule to follow instead of the strategy; `strategy` and `seed` then say how it was found.
        witness: device and page of an access that is appended to the schedule.
        machine: of the present execution.
        forgotten: what was called and never awaited.
    """

    bound: BoundScenario
    strategy: str
    seed: int
    executions: int
    sources: bool = True
    done: int = 0
    with_findings: int = 0
    matters: Ended | None = None
    limit: str | None = None
    failure: ModelError | None = None
    is_stopping: bool = False
    on_progress: Callable[[], None] = attrs.field(default=lambda: None)
    replay: Schedule | None = None
    witness: tuple[str, Dfn] | None = None
    machine: Machine | None = None
    forgotten: Forgotten = attrs.field(factory=Forgotten)

    def on(self, host: str) -> None:
        """Run on a host: "trio" or "direct".

        Raises:
            ScenarioError: if the strategy cannot be had there, or the scenario cannot be set up.
        """
        if self.is_free and host != "trio":
            raise ScenarioError("the free strategy runs on Trio only: leave --host out, or choose another strategy")
        try:
            with watchdog(self.progress), self.forgotten.watched():
                if host == "direct":
                    direct.run_each(self.each())
                elif self.is_free:
                    trio.run(controlled.run_each_by, self.run_freely, self.each())
                else:
                    controlled.run_each(self.each())
        except LimitReached as limit:
            self.limit = str(limit)
            self.look_at_unfinished()
        except ModelError as failure:
            self.failure = failure

    def progress(self) -> tuple[int, int]:
        """Return what changes with every step."""
        return self.done, -1 if self.machine is None else self.machine.trace.step

    def look_at_unfinished(self) -> None:
        """Judge what was found in an execution before a limit stopped it."""
        shown = self.matters
        if shown is not None and shown.verdict is Verdict.UNDECIDED and shown.machine.findings:
            verdict = judge(self.bound.expectation, shown.machine.findings)
            self.matters = attrs.evolve(shown, findings=shown.machine.findings, verdict=verdict)
            self.with_findings += 1

    async def run_freely(self, execution: Execution) -> None:
        """Run one execution as Trio schedules it, with checkpoints drawn from its seed."""
        await free.run(execution, random.Random(self.seed + self.done))

    def each(self) -> Iterator[Execution]:
        """Yield executions to be run, and look at each once it has ended."""
        count = 1 if self.strategy == "round-robin" or self.replay else self.executions
        for seed in range(self.seed, self.seed + count):
            self.machine = machine = self.bound.build(sources=self.sources, is_checking=True)
            witness = machine.add_witness(*self.witness) if self.witness else None
            execution = machine.execution(self.make_strategy(seed, witness))
            has_findings = self.matters is not None and bool(self.matters.findings)
            if not has_findings:
                self.matters = Ended(seed, machine, [], Verdict.UNDECIDED)
            yield execution
            self.forgotten.refuse(execution)
            self.done += 1
            findings = machine.conclude(execution)
            check_concurrency(self.bound.scenario, execution, findings)
            ended = Ended(seed, machine, findings, judge(self.bound.expectation, findings))
            decides = ended.verdict in {Verdict.SHOWN, Verdict.CONTRADICTED}
            if decides or not has_findings:
                self.matters = ended
            self.with_findings += bool(findings)
            self.on_progress()
            if self.is_stopping or decides:
                return

    @property
    def is_free(self) -> bool:
        """Whether Trio decides who goes next."""
        return self.strategy == "free" and self.replay is None

    def make_strategy(self, seed: int, witness: str | None = None) -> Strategy:
        """Return the strategy for one execution; a free-running one makes its choices at random."""
        if self.replay is not None:
            return ReplayStrategy(self.replay, witness)
        return RoundRobinStrategy() if self.strategy == "round-robin" else RandomStrategy.seeded(seed)

    @property
    def was_cut_short(self) -> bool:
        """Whether it ended before all its executions, without a finding that decides."""
        return self.limit is not None or (self.is_stopping and self.done < self.executions)

    @property
    def verdict(self) -> Verdict:
        """What the executions tell together."""
        if self.matters is not None and self.matters.verdict in {Verdict.SHOWN, Verdict.CONTRADICTED}:
            return self.matters.verdict
        is_search = self.bound.expectation.kind is not None and self.executions > 1
        return Verdict.UNDECIDED if self.was_cut_short or is_search else Verdict.CONSISTENT

    @property
    def has_emulator_bug(self) -> bool:
        """Whether the emulator's check of itself has failed."""
        return self.matters is not None and any(isinstance(finding, Illegal) for finding in self.matters.findings)
