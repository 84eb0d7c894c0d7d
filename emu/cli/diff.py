"""`emu diff`: says where two executions part, each given by its log or its schedule."""

from contextlib import ExitStack
from typing import TYPE_CHECKING

import click

from emu.cli.log_input import open_input, schedule_in
from emu.cli.options import json_option
from emu.cli.output import show_json, show_paragraph

if TYPE_CHECKING:
    from emu.reports.steps import Written

CONTEXT_MAX = 100


@click.command("diff", short_help="Say where two executions part.")
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option("--context", type=click.IntRange(0, CONTEXT_MAX), default=5, show_default=True, help="Equal lines shown.")
@json_option("Print JSON.")
def diff_command(*, first: str, second: str, context: int, as_json: bool) -> int:
    """Say at which step two executions part, and what each agent was about to do.

    A and B are logs, files of schedules or tokens; - reads a log from standard
    input. Exit status: 0 they are equal, 1 they part, 2 a mistake.
    """
    from emu.reports.diff import DiffReport
    from emu.reports.parting import Difference

    with ExitStack() as files:
        report = DiffReport(Difference.of(*written_in(first, second, files), context))
    if as_json:
        show_json("diff", {"A": first, "B": second, **report.data()})
    else:
        for sentence in (*report.remarks(), report.title()):
            show_paragraph(sentence)
        for line in report.lines():
            click.echo(line)
    return 0 if report.found.is_equal else 1


def written_in(first: str, second: str, files: ExitStack) -> tuple["Written", "Written"]:
    """Return the executions that two tokens or files hold; the files of logs are closed with the others.

    Raises:
        click.UsageError: if both are to be read from standard input.
    """
    if first == second == "-":
        raise click.UsageError("only one of the two can be read from standard input")
    return written_at(first, files), written_at(second, files)


def written_at(text: str, files: ExitStack) -> "Written":
    """Return the execution that a token or a file holds."""
    from emu.reports.reading import read_records
    from emu.reports.steps import WrittenLog, WrittenSchedule

    saved = schedule_in(text)
    if saved is not None:
        return WrittenSchedule(saved)
    return WrittenLog(read_records(files.enter_context(open_input(text)), text), text)
