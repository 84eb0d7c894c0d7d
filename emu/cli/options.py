"""Options that several verbs take, and the options of run, explore and replay in the order of their help."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from emu.cli.schedules import FOLDER, Schedules

Verb = Callable[..., Any]
Option = Callable[[Verb], Verb]


def stack(*options: Option) -> Option:
    """Return a decorator that gives a verb these options, in this order."""

    def decorate(verb: Verb) -> Verb:
        for option in reversed(options):
            verb = option(verb)
        return verb

    return decorate


def parameters_option(metavar: str, text: str) -> Option:
    """Return `-p`."""
    return click.option("-p", "parameters", multiple=True, metavar=metavar, help=text)


def choice_option(name: str, choices: tuple[str, ...], text: str) -> Option:
    """Return an option that takes one of several words, the first by default."""
    return click.option(name, type=click.Choice(choices), default=choices[0], show_default=True, help=text)


def seed_option(text: str) -> Option:
    """Return `--seed`."""
    return click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help=text)


def schedules_options(text: str) -> Option:
    """Return `--schedules` and `--token`, of which one `Schedules` is made."""
    return stack(
        click.option(
            "--schedules", metavar="PATH", default=FOLDER, show_default=True, callback=schedules_of, help=text
        ),
        click.option(
            "--token", "are_tokens", is_flag=True, is_eager=True, help="Print a token instead of writing a file."
        ),
    )


def schedules_of(ctx: click.Context, parameter: click.Parameter, folder: str) -> Schedules:
    """Return what saves the schedules of a command."""
    return Schedules(Path(folder), are_tokens=ctx.params.pop("are_tokens"))


def json_option(text: str) -> Option:
    """Return `--json`."""
    return click.option("--json", "as_json", is_flag=True, help=text)


SHRINK_SECONDS = 10.0


def seconds_to_shrink(ctx: click.Context, parameter: click.Parameter, seconds: float) -> float | None:
    """Return how long shrinking may take; None if `--no-shrink` is given."""
    return None if ctx.params.pop("no_shrink") else seconds


shrink_options = stack(
    click.option(
        "--no-shrink", is_flag=True, is_eager=True, help="Show a finding as it was found, not its shortest schedule."
    ),
    click.option(
        "--shrink-time",
        "shrink",
        type=click.FloatRange(0, 10_000_000, min_open=True),
        default=SHRINK_SECONDS,
        show_default=True,
        metavar="SECONDS",
        callback=seconds_to_shrink,
        help="How long the search for that may take.",
    ),
)

SCENARIO = click.argument("scenario")
PARAMETERS = parameters_option("NAME=VALUE", "Set a parameter; see `emu list`.")
EXPECT = click.option(
    "--expect", metavar="CLAIM", help="Claim clean, KIND[,KIND...] (the first shows, others may), or declared."
)
LIKE = click.option("--like", metavar="REVISION", help="Claim what is declared of a revision of emu's.")
HOST = choice_option("--host", ("trio", "direct"), "What drives the agents.")
LOG = click.option("--log", "log_path", metavar="PATH", help="Write the log as JSON lines to a file.")
SHOW_LOG = click.option("--show-log", is_flag=True, help="Print the log before the report.")
REPORT = json_option("Print the report as JSON.")
CYCLES = click.option("--cycles", "cycles_path", metavar="PATH", help="JSON file: how many cycles events take.")

run_options = stack(
    SCENARIO,
    PARAMETERS,
    EXPECT,
    LIKE,
    click.option(
        "--executions",
        type=click.IntRange(1, 10_000_000),
        default=1,
        show_default=True,
        help="Limit of executions; the declared finding ends them.",
    ),
    seed_option("Seed of the first execution."),
    choice_option("--strategy", ("random", "round-robin", "free"), "What chooses the next agent."),
    HOST,
    shrink_options,
    schedules_options("Folder for the schedule of a finding."),
    LOG,
    SHOW_LOG,
    REPORT,
    CYCLES,
)

explore_options = stack(
    SCENARIO,
    PARAMETERS,
    EXPECT,
    LIKE,
    choice_option(
        "--strategy",
        ("optimal", "depth-first", "random"),
        "One execution a trace, every interleaving, or random ones.",
    ),
    click.option("--executions", type=click.IntRange(1), help="Limit of executions.  [random: 1000]"),
    click.option("--time", "seconds", type=click.FloatRange(0, 10_000_000, min_open=True), help="Limit of seconds."),
    seed_option("Seed of the first random execution."),
    click.option("--stepwise", is_flag=True, help="Take no section under a lock in one step."),
    choice_option("--host", ("direct", "trio"), "Plain loop, or Trio tasks."),
    shrink_options,
    schedules_options("Folder for schedules."),
    json_option("Print the report as JSON."),
)

SCHEDULE = click.argument("schedule", metavar="FILE|TOKEN")
SCENARIO_PATH = click.argument("scenario", metavar="[SCENARIO.py]", required=False)

replay_options = stack(
    SCHEDULE,
    SCENARIO_PATH,
    parameters_option("revision=PATH", "Name a revision of your own."),
    EXPECT,
    LIKE,
    click.option("--step", is_flag=True, help="Step through the replay at a prompt; help lists its commands."),
    click.option(
        "--break", "breaks", multiple=True, metavar="'EVENT K=V'", help="Stop after such a step: 'iotlb.fill dfn=0x40'."
    ),
    click.option("--pdb", "with_pdb", is_flag=True, help="Start pdb in the agent that causes the first finding."),
    click.option("--shrink", "change", flag_value="shrink", help="Save and show the shortest schedule of the finding."),
    click.option(
        "--witness", "change", flag_value="witness", help="Let a device use the stale entry; the rest may differ."
    ),
    schedules_options("Folder for the schedule of --witness or --shrink."),
    HOST,
    LOG,
    SHOW_LOG,
    REPORT,
    CYCLES,
)


def parse_lists(pairs: tuple[str, ...]) -> dict[str, list[str]]:
    """Split `name=value,value` pairs.

    Raises:
        click.UsageError: for a text that is no such pair, a parameter that is named twice, or the revision.
    """
    values = parse_parameters(pairs)
    if "revision" in values:
        raise click.UsageError("name revisions as REVISION and --against BASE, not with -p")
    return {name: value.split(",") for name, value in values.items()}


def parse_parameters(pairs: tuple[str, ...]) -> dict[str, str]:
    """Split `name=value` pairs.

    Raises:
        click.UsageError: for a text that is no such pair, or a parameter that is named twice.
        ScenarioError: for a name that a bundled revision and a folder share.
    """
    from emu.hypervisor.revisions.loader import refuse_ambiguous

    values: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise click.UsageError(f"-p takes NAME=VALUE, not {pair!r}")
        if name in values:
            raise click.UsageError(f"-p {name} is given twice: leave one out")
        values[name] = value
    if "revision" in values:
        refuse_ambiguous(values["revision"])
    return values
