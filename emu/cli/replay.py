"""`emu replay`: repeats the execution of a saved schedule."""

from typing import TYPE_CHECKING, Any

import click

from emu.cli.ending import refuse_failure, status_of
from emu.cli.files import code_of, cycles_of, refuse_unwritable, written
from emu.cli.options import parse_parameters, replay_options
from emu.cli.output import show_run
from emu.cli.schedules import Schedules
from emu.cli.stepping import Steps

if TYPE_CHECKING:
    from emu.running.replay import Replay
    from emu.running.run import Run


@click.command("replay")
@replay_options
def replay_command(
    *,
    schedule: str,
    scenario: str | None,
    parameters: tuple[str, ...],
    expect: str | None,
    like: str | None,
    change: str | None,
    schedules: Schedules,
    host: str,
    log_path: str | None,
    show_log: bool,
    as_json: bool,
    cycles_path: str | None,
    **steps: Any,
) -> int:
    """Repeat the execution of a saved schedule, step by step.

    Code that does not come with emu is loaded only if you name it: the scenario
    as a second argument, the revision as -p revision=PATH.
    """
    from emu.reports.run import RunReport
    from emu.running.replay import Replay

    stepped = Steps.of(steps, as_json=as_json)
    cycles = cycles_of(cycles_path)
    repeated = Replay.of(schedule, scenario, parse_parameters(parameters)).claiming(expect, like)
    refuse_unwritable("log", log_path, (*code_of(repeated.bound), cycles_path, schedule))
    for remark in repeated.changes():
        click.echo(f"emu: {remark}", err=True)
    run = run_that_fits(repeated, host)
    if change is not None:
        repeated, schedule, run = CHANGES[change](repeated, run, host, schedules)
    report = RunReport(run, repeated.named, repeated.command(schedule), cycles, repeated.saved.about)
    with written("log", log_path, report.write_log):
        stepped.take(repeated, run)
        refuse_failure(run, lambda: None)
        if not stepped.are_wanted:
            show_run(report, as_json=as_json, with_log=show_log)
    return status_of(run)


def add_witness(repeated: "Replay", run: "Run", host: str, schedules: Schedules) -> tuple["Replay", str, "Run"]:
    """Save a schedule by which a device uses the stale entry; return its replay, its file or token, and its run."""
    from emu.running.add_witness import is_witnessed, witnessed

    found, shown = witnessed(repeated, run, host)
    schedule = schedules.save(found.saved)
    if not is_witnessed(found, shown):
        click.echo("emu: the device got another translation: the IOTLB no longer holds the old one", err=True)
    return found, schedule, shown


def shrunk(repeated: "Replay", run: "Run", host: str, schedules: Schedules) -> tuple["Replay", str, "Run"]:
    """Save the shortest schedule of the finding; return its replay, its file or token, and its run.

    Raises:
        click.UsageError: if there is nothing to shrink.
    """
    from emu.running.replay import Replay
    from emu.running.save import schedule_of_run
    from emu.running.shorten import deciding, shorten
    from emu.running.shrink import SECONDS

    about = repeated.saved.about
    if repeated.saved.witness is not None:
        raise click.UsageError("the schedule ends with an access that emu has added: leave --shrink out")
    chosen = deciding(run, about) if shorten(run, SECONDS, about) else None
    saved = schedule_of_run(run, repeated.named, chosen[0]) if chosen else None
    if saved is None:
        raise click.UsageError("there is no finding whose schedule could be made shorter: leave --shrink out")
    return Replay.with_code(saved, repeated.named, repeated.bound), schedules.save(saved), run


CHANGES = {"shrink": shrunk, "witness": add_witness}
"""What makes another schedule of the one that is replayed."""


def run_that_fits(repeated: "Replay", host: str) -> "Run":
    """Repeat an execution, and refuse a schedule that does not fit it.

    Raises:
        ScheduleDoesNotFitError: naming the first step that differs.
    """
    from emu.engine.strategies.replay import ScheduleDoesNotFitError

    run = repeated.run(host)
    if isinstance(run.failure, ScheduleDoesNotFitError):
        raise run.failure
    return run
