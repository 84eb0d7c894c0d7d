"""`emu explore`: executes every trace of a scenario once, and shows the findings."""

import math
from typing import TYPE_CHECKING, Any

import attrs
import click

from emu.cli.ending import refuse_failure, status_of, stop_on_interrupt
from emu.cli.options import explore_options, parse_parameters
from emu.cli.output import show_json, show_paragraph, show_report
from emu.cli.schedules import Schedules
from emu.cli.terminal import show_exploration

if TYPE_CHECKING:
    from emu.reports.exploration import ExplorationReport
    from emu.running.exploration import ScenarioExploration
    from emu.running.plan import Plan

RANDOM_EXECUTIONS = 1000
"""The number of random executions where no option limits them."""


@click.command("explore", short_help="Execute every trace of a scenario once.")
@explore_options
def explore_command(
    *,
    scenario: str,
    parameters: tuple[str, ...],
    expect: str | None,
    like: str | None,
    strategy: str,
    executions: int | None,
    seconds: float | None,
    seed: int,
    stepwise: bool,
    host: str,
    shrink: float | None,
    schedules: Schedules,
    as_json: bool,
) -> int:
    """Explore SCENARIO, a name or a .py file: execute every trace of it once.

    A trace is a set of interleavings that differ only in the order of steps
    that cannot influence one another. What is found is repeated on Trio tasks
    before it is shown, once for each cause. Ctrl-C ends after the present
    execution, with the report so far.
    """
    from emu.reports.exploration import ExplorationReport
    from emu.running.exploration import ScenarioExploration
    from emu.scenarios.library import find

    plan = make_plan(strategy, executions, seconds, seed, sections=not stepwise)
    plan = attrs.evolve(plan, shrink=shrink)
    bound = find(scenario).bind(parse_parameters(parameters)).claiming(expect, like)
    exploration = ScenarioExploration(bound, scenario, plan)
    with stop_on_interrupt(exploration), show_exploration(exploration):
        exploration.on(host)
    refuse_failure(exploration, lambda: save_failed(exploration, schedules))
    show(ExplorationReport(exploration), save_causes(exploration, schedules), as_json=as_json)
    return status_of(exploration)


def make_plan(strategy: str, executions: int | None, seconds: float | None, seed: int, *, sections: bool) -> "Plan":
    """Return the plan that the options ask for.

    Raises:
        click.UsageError: if the options do not go together, or the time is no number.
    """
    from emu.running.plan import Plan

    if seconds is not None and math.isnan(seconds):
        raise click.UsageError("--time takes a number of seconds, not 'nan'")
    if seed and strategy != "random":
        raise click.UsageError(f"--seed is for --strategy random; {strategy} has none")
    if strategy == "random" and executions is None and seconds is None:
        executions = RANDOM_EXECUTIONS
    return Plan(strategy, executions, seconds, seed, sections=sections)


def save_failed(exploration: "ScenarioExploration", schedules: Schedules) -> str | None:
    """Save the schedule that leads to a scenario's mistake; return the command that replays it, None without one."""
    saved = exploration.failing_schedule()
    return None if saved is None else schedules.command_for(saved, exploration.named, exploration.bound)


def save_causes(exploration: "ScenarioExploration", schedules: Schedules) -> dict[Any, str]:
    """Save the schedule of each cause; return the commands that replay them, by signature."""
    return {
        cause.signature: schedules.command_for(cause.saved, exploration.named, exploration.bound)
        for cause in exploration.causes.values()
        if cause.saved is not None
    }


def show(report: "ExplorationReport", replays: dict[Any, str], *, as_json: bool) -> None:
    """Print the report of an exploration.

    Args:
        replays: the commands that replay the causes, by signature.
    """
    if as_json:
        from emu.reports.version import made_by

        show_json("exploration", {"emu": made_by(), **report.data(replays)}, 2)
    else:
        show_text(report, replays)


def show_text(report: "ExplorationReport", replays: dict[Any, str]) -> None:
    """Print the coverage, the findings and the verdict."""
    show_paragraph(report.coverage())
    for cause, told in report.causes():
        click.echo()
        show_report(told)
        click.echo()
        show_paragraph(report.occurrence(cause))
        if cause.signature in replays:
            click.echo(f"replay: {replays[cause.signature]}")
    for remark in report.not_proved():
        show_paragraph(remark)
    click.echo()
    show_paragraph(report.verdict())
    click.echo(f"again: {report.command()}")
