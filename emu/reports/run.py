"""What `emu run` reports: the log of one execution, its findings, the verdict, and how to see it again."""

import shlex
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, TextIO

import attrs

from emu.reports.findings import data, sentence
from emu.reports.log import Record, records, write_console, write_json
from emu.runs import Run, Verdict


@attrs.frozen
class RunReport:
    """A finished run, ready to be shown.

    Attributes:
        named: the scenario as the user named it.
    """

    run: Run
    named: str

    @property
    def parameters(self) -> list[str]:
        """The parameters that were set, as `name=value`."""
        return self.run.bound.changed()

    def records(self) -> Iterator[Record]:
        """Yield the log of the execution that matters."""
        run = self.run
        if run.machine is None:
            return iter(())
        header: Mapping[str, Any] = {
            "scenario": run.bound.scenario.name,
            "parameters": self.parameters,
            "strategy": run.strategy,
            "seed": run.shown_seed,
        }
        return records(run.machine.trace, run.findings, header, run.done - 1)

    def write_log(self, file: BinaryIO) -> None:
        """Write the log as JSON lines."""
        write_json(self.records(), file)

    def write_text(self, file: TextIO, *, colors: bool) -> None:
        """Write the log for people, without the findings: those follow it."""
        write_console((line for line in self.records() if line["event"] != "finding"), file, colors=colors)

    def sentences(self) -> list[str]:
        """Return each finding as a sentence; of those that one call gives for neighbouring pages only the first."""
        if self.run.machine is None:
            return []
        shown: dict[tuple[Any, ...], list[str]] = {}
        for finding in self.run.findings:
            cause = (finding.kind, getattr(finding, "agent", None), getattr(finding, "step", None))
            shown.setdefault(cause, []).append(sentence(finding, self.run.machine.trace))
        return [first if not rest else f"{first} (and likewise {len(rest)} more)" for first, *rest in shown.values()]

    def verdict(self) -> str:
        """Return the verdict as a sentence."""
        run = self.run
        declared = str(run.bound.expectation)
        name, count = run.bound.scenario.name, f"{run.done} execution{'s' if run.done != 1 else ''}"
        match run.verdict:
            case Verdict.SHOWN:
                return f"{name} declares {declared}: shown by execution {run.done} (seed {run.shown_seed})"
            case Verdict.CONTRADICTED:
                return f"{name} declares {declared}: contradicted by execution {run.done} (seed {run.shown_seed})"
            case Verdict.UNDECIDED:
                return f"{name} declares {declared}: not shown in {count} (seeds {run.seed} to {run.shown_seed})"
            case Verdict.CONSISTENT:
                hint = (
                    "" if run.bound.expectation.kind is None or run.limit else "; to search for it: --executions 1000"
                )
                return f"{name} declares {declared}: not contradicted by {count}{hint}"

    def command(self) -> str | None:
        """Return the command that shows the same execution again; None where Trio decided the order."""
        run = self.run
        if run.strategy == "free":
            return None
        words = ["emu", "run", self.named]
        for parameter in self.parameters:
            words += ["-p", parameter]
        if run.strategy != "random":
            words += ["--strategy", run.strategy]
        return shlex.join([*words, "--seed", str(run.shown_seed)])

    def data(self) -> dict[str, Any]:
        """Return the report as what JSON can hold."""
        run = self.run
        trace = run.machine.trace if run.machine else None
        return {
            "scenario": run.bound.scenario.name,
            "parameters": self.parameters,
            "strategy": run.strategy,
            "declared": str(run.bound.expectation),
            "verdict": run.verdict.value,
            "executions": run.done,
            "seed": run.shown_seed,
            "steps": trace.step if trace else 0,
            "limit": run.limit,
            "findings": [data(finding, trace) for finding in run.findings] if trace else [],
            "reproduce": self.command(),
        }
