"""What `emu explore` reports: what was covered, each cause once, the verdict, and how to see it again."""

import shlex
from typing import Any

import attrs

from emu.explorations import Cause, ScenarioExploration
from emu.reports.findings import data, sentence
from emu.runs import Verdict


@attrs.frozen
class ExplorationReport:
    """A finished exploration, ready to be shown."""

    exploration: ScenarioExploration

    def coverage(self) -> str:
        """Say what was executed, and what was not."""
        done = self.exploration
        unit = "interleaving" if done.strategy == "depth-first" else "trace"
        parts = [f"{count(done.steps, 'step')}"]
        if done.blocked:
            parts.append(f"{count(done.blocked, 'execution')} given up")
        if done.short_locks:
            parts.append(f"sections of {', '.join(done.short_locks)} taken in one step")
        details = ", ".join(parts)
        if done.is_exhausted:
            every = f"all {done.done} {unit}s" if done.done > 1 else f"the only {unit}"
            return f"{self.name}: exhausted: {every} executed ({details})"
        if done.traces is not None:
            parts.insert(0, count(done.traces, "distinct trace"))
            ended = f", ended by {done.limit}" if done.limit and done.done != done.executions else ""
            return f"{self.name}: {count(done.done, 'random execution')}{ended} ({', '.join(parts)}); others may differ"
        why = f"ended by {done.limit or 'a mistake in the scenario'}"
        return f"{self.name}: not exhausted: {why} after {count(done.done, 'execution')}{self.part()} ({details})"

    def part(self) -> str:
        """Say which part of the whole was executed, as far as that can be estimated."""
        done = self.exploration
        if not done.share:
            return ""
        percent = 100 * done.share
        return f", an estimated {percent:.2g} % of about {done.done / done.share:.2g}"

    @property
    def name(self) -> str:
        """The scenario."""
        return self.exploration.bound.scenario.name

    def causes(self) -> list[tuple[Cause, str]]:
        """Return each cause with its finding as a sentence."""
        return [
            (cause, sentence(cause.finding, cause.run.matters.machine.trace))
            for cause in self.exploration.causes.values()
            if cause.finding is not None and cause.run is not None and cause.run.matters is not None
        ]

    def occurrence(self, cause: Cause) -> str:
        """Say how often a cause showed, and where first."""
        return f"in {cause.executions} of {count(self.exploration.done, 'execution')}, first in number {cause.first}"

    def verdict(self) -> str:
        """Return the verdict as a sentence."""
        done = self.exploration
        about = f"{self.name} declares {done.bound.expectation}"
        match done.verdict:
            case Verdict.SHOWN:
                return f"{about}: shown"
            case Verdict.PROVED:
                return f"{about}: proved for these parameters"
            case Verdict.CONTRADICTED if done.causes:
                return f"{about}: contradicted"
            case Verdict.CONTRADICTED:
                return f"{about}: contradicted, for nothing shows it"
            case _:
                return f"{about}: no verdict"

    def command(self) -> str:
        """Return the command that explores it again."""
        done = self.exploration
        words = ["emu", "explore", done.named]
        for parameter in done.bound.changed():
            words += ["-p", parameter]
        if done.strategy != "optimal":
            words += ["--strategy", done.strategy]
        if not done.sections:
            words.append("--stepwise")
        if done.seed:
            words += ["--seed", str(done.seed)]
        if done.executions is not None:
            words += ["--executions", str(done.executions)]
        return shlex.join(words)

    def data(self, replays: dict[Any, str]) -> dict[str, Any]:
        """Return the report as what JSON can hold."""
        done = self.exploration
        return {
            "scenario": self.name,
            "parameters": done.bound.changed(),
            "strategy": done.strategy,
            "declared": str(done.bound.expectation),
            "verdict": done.verdict.value,
            "exhausted": done.is_exhausted,
            "limit": done.limit,
            "executions": done.done,
            "distinct_traces": done.traces,
            "blocked": done.blocked,
            "steps": done.steps,
            "share": done.share,
            "short_sections": done.short_locks,
            "findings": [
                {
                    "executions": cause.executions,
                    "first": cause.first,
                    "owed_by": cause.signature.owed_by,
                    "replay": replays.get(cause.signature),
                    **data(cause.finding, cause.run.matters.machine.trace),
                }
                for cause, _ in self.causes()
                if cause.finding is not None and cause.run is not None and cause.run.matters is not None
            ],
            "reproduce": self.command(),
        }


def count(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
