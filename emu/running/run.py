"""Running a scenario: one execution a seed, until the declared finding shows."""

import random
from collections.abc import Iterable, Iterator, Sequence

import attrs
import trio

from emu.checks.findings import Finding, FindingKind
from emu.checks.signatures import Signature, signature
from emu.engine import Execution, Schedule, Strategy
from emu.engine.hosts import free
from emu.engine.hosts import trio as controlled
from emu.engine.strategies.random import RandomStrategy
from emu.engine.strategies.replay import ReplayStrategy
from emu.engine.strategies.round_robin import RoundRobinStrategy
from emu.errors import ScenarioError
from emu.machine.machine import Machine
from emu.running.executions import Executions, run_each_on
from emu.running.shrink import Shortened
from emu.running.verdict import Verdict, judge_execution, judge_run
from emu.running.witness import Witness


@attrs.frozen
class Ended:
    """An execution that has ended.

    Attributes:
        seed: the seed of its strategy.
        verdict: the verdict on this execution alone.
    """

    seed: int
    machine: Machine
    findings: list[Finding]
    verdict: Verdict

    def signed(self) -> Iterator[tuple[Signature, Finding]]:
        """Yield each finding with its signature."""
        for finding in self.findings:
            yield signature(finding, self.machine.trace), finding


@attrs.define(eq=False)
class Run(Executions):
    """Executions of one scenario, of which one is reported.

    Attributes:
        seed: the seed of the first execution; each later execution takes the next seed.
        executions: the limit of executions.
        sources: keep the source lines of steps.
        replay: a schedule to follow instead of the strategy; `strategy` and `seed` then say how it was found.
        witness: an access that is appended to the schedule.
        shortened: what is known of the schedule; None if nothing is.
        with_findings: how many executions have findings.
        reported: the execution that decides the verdict, else the first with findings, else the last.
    """

    strategy: str
    seed: int
    executions: int
    sources: bool = True
    replay: Schedule | None = None
    witness: Witness | None = None
    shortened: Shortened | None = None
    with_findings: int = attrs.field(default=0, init=False)
    reported: Ended | None = attrs.field(default=None, init=False)

    def on(self, host: str) -> None:
        """Run the executions on a host, "trio" or "direct".

        Raises:
            ScenarioError: if the host cannot run the strategy, or the scenario cannot be set up.
        """
        if self.is_free and host != "trio":
            raise ScenarioError("the free strategy runs on Trio only: leave --host out, or choose another strategy")
        self.run_all(self.run_each_freely if self.is_free else run_each_on(host))
        if self.has_reached_limit:
            self.look_at_unfinished()

    def run_each_freely(self, executions: Iterable[Execution]) -> None:
        """Run executions one after the other, as Trio schedules them."""
        trio.run(controlled.run_each_by, self.run_freely, executions)

    async def run_freely(self, execution: Execution) -> None:
        """Run one execution as Trio schedules it, with checkpoints drawn from its seed."""
        await free.run(execution, random.Random(self.seed + self.done))

    def each(self) -> Iterator[Execution]:
        count = 1 if self.strategy == "round-robin" or self.replay else self.executions
        for seed in range(self.seed, self.seed + count):
            machine = self.set_up(sources=self.sources)
            witnesses = self.witness.join(machine) if self.witness else []
            execution = machine.execution(self.make_strategy(seed, witnesses))
            if not self.has_findings:
                self.reported = Ended(seed, machine, [], Verdict.UNDECIDED)
            yield execution
            self.forgotten.refuse(execution)
            self.look_at(execution, seed, machine)
            if self.is_stopping or self.is_decided:
                return

    def make_strategy(self, seed: int, witnesses: Sequence[str] = ()) -> Strategy:
        """Return the strategy for one execution; a free-running execution uses it for its choices alone.

        Args:
            witnesses: the agents of the witness.
        """
        if self.replay is not None and self.witness is not None:
            *earlier, witness = witnesses
            return ReplayStrategy(self.replay, witness, self.witness.start, earlier, self.witness.before)
        if self.replay is not None:
            return ReplayStrategy(self.replay)
        return RoundRobinStrategy() if self.strategy == "round-robin" else RandomStrategy.seeded(seed)

    def look_at(self, execution: Execution, seed: int, machine: Machine) -> None:
        """Count and judge an execution that has ended."""
        self.done += 1
        findings = self.conclude(execution)
        self.judged.add(execution.trace)
        ended = Ended(seed, machine, findings, judge_execution(self.bound.expectation, findings))
        if ended.verdict.is_final or not self.has_findings:
            self.reported = ended
        self.with_findings += bool(findings)
        self.on_progress()

    def look_at_unfinished(self) -> None:
        """Judge the findings of an execution that a limit stopped."""
        shown = self.reported
        found = [] if shown is None else shown.machine.found()
        if shown is not None and shown.verdict is Verdict.UNDECIDED and found:
            verdict = judge_execution(self.bound.expectation, found)
            self.reported = attrs.evolve(shown, findings=found, verdict=verdict)
            self.with_findings += 1

    def finding_with(self, wanted: Signature) -> Finding | None:
        """Return the first finding with a signature in the reported execution."""
        signed = () if self.reported is None else self.reported.signed()
        return next((finding for one, finding in signed if one == wanted), None)

    @property
    def is_free(self) -> bool:
        """Whether Trio decides which agent goes next."""
        return self.strategy == "free" and self.replay is None

    @property
    def has_findings(self) -> bool:
        """Whether the reported execution has findings."""
        return self.reported is not None and bool(self.reported.findings)

    @property
    def is_decided(self) -> bool:
        """Whether an execution has shown the declared finding, or another one."""
        return self.reported is not None and self.reported.verdict.is_final

    @property
    def was_cut_short(self) -> bool:
        """Whether a limit or Ctrl-C ended the run before its last execution."""
        return self.limit is not None or (self.is_stopping and self.done < self.executions)

    @property
    def verdict(self) -> Verdict:
        """The verdict of all executions on the claim."""
        shown = None if self.reported is None else self.reported.verdict
        is_search = self.executions > 1
        return judge_run(self.bound.expectation, shown, is_search=is_search, was_cut_short=self.was_cut_short)

    @property
    def has_emulator_bug(self) -> bool:
        """Whether the emulator's check of itself has failed."""
        findings = [] if self.reported is None else self.reported.findings
        return any(finding.kind is FindingKind.ILLEGAL for finding in findings)
