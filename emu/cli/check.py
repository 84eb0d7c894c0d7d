"""`emu check`: compares a revision with a base, in every cell."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from emu.cli.ending import EMULATOR_BUG
from emu.cli.files import code_of, refuse_unwritable, written
from emu.cli.options import json_option, parameters_option, parse_lists
from emu.cli.output import show_finding, show_json, show_paragraph
from emu.cli.terminal import show_check

if TYPE_CHECKING:
    from emu.reports.check import CheckReport
    from emu.running.check import Check, Difference

FINE, WORSE, UNDECIDED = 0, 1, 3
JUNIT_BYTES_MAX = 1 << 30


@click.command("check", short_help="Compare the findings of a revision with those of another.")
@click.argument("revision")
@click.argument("scenarios", metavar="[SCENARIO...]", nargs=-1)
@click.option("--against", required=True, metavar="BASE|FILE.json", help="A revision, or the JSON of an earlier check.")
@parameters_option("NAME=V[,V...]", "Try these values instead of the cells' own.")
@click.option(
    "--budget", type=click.IntRange(1), default=50_000, show_default=True, help="Limit of steps for a cell on one side."
)
@click.option(
    "--time", "seconds", type=click.FloatRange(0, 10_000_000, min_open=True), help="Limit of seconds for one such cell."
)
@click.option("-j", "processes", type=click.IntRange(1, 256), help="Processes.  [all cores]")
@click.option("--first", is_flag=True, help="End at the first cell with a new finding.")
@click.option("--list", "is_list", is_flag=True, help="Show the cells, and execute none.")
@json_option("Print JSON, which a later --against takes.")
@click.option("--junit", metavar="PATH", help="Write a JUnit file: a suite a scenario, a case a cell.")
def check_command(
    *,
    revision: str,
    scenarios: tuple[str, ...],
    against: str,
    parameters: tuple[str, ...],
    budget: int,
    seconds: float | None,
    processes: int | None,
    first: bool,
    is_list: bool,
    as_json: bool,
    junit: str | None,
) -> int:
    """Compare what REVISION shows in every cell with what BASE shows there.

    A cell is a scenario with parameters. A finding is new if REVISION shows it
    and BASE does not in all of its traces; it is undecided where one side shows
    it and the other was not executed to the end.

    Exit status: 0 nothing is new, 1 something is, 3 something is undecided.
    """
    from emu.reports.check import CheckReport
    from emu.reports.junit import junit as as_junit

    check = make_check(revision, scenarios, against, parameters)
    if junit is not None:
        refuse_unwritable("JUnit file", junit, inputs_of(check, against))
    if is_list:
        show_cells([str(cell) for cell in check.cells], as_json=as_json)
        return FINE
    check.budget, check.seconds, check.ends_at_first = budget, seconds, first
    with show_check(check) as on_progress:
        check.on(number_of(processes), on_progress)
    report = CheckReport(check)
    with written("JUnit file", junit, lambda file: file.write(as_junit(report)), JUNIT_BYTES_MAX):
        show(report, as_json=as_json)
    return status_of(check)


def number_of(processes: int | None) -> int:
    """Return how many processes to start; 0 where the working directory is gone, because they would start there."""
    from emu.engine.sources import working_directory

    return 0 if working_directory() is None else processes or os.cpu_count() or 1


def inputs_of(check: "Check", against: str) -> list[str | Path]:
    """Return the files that a check reads, as far as a user may have named them."""
    from emu.scenarios.library import find

    sides = (check.revision, check.base) if check.known is None else (check.revision,)
    firsts = {cell.platform.name: cell for cell in reversed(check.cells)}.values()
    files = [code for side in sides for cell in firsts for code in code_of(cell.bind(side))]
    scenarios = dict.fromkeys(cell.scenario for cell in check.cells)
    return [against, *files, *(find(name).build.__code__.co_filename for name in scenarios)]


def make_check(revision: str, scenarios: tuple[str, ...], against: str, parameters: tuple[str, ...]) -> "Check":
    """Return the check that the arguments ask for; everything that it needs can be loaded."""
    from emu.hypervisor.revisions.loader import refuse_ambiguous
    from emu.reports.findings import sentence
    from emu.running.cells import but, grid, left_out, not_in_earlier, refuse_unusable, without_functions
    from emu.running.check import Check
    from emu.running.earlier import read_earlier
    from emu.scenarios.library import bundled_names

    names = list(dict.fromkeys(scenarios)) or bundled_names()
    known = read_earlier(Path(against)) if against.endswith(".json") else None
    cells = list(grid(names, parse_lists(parameters)))
    without = [] if known is None else list(not_in_earlier(cells, known, against))
    for side in (revision,) if known is not None else (against, revision):
        refuse_ambiguous(side)
        without += left_out(but(cells, without), side)
        refuse_unusable(but(cells, without), side)
        without += without_functions(but(cells, without), side)
        refuse_empty(len(but(cells, without)), side)
    return Check(revision, against, but(cells, without), sentence, known, left_out=without)


def refuse_empty(cells: int, revision: str) -> None:
    """Refuse to check no cell at all.

    Raises:
        ScenarioError: if a revision lacks what each of the cells needs.
    """
    from emu.errors import ScenarioError

    if not cells:
        raise ScenarioError(
            f"there is nothing to check: {revision} lacks functions that each of these scenarios needs; copy x86.py "
            "from a revision that comes with emu"
        )


def show(report: "CheckReport", *, as_json: bool) -> None:
    """Print the report of a check."""
    if as_json:
        show_json("check", report.data())
    else:
        show_text(report)
    for bug in report.check.bugs:
        click.echo(f"emu: {bug}", err=True)


def status_of(check: "Check") -> int:
    """Return the exit status for the result of a check."""
    if check.bugs:
        return EMULATOR_BUG
    if check.is_worse:
        return WORSE
    return UNDECIDED if check.is_undecided else FINE


def show_cells(cells: list[str], *, as_json: bool) -> None:
    """Print the cells that would be executed."""
    if as_json:
        show_json("cells", {"cells": cells})
    else:
        for cell in cells:
            click.echo(cell)


def show_text(report: "CheckReport") -> None:
    """Print the findings that are new, undecided and gone, and the summary."""
    for difference, others in report.groups():
        if difference.is_bad:
            show_finding(report.sentence(difference))
        else:
            click.echo()
            show_paragraph(report.sentence(difference))
        if others:
            show_paragraph(f"likewise with {'; '.join(map(with_parameters, others))}")
        if command := report.command(difference):
            click.echo(f"again: {command}")
    click.echo()
    for line in report.summary():
        show_paragraph(line)


def with_parameters(difference: "Difference") -> str:
    """Return the parameters of a difference's cell."""
    return " ".join(difference.cell.parameters) or "defaults"
