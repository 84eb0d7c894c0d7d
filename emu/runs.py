"""Running a scenario: one execution a seed, until the declared finding shows."""

import random
from collections.abc import Iterator
from enum import Enum

import attrs
import trio

from emu.checks.findings import Finding, Illegal
from emu.engine import Execution, Strategy
from emu.engine.hosts import direct, free
from emu.engine.hosts import trio as controlled
from emu.engine.strategies.random import RandomStrategy
from emu.engine.strategies.round_robin import RoundRobinStrategy
from emu.errors import LimitReached, ScenarioError
from emu.machine import Machine
from emu.scenario import BoundScenario

STRATEGIES = ("random", "round-robin", "free")
HOSTS = ("trio", "direct")


class Verdict(Enum):
    """What a run tells of what its scenario declares."""

    SHOWN = "shown"  # the declared finding shows
    CONSISTENT = "not contradicted"  # nothing speaks against it
    CONTRADICTED = "contradicted"  # there is a finding that was not declared
    UNDECIDED = "undecided"  # a limit was reached first


@attrs.define
class Run:
    """Executions of one scenario under one strategy.

    Attributes:
        seed: of the first execution; each later one takes the next number.
        executions: how many at most.
        sources: keep source lines, for logs and findings.
        done: how many have ended.
        machine: that of the execution to show: the last one.
        limit: the named limit that stopped the run.
        is_stopping: end after the present execution.
    """

    bound: BoundScenario
    strategy: str
    seed: int
    executions: int
    sources: bool = True
    done: int = 0
    machine: Machine | None = None
    findings: list[Finding] = attrs.field(factory=list)
    limit: str | None = None
    is_stopping: bool = False

    def on(self, host: str) -> None:
        """Run on a host: "trio" or "direct".

        Raises:
            ScenarioError: if the strategy cannot be had there.
        """
        if self.strategy == "free" and host != "trio":
            raise ScenarioError("the free strategy runs on Trio only: leave --host out, or choose another strategy")
        try:
            if host == "direct":
                direct.run_each(self.each())
            elif self.strategy == "free":
                trio.run(controlled.run_each_by, self.run_freely, self.each())
            else:
                controlled.run_each(self.each())
        except LimitReached as limit:
            self.limit = str(limit)

    async def run_freely(self, execution: Execution) -> None:
        """Run one execution as Trio schedules it, with checkpoints drawn from its seed."""
        await free.run(execution, random.Random(self.shown_seed))

    @property
    def shown_seed(self) -> int:
        """The seed of the latest execution."""
        return self.seed + max(self.done - 1, 0)

    def each(self) -> Iterator[Execution]:
        """Yield executions to be run, and look at each once it has ended."""
        for seed in range(self.seed, self.seed + self.executions):
            self.machine = self.bound.build(sources=self.sources, is_checking=True)
            execution = self.machine.execution(self.make_strategy(seed))
            self.done += 1
            yield execution
            self.findings = self.machine.conclude(execution)
            self.check_concurrency(execution)
            if self.is_stopping or self.verdict in {Verdict.SHOWN, Verdict.CONTRADICTED}:
                return

    def make_strategy(self, seed: int) -> Strategy:
        """Return the strategy for one execution; a free-running one makes its choices at random."""
        return RoundRobinStrategy() if self.strategy == "round-robin" else RandomStrategy.seeded(seed)

    def check_concurrency(self, execution: Execution) -> None:
        """Refuse a scenario in which nothing ran concurrently, found nothing, and was not meant to.

        Raises:
            ScenarioError: naming the scenario.
        """
        scenario = self.bound.scenario
        actors = [agent for agent in execution.agents if not agent.is_daemon]
        if len(actors) < 2 and not (self.findings or scenario.is_sequential):
            raise ScenarioError(
                f"in {scenario.name} nothing runs concurrently: give a second CPU or a device something to do, or "
                "declare it with @scenario(sequential=True)"
            )

    @property
    def verdict(self) -> Verdict:
        """What the executions so far tell."""
        expectation = self.bound.expectation
        if any(finding.kind is not expectation.kind for finding in self.findings):
            return Verdict.CONTRADICTED
        if any(expectation.is_shown_by(finding) for finding in self.findings):
            return Verdict.SHOWN
        if self.limit or (expectation.kind and self.executions > 1 and self.done):
            return Verdict.UNDECIDED
        return Verdict.CONSISTENT

    @property
    def has_emulator_bug(self) -> bool:
        """Whether the emulator's check of itself has failed."""
        return any(isinstance(finding, Illegal) for finding in self.findings)
