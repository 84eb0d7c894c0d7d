"""What `emu run` reports: the log of one execution, its findings, the verdict, and the command that repeats it."""

import shlex
from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import islice
from typing import Any, TextIO

import attrs

from emu.analysis.cycles import CYCLES
from emu.analysis.relevant import Interleaving
from emu.analysis.windows import statistics
from emu.checks.findings import Finding
from emu.checks.signatures import signature
from emu.files.whole import Writable
from emu.reports.claims import claim, claimed, command_on, undeclared
from emu.reports.cost import counters_data
from emu.reports.counts import count
from emu.reports.finding_report import FindingReport
from emu.reports.judged import judged_clause
from emu.reports.log import LOG_FORMAT, Record, records, write_console, write_json
from emu.running.run import Run
from emu.running.shorten import deciding
from emu.running.shrink import Shortened, preemptions_of
from emu.running.verdict import Verdict
from emu.scenarios.expectation import Expectation

RECORDS_AFTER_LIMIT = 40
"""How many records before a limit are shown to people."""


@attrs.frozen(slots=False)
class RunReport:
    """A finished run, ready to be shown.

    Attributes:
        named: the scenario as the user named it.
        replay_command: the command that repeats a replay; None for a run.
        cycles: the table of cycles by event.
        about: the signature, as a text, of the finding that comes first; empty for the one that decides the verdict.
    """

    run: Run
    named: str
    replay_command: str | None = None
    cycles: Mapping[str, int] = CYCLES
    about: str = ""

    def findings(self) -> list[Finding]:
        """Return the findings of the reported execution; the one that the report is about comes first."""
        shown, first = self.run.reported, deciding(self.run)
        if shown is None or first is None:
            return []
        about, trace = self.about or str(first[0]), shown.machine.trace
        return sorted(shown.findings, key=lambda finding: str(signature(finding, trace)) != about)

    def records(self, *, with_order: bool = False) -> Iterator[Record]:
        """Yield the log of the reported execution, with the steps that each step depends on where these are wanted."""
        run, shown = self.run, self.run.reported
        if shown is None:
            return iter(())
        header = {
            "format": LOG_FORMAT,
            "scenario": run.bound.scenario.name,
            "parameters": run.bound.changed(),
            "strategy": run.strategy,
            "seed": shown.seed,
            **self.preemptions(),
        }
        return records(shown.machine, shown.findings, header, self.cycles, with_order=with_order)

    def preemptions(self) -> dict[str, int]:
        """Return how many preemptions the execution has up to its first finding, and had when it was found."""
        known = self.schedule
        if known is None:
            return {}
        found = {} if known.found_with is None else {"found_with": known.found_with}
        return {"preemptions": known.preemptions, **found}

    @cached_property
    def schedule(self) -> Shortened | None:
        """What is known of the schedule, with regard to the first finding.

        Nothing is without a finding, and where the trace keeps no sources.
        """
        first, shown = next(iter(self.findings()), None), self.run.reported
        if shown is None or first is None or not shown.machine.trace.sources:
            return None
        return self.run.shortened or Shortened(preemptions_of(first, shown.machine))

    def write_log(self, file: Writable) -> None:
        """Write the log as JSON lines."""
        write_json(self.records(with_order=True), file)

    def write_text(self, file: TextIO, *, colors: bool) -> None:
        """Write the log for people, without windows and findings."""
        lines = [line for line in self.records() if line["event"] not in {"finding", "window"}]
        skipped = max(0, len(lines) - RECORDS_AFTER_LIMIT) if self.run.limit else 0
        if skipped:
            file.write(f"... {skipped} earlier events; --log FILE writes them all\n")
        write_console(islice(lines, skipped, None), file, colors=colors)

    def each(self) -> Iterator[FindingReport]:
        """Yield the report of each finding."""
        if self.run.reported is not None:
            machine = self.run.reported.machine
            execution = Interleaving(machine.trace)
            for number, finding in enumerate(self.findings()):
                yield FindingReport(finding, machine, execution, None if number else self.schedule)

    def told(self) -> list[FindingReport]:
        """Return the reports that people see: several findings of one call have one, with the number of the others."""
        by_cause: dict[tuple[Any, ...], list[FindingReport]] = {}
        for report in self.each():
            found = report.finding
            cause = (found.kind, *(getattr(found, name, None) for name in ("agent", "step", "claim")))
            by_cause.setdefault(cause, []).append(report)
        return [attrs.evolve(first, likewise=len(rest)) for first, *rest in by_cause.values()]

    def verdict(self) -> str:
        """Return the verdict as a sentence."""
        bound = self.run.bound
        return f"{claim(bound)}: {self.outcome(bound.expectation)}"

    def outcome(self, expected: Expectation) -> str:
        """Say what the executions tell of the claim."""
        run = self.run
        kinds = [finding.kind for finding in run.reported.findings] if run.reported else []
        which = f"execution {run.done} (seed {run.reported.seed if run.reported else run.seed})"
        done = count(run.done, "execution") + (" (stopped)" if run.is_stopping else "")
        match run.verdict:
            case Verdict.SHOWN:
                return f"shown by {which}"
            case Verdict.CONTRADICTED:
                return f"contradicted by {which}{undeclared(expected, kinds)}"
            case Verdict.FOUND:
                return f"{', '.join(dict.fromkeys(kind.value for kind in kinds))} in {which}"
            case Verdict.UNDECIDED:
                return self.undecided(done)
            case _ if expected.unclaimed:
                return f"nothing found in {done}{judged_clause(run.judged)}"
            case _:
                search = "; to search for it: --executions 1000" if expected.kind else ""
                return f"not contradicted by {done}{search}{'' if kinds else judged_clause(run.judged)}"

    def undecided(self, done: str) -> str:
        """Say that there is no verdict, and how many executions have findings that come close."""
        run = self.run
        if not (run.with_findings and run.reported):
            return f"no verdict after {done}{judged_clause(run.judged)}"
        return f"not shown in {done}; {run.with_findings} come close, the first with seed {run.reported.seed}"

    def command(self) -> str | None:
        """Return the command that repeats the reported execution; None where Trio decided the order."""
        run = self.run
        if self.replay_command is not None:
            return self.replay_command
        if run.is_free or run.reported is None:
            return None
        words = command_on(run.bound, "run", self.named)
        words += ["--seed", str(run.reported.seed)] if run.strategy == "random" else ["--strategy", run.strategy]
        return shlex.join(words)

    def statistics(self) -> dict[str, Any]:
        """Return the windows of the reported execution, and the costs of its flushes."""
        if self.run.reported is None:
            return {}
        machine = self.run.reported.machine
        return {**attrs.asdict(statistics(machine, self.cycles)), "flushes": counters_data(machine.counters)}

    def data(self) -> dict[str, Any]:
        """Return the report as JSON data."""
        run, shown = self.run, self.run.reported
        return {
            "scenario": run.bound.scenario.name,
            "parameters": run.bound.changed(),
            "strategy": run.strategy,
            "declared": claimed(run.bound.expectation),
            "verdict": run.verdict.value,
            "executions": run.done,
            "with_findings": run.with_findings,
            "was_stopped": run.is_stopping,
            "limit": run.limit,
            "judged": attrs.asdict(run.judged),
            "seed": shown.seed if shown else run.seed,
            "steps": shown.machine.trace.step if shown else 0,
            **self.statistics(),
            "findings": [one.data() for one in self.each()],
            "reproduce": self.command(),
        }
