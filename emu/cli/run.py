"""`emu run`: runs executions of a scenario, and shows what one of them has found."""

from typing import TYPE_CHECKING

import click

from emu.cli.ending import refuse_failure, status_of, stop_on_interrupt
from emu.cli.files import code_of, cycles_of, refuse_unwritable, written
from emu.cli.options import parse_parameters, run_options
from emu.cli.output import show_run
from emu.cli.schedules import Schedules
from emu.cli.terminal import show_progress

if TYPE_CHECKING:
    from emu.running.run import Run


@click.command("run", short_help="Run a scenario until it shows what it declares.")
@run_options
def run_command(
    *,
    scenario: str,
    parameters: tuple[str, ...],
    expect: str | None,
    like: str | None,
    executions: int,
    seed: int,
    strategy: str,
    host: str,
    shrink: float | None,
    schedules: Schedules,
    log_path: str | None,
    show_log: bool,
    as_json: bool,
    cycles_path: str | None,
) -> int:
    """Run executions of SCENARIO, a name or a .py file, until it shows what it declares.

    Prints the findings of the execution that shows it, else of the first with a
    finding: the facts, and the steps in columns. Each execution has the seed
    after that of the one before.
    """
    from emu.reports.run import RunReport
    from emu.running.run import Run
    from emu.running.shorten import shorten
    from emu.scenarios.library import find

    cycles = cycles_of(cycles_path)
    run = Run(find(scenario).bind(parse_parameters(parameters)).claiming(expect, like), strategy, seed, executions)
    report = RunReport(run, scenario, cycles=cycles)
    refuse_unwritable("log", log_path, (*code_of(run.bound), cycles_path))
    with stop_on_interrupt(run), show_progress(run):
        run.on(host)
        if shrink is not None:
            shorten(run, shrink)
    with written("log", log_path, report.write_log):
        refuse_failure(run, report.command)
        show_run(report, save_finding(run, scenario, schedules), as_json=as_json, with_log=show_log)
    return status_of(run)


def save_finding(run: "Run", named: str, schedules: Schedules) -> str | None:
    """Save the schedule of a finding; return the command that replays it, None without a finding."""
    from emu.running.save import schedule_of_run
    from emu.running.shorten import deciding

    about = deciding(run)
    saved = schedule_of_run(run, named, about[0]) if about else None
    return None if saved is None else schedules.command_for(saved, named, run.bound)
