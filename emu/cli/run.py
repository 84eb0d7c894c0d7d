"""`emu run`: executions of a scenario, and the log of the one that matters."""

import shutil
import signal
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from emu.cli.files import open_log_file
from emu.cli.terminal import show_progress, wants_colors

if TYPE_CHECKING:
    from emu.reports.run import RunReport
    from emu.running.exploration import ScenarioExploration
    from emu.running.run import Run
    from emu.running.save import SavedSchedule

STRATEGIES = ("random", "round-robin", "free")
STATUS = {"shown": 0, "proved": 0, "not contradicted": 0, "contradicted": 1, "undecided": 3}
EMULATOR_BUG = 70


@click.command("run")
@click.argument("scenario")
@click.option("-p", "parameters", multiple=True, metavar="NAME=VALUE", help="Set a parameter; see `emu list`.")
@click.option(
    "--executions",
    type=click.IntRange(1, 10_000_000),
    default=1,
    show_default=True,
    help="At most so many, until the declared finding shows.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the first execution.")
@click.option("--strategy", type=click.Choice(STRATEGIES), default="random", show_default=True, help="What chooses.")
@click.option("--host", type=click.Choice(("trio", "direct")), default="trio", show_default=True, help="What drives.")
@click.option(
    "--schedules",
    type=click.Path(),
    default=".",
    show_default="here",
    help="Folder for the schedule of a finding.",
)
@click.option("--log", "log_path", type=click.Path(), help="Write the log as JSON lines to a file.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON instead of the log.")
@click.option("--cycles", "cycles_path", type=click.Path(), help="JSON file: how many cycles events take.")
def run_command(
    *,
    scenario: str,
    parameters: tuple[str, ...],
    executions: int,
    seed: int,
    strategy: str,
    host: str,
    schedules: str,
    log_path: str | None,
    as_json: bool,
    cycles_path: str | None,
) -> int:
    """Run executions of SCENARIO, a name or a .py file, until it shows what it declares.

    Prints the log of the execution that shows it, or of the last one.
    Execution n runs with seed + n.
    """
    from emu.analysis.cycles import CYCLES, read_cycles
    from emu.errors import ScenarioError
    from emu.reports.run import RunReport
    from emu.running.run import Run
    from emu.scenarios.library import find

    cycles = read_cycles(cycles_path) if cycles_path else CYCLES
    bound = find(scenario).bind(parse_parameters(parameters))
    run = Run(bound, strategy, seed, executions)
    with stop_on_interrupt(run), open_log(log_path) as log, show_progress(run):
        run.on(host)
        report = RunReport(run, scenario, cycles=cycles)
        if log is not None:
            report.write_log(log)
    if run.failure is not None:
        sys.unraisablehook = lambda _: None  # an agent that broke Trio leaves parts of it to the garbage collector
        raise ScenarioError(f"{run.failure}{again(report)}")
    replay = save_schedule(run, scenario, Path(schedules))
    if as_json:
        show_json(report, replay=replay)
    else:
        show_text(report, replay=replay)
    return EMULATOR_BUG if run.has_emulator_bug else STATUS[run.verdict.value]


def parse_parameters(pairs: tuple[str, ...]) -> dict[str, str]:
    """Split `name=value` pairs.

    Raises:
        click.UsageError: for what is no such pair, or names the same parameter again.
    """
    values: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise click.UsageError(f"-p takes NAME=VALUE, not {pair!r}")
        if name in values:
            raise click.UsageError(f"-p {name} is given twice: leave one out")
        values[name] = value
    return values


@contextmanager
def open_log(path: str | None) -> Iterator[BinaryIO | None]:
    """Open the log file before anything runs, so that nothing is lost where it cannot be written.

    Raises:
        click.UsageError: naming the file and why.
    """
    if path is None:
        yield None
        return
    with open_log_file(path, "wb") as file:
        yield file


@contextmanager
def stop_on_interrupt(run: "Run | ScenarioExploration") -> Iterator[None]:
    """Let Ctrl-C end it after the present execution; a second one ends it at once."""

    def stop(number: int, frame: FrameType | None) -> None:
        run.is_stopping = True
        signal.signal(signal.SIGINT, previous)
        click.echo("emu: stopping after this execution; Ctrl-C again stops at once", err=True)

    previous = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def again(report: "RunReport") -> str:
    """Return how to see it again, where that is possible."""
    command = report.command()
    return f"; again: {command}" if command else ""


def save_schedule(run: "Run", named: str, folder: Path) -> str | None:
    """Save the schedule of a finding to a new file; return the command that replays it, None without a finding."""
    from emu.running.replay import Replay
    from emu.running.save import save

    saved = save(run, named)
    if saved is None or run.matters is None or not run.matters.findings:
        return None
    text = write_schedule(saved, folder)
    revision = run.bound.values["revision"]
    return Replay(saved, named, revision, run.bound).command(text)


def write_schedule(saved: "SavedSchedule", folder: Path) -> str:
    """Write a schedule to a new file and return its path; where that cannot be, return its token."""
    try:
        return str(saved.write(folder))
    except OSError as error:
        click.echo(f"emu: the schedule cannot be saved in {str(folder)!r}: {error.strerror}", err=True)
        return saved.token()


def show_json(report: "RunReport", replay: str | None = None) -> None:
    """Print the report as JSON."""
    import orjson

    click.echo(orjson.dumps({**report.data(), "replay": replay}, option=orjson.OPT_INDENT_2).decode())


def show_text(report: "RunReport", replay: str | None = None) -> None:
    """Print the log, the findings, the verdict and the commands that show it again."""
    width = shutil.get_terminal_size().columns
    colors = wants_colors(sys.stdout)

    def show(text: str, **style: Any) -> None:
        filled = textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)
        click.secho(filled, color=colors, **(style if colors else {}))

    report.write_text(sys.stdout, colors=colors)
    for sentence in report.sentences():
        click.echo()
        show(sentence, fg="red", bold=True)
    click.echo()
    if report.run.limit is not None:
        show(report.run.limit)
    show(report.verdict())
    if command := report.command():
        click.echo(f"again: {command}")
    if replay:
        click.echo(f"replay: {replay}")
