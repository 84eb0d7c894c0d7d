"""Reports of findings, for tests: of every scenario that comes with emu, and of machines of a test's own."""

from collections.abc import Iterator
from functools import cache

from emu.analysis.relevant import Interleaving
from emu.checks.findings import Finding
from emu.machine.machine import Machine
from emu.reports.finding_report import FindingReport
from emu.running.run import Run
from emu.running.shrink import Shortened
from emu.scenarios.library import bundled
from tests.running.explored import bundled_with, explored

EXECUTIONS = 6


def report(finding: Finding, machine: Machine, schedule: Shortened | None = None) -> FindingReport:
    """Return the report of a finding."""
    return FindingReport(finding, machine, Interleaving(machine.trace), schedule)


def reports_of(name: str, parameters: str = "") -> list[FindingReport]:
    """Return a report for each cause that an exploration shows."""
    done = explored(bundled_with(name, parameters))
    shown = [(cause.finding, cause.run) for cause in done.causes.values()]
    return [report(one, run.reported.machine) for one, run in shown if one and run and run.reported]


@cache
def bundled_reports() -> list[FindingReport]:
    """Return the reports of a few random executions of each scenario, on each vendor that can run it."""
    return list(each_bundled())


def each_bundled() -> Iterator[FindingReport]:
    """Yield these reports, one for each kind of finding of an execution."""
    for name, scenario in bundled().items():
        for vendor in scenario.platforms():
            run = Run(bundled_with(name, f"iommu={vendor.name}"), "random", 0, EXECUTIONS)
            run.on("direct")
            if run.reported is not None:
                kinds = {one.kind: one for one in reversed(run.reported.findings)}
                yield from (report(one, run.reported.machine) for one in kinds.values())
