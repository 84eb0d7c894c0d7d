"""What `emu explore` reports: its coverage, each cause once, the verdict, and the command that repeats it."""

import math
import shlex
from collections.abc import Iterator
from typing import Any

import attrs
import cattrs

from emu.analysis.relevant import Interleaving
from emu.reports.claims import claim, claimed, command_on, undeclared
from emu.reports.counts import count
from emu.reports.finding_report import FindingReport
from emu.reports.judged import judged_clause
from emu.reports.left_out import left_out_clause
from emu.running.causes import Cause
from emu.running.exploration import ScenarioExploration
from emu.running.shrink import Shortened, preemptions_of
from emu.running.verdict import Verdict
from emu.running.witness import is_usable
from emu.scenarios.expectation import Expectation

LARGE = 1_000_000
PERCENT_LEAST = 0.01


@attrs.frozen
class ExplorationReport:
    """A finished exploration, ready to be shown."""

    exploration: ScenarioExploration

    def coverage(self) -> str:
        """Say how many executions there were, and whether they are all."""
        done, covered = self.exploration, self.exploration.coverage
        unit = "interleaving" if done.plan.strategy == "depth-first" else "trace"
        parts = [f"{count(covered.steps, 'step')}"]
        if covered.blocked:
            parts.append(f"{count(covered.blocked, 'execution')} given up")
        if covered.short_locks:
            parts.append(f"sections of {', '.join(covered.short_locks)} taken in one step")
        details = ", ".join(parts)
        if done.is_exhausted:
            every = f"all {done.done} {unit}s" if done.done > 1 else f"the only {unit}"
            return f"{self.name}: exhausted: {every} executed ({details})"
        if covered.traces is not None:
            parts.insert(0, count(covered.traces, "distinct trace"))
            ended = f", ended by {done.limit}" if done.limit and done.done != done.plan.executions else ""
            return f"{self.name}: {count(done.done, 'random execution')}{ended} ({', '.join(parts)}); others may differ"
        executed = f"{count(done.done, 'execution')}{self.part()} ({details})"
        if done.has_reached_limit:
            return f"{self.name}: not exhausted after {executed}: {done.limit}"
        return f"{self.name}: not exhausted: ended by {done.limit} after {executed}"

    def part(self) -> str:
        """Return the estimated share of the executions that are done; nothing without an estimate."""
        done, share = self.exploration.done, self.exploration.coverage.share
        if not share:
            return ""
        percent = 100 * share
        part = f"{percent:.2g} %" if percent >= PERCENT_LEAST else f"less than {PERCENT_LEAST} %"
        return f", an estimated {part} of about {roughly(done / share)}"

    @property
    def name(self) -> str:
        """The name of the scenario."""
        return self.exploration.bound.scenario.name

    def causes(self) -> Iterator[tuple[Cause, FindingReport]]:
        """Yield each cause that was repeated, with the report of the finding in its repetition."""
        for cause in self.exploration.causes.values():
            finding = cause.finding
            if finding is not None and cause.run is not None and cause.run.reported is not None:
                machine = cause.run.reported.machine
                known = cause.run.shortened or Shortened(preemptions_of(finding, machine))
                yield cause, FindingReport(finding, machine, Interleaving(machine.trace), known)

    def not_proved(self) -> list[str]:
        """Name the claims that interleavings which were not executed may break."""
        return [f"not proved: {text!r} declares nothing that it reads" for text in self.exploration.not_proved]

    def occurrence(self, cause: Cause) -> str:
        """Say how many executions showed a cause, the number of the first, and of the one that is reported."""
        said = f"in {cause.executions} of {count(self.exploration.done, 'execution')}, first in number {cause.first}"
        if cause.shown != cause.first:
            said += f"; shown: number {cause.shown}"
        return f"{said}; to see a device use it: -p walk_caches=true" if self.needs_walk_caches(cause) else said

    def needs_walk_caches(self, cause: Cause) -> bool:
        """Whether no device was seen to use a replaced table entry because units cache none."""
        finding, has_walk_caches = cause.finding, self.exploration.bound.values.get("walk_caches")
        return is_usable(finding) and finding.replaces_table and has_walk_caches is False

    def verdict(self) -> str:
        """Return the verdict as a sentence."""
        bound = self.exploration.bound
        return f"{claim(bound)}: {self.outcome(bound.expectation)}"

    def outcome(self, expected: Expectation) -> str:
        """Say what the exploration tells of the claim."""
        done = self.exploration
        if done.has_emulator_bug:
            return "no verdict: emu's check of itself has failed"
        match done.verdict:
            case Verdict.PROVED:
                proved = "clean: proved" if expected.unclaimed else "proved"
                return f"{proved} for these parameters{judged_clause(done.judged)}{left_out_clause()}"
            case Verdict.FOUND:
                return self.shares()
            case Verdict.CONTRADICTED if not all(map(expected.allows, done.showing)):
                return f"contradicted{undeclared(expected, done.showing)}"
            case Verdict.CONTRADICTED:
                return "contradicted: no execution shows it"
            case verdict:
                return "shown" if verdict is Verdict.SHOWN else f"no verdict{self.nothing_found()}"

    def nothing_found(self) -> str:
        """Say that nothing was found, and what the checks judged; nothing where something was found."""
        return "" if self.exploration.causes else f", and nothing found{judged_clause(self.exploration.judged)}"

    def shares(self) -> str:
        """Say how many executions show each kind of finding."""
        kinds = ", ".join(f"{kind.value} in {number}" for kind, number in self.exploration.showing.items())
        return f"{kinds} of {count(self.exploration.done, 'execution')}"

    def command(self) -> str:
        """Return the command that explores the scenario again."""
        done, plan = self.exploration, self.exploration.plan
        words = command_on(done.bound, "explore", done.named)
        if plan.strategy != "optimal":
            words += ["--strategy", plan.strategy]
        if not plan.sections:
            words.append("--stepwise")
        if plan.seed:
            words += ["--seed", str(plan.seed)]
        executions = done.done if done.limit and not done.has_reached_limit else plan.executions
        if executions:
            words += ["--executions", str(executions)]
        return shlex.join(words)

    def data(self, replays: dict[Any, str]) -> dict[str, Any]:
        """Return the report as JSON data.

        Args:
            replays: the commands that replay the causes, by signature.
        """
        done, covered = self.exploration, self.exploration.coverage
        return {
            "scenario": self.name,
            "parameters": done.bound.changed(),
            "strategy": done.plan.strategy,
            "declared": claimed(done.bound.expectation),
            "verdict": done.verdict.value,
            "exhausted": done.is_exhausted,
            "limit": done.limit,
            "executions": done.done,
            "distinct_traces": covered.traces,
            "blocked": covered.blocked,
            "steps": covered.steps,
            "share": covered.share,
            "short_sections": covered.short_locks,
            "not_proved": done.not_proved,
            "judged": attrs.asdict(done.judged),
            "findings": [
                {
                    "executions": cause.executions,
                    "first": cause.first,
                    "shown": cause.shown,
                    "witness": None if cause.saved is None else cattrs.unstructure(cause.saved.witness),
                    "owed_by": cause.signature.owed_by,
                    "replay": replays.get(cause.signature),
                    **report.data(),
                }
                for cause, report in self.causes()
            ],
            "reproduce": self.command(),
        }


def roughly(number: float) -> str:
    """Return a number of which only the magnitude is known."""
    if number < LARGE:
        return f"{round(number, 1 - len(str(int(number)))):.0f}" if number >= 10 else f"{number:.0f}"
    return f"10^{math.log10(number):.0f}"
