"""`emu explore`: every execution of a scenario that differs from the others, and what they show."""

import math
import shutil
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from emu.cli.run import EMULATOR_BUG, STATUS, parse_parameters, stop_on_interrupt, write_schedule
from emu.cli.terminal import show_exploration, wants_colors

if TYPE_CHECKING:
    from emu.reports.exploration import ExplorationReport
    from emu.running.exploration import ScenarioExploration
    from emu.running.save import SavedSchedule

STRATEGIES = ("optimal", "depth-first", "random")


@click.command("explore", short_help="Execute every trace of a scenario once.")
@click.argument("scenario")
@click.option("-p", "parameters", multiple=True, metavar="NAME=VALUE", help="Set a parameter; see `emu list`.")
@click.option(
    "--strategy",
    type=click.Choice(STRATEGIES),
    default="optimal",
    show_default=True,
    help="One execution a trace, every interleaving, or random ones.",
)
@click.option("--executions", type=click.IntRange(1), help="At most so many executions.  [random: 1000]")
@click.option("--time", "seconds", type=click.FloatRange(0, 10_000_000, min_open=True), help="At most so many seconds.")
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the first execution; random only."
)
@click.option("--stepwise", is_flag=True, help="Take no section under a lock in one step.")
@click.option(
    "--host",
    type=click.Choice(("direct", "trio")),
    default="direct",
    show_default=True,
    help="Plain loop, or Trio tasks.",
)
@click.option("--schedules", type=click.Path(), default=".", show_default="here", help="Folder for schedules.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def explore_command(
    *,
    scenario: str,
    parameters: tuple[str, ...],
    strategy: str,
    executions: int | None,
    seconds: float | None,
    seed: int,
    stepwise: bool,
    host: str,
    schedules: str,
    as_json: bool,
) -> int:
    """Explore SCENARIO, a name or a .py file: execute every trace of it once.

    A trace is a set of interleavings that differ only in the order of steps
    that cannot influence one another. What is found is repeated on Trio tasks
    before it is shown, once for each cause. Ctrl-C ends after the present
    execution, with the report so far.
    """
    from emu.errors import ScenarioError
    from emu.reports.exploration import ExplorationReport
    from emu.running.exploration import ScenarioExploration
    from emu.running.plan import Plan
    from emu.scenarios.library import find

    if seconds is not None and math.isnan(seconds):
        raise click.UsageError("--time takes a number of seconds, not 'nan'")
    if seed and strategy != "random":
        raise click.UsageError(f"--seed is for --strategy random; {strategy} has none")
    if strategy == "random" and executions is None and seconds is None:
        executions = 1000
    exploration = ScenarioExploration(
        find(scenario).bind(parse_parameters(parameters)),
        scenario,
        Plan(strategy, executions, seconds, seed, sections=not stepwise),
    )
    with stop_on_interrupt(exploration), show_exploration(exploration):
        exploration.on(host)
    if exploration.failure is not None:
        sys.unraisablehook = lambda _: None  # an agent that broke Trio leaves parts of it to the garbage collector
        raise ScenarioError(f"{exploration.failure}{again(exploration, Path(schedules))}")
    report = ExplorationReport(exploration)
    replays = save_schedules(exploration, Path(schedules))
    if as_json:
        import orjson

        click.echo(orjson.dumps(report.data(replays), option=orjson.OPT_INDENT_2).decode())
    else:
        show(report, replays)
    return EMULATOR_BUG if exploration.has_emulator_bug else STATUS[exploration.verdict.value]


def again(exploration: "ScenarioExploration", folder: Path) -> str:
    """Save the schedule that leads to a scenario's mistake; return how to see it again."""
    saved = exploration.save_failed()
    return f"; again: {replay_command(exploration, saved, folder)}" if saved is not None else ""


def replay_command(exploration: "ScenarioExploration", saved: "SavedSchedule", folder: Path) -> str:
    """Save a schedule to a new file and return the command that replays it."""
    from emu.running.replay import Replay

    bound = exploration.bound
    return Replay(saved, exploration.named, bound.values["revision"], bound).command(write_schedule(saved, folder))


def save_schedules(exploration: "ScenarioExploration", folder: Path) -> dict[Any, str]:
    """Save the schedule of each cause to a new file; return the commands that replay them, by signature."""
    return {
        cause.signature: replay_command(exploration, cause.saved, folder)
        for cause in exploration.causes.values()
        if cause.saved is not None
    }


def show(report: "ExplorationReport", replays: dict[Any, str]) -> None:
    """Print what was covered, the findings and the verdict."""
    width = shutil.get_terminal_size().columns
    colors = wants_colors(sys.stdout)

    def echo(text: str, **style: Any) -> None:
        filled = textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)
        click.secho(filled, color=colors, **(style if colors else {}))

    echo(report.coverage())
    for cause, sentence in report.causes():
        click.echo()
        echo(sentence, fg="red", bold=True)
        echo(report.occurrence(cause))
        if cause.signature in replays:
            click.echo(f"replay: {replays[cause.signature]}")
    click.echo()
    echo(report.verdict())
    click.echo(f"again: {report.command()}")
