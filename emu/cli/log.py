"""`emu log`: prints the events of a log that pass its filters, or answers a question about them."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import attrs
import click

from emu.cli.log_input import open_input, schedule_in
from emu.cli.log_options import filter_options, question_of, question_options, showing_options
from emu.cli.output import show_json, show_paragraph
from emu.cli.terminal import wants_colors

if TYPE_CHECKING:
    from emu.reports.filters import Filter
    from emu.reports.questions.answer import Answer
    from emu.reports.questions.table import Question, Row
    from emu.running.save import SavedSchedule

FILTERS = ("executions", "agents", "domains", "dfns", "frames", "locks", "events", "steps")


@click.command("log", short_help="Print the events of a log, or answer a question.")
@click.argument("file")
@filter_options
@question_options
@showing_options
def log_command(*, file: str, follow: bool, as_json: bool, **options: Any) -> None:
    """Print the events of a log FILE that pass every filter; - reads standard input.

    Of a filter that is given more than once, one must fit. --page, --owed,
    --lock-holders, --windows, --summary and --columns print a table, of which
    the filters choose the rows.
    """
    from emu.reports.questions.answer import Answer
    from emu.reports.reading import read_records

    wanted, question = asked(follow=follow, **options)
    if (saved := schedule_in(file)) is not None:
        show_schedule(saved, file, as_json=as_json)
        return
    answer = Answer(wanted, question)
    with open_input(file, sys.stdout.flush if follow else None) as lines, ending_on_ctrl_c(follow):
        show(answer.of(read_records(lines, file, answer.needles())), question, as_json=as_json)
    show_remarks(answer)


def asked(*, follow: bool, **options: Any) -> tuple["Filter", "Question | None"]:
    """Return the filter and the question that a user has written.

    Raises:
        click.UsageError: for two questions at a time, and for one that has no answer while the file grows.
        ScenarioError: for a text that is no number, or no key.
    """
    from emu.reports.filters import Filter

    wanted = Filter.parse(**{name: options.pop(name) for name in FILTERS})
    if options["lock_holders"] is not None:
        wanted = attrs.evolve(wanted, locks=(*wanted.locks, options["lock_holders"]))
    question = question_of(wanted.domains, **options)
    if follow and question is not None and options["columns"] is None:
        raise click.UsageError("--follow shows events as they come: leave the question out, or take --columns")
    return (wanted if options["page"] is None else attrs.evolve(wanted, domains=())), question


@contextmanager
def ending_on_ctrl_c(follow: bool) -> Iterator[None]:
    """Let Ctrl-C end a body that would not end otherwise."""
    try:
        yield
    except KeyboardInterrupt:
        if not follow:
            raise


def show(rows: "Iterable[Row]", question: "Question | None", *, as_json: bool) -> None:
    """Print records, or the rows of a question."""
    from emu.reports.log import json_line, write_console

    if as_json:
        write = sys.stdout.buffer.write
        for row in rows:
            write(json_line(row))
    elif question is None:
        write_console(rows, sys.stdout, colors=wants_colors(sys.stdout))
    else:
        sys.stdout.writelines(f"{line}\n" for line in question.lines(rows))


def show_remarks(answer: "Answer") -> None:
    """Say what is to be said besides the answer.

    Raises:
        LeftOutError: if lines of the log held no record.
    """
    if answer.left_out is not None:
        raise answer.left_out
    if remarks := answer.remarks():
        click.echo(f"emu: {'; '.join(remarks)}", err=True)


def show_schedule(saved: "SavedSchedule", text: str, *, as_json: bool) -> None:
    """Print what a schedule is, and the commands that replay it and that make its log."""
    from emu.reports.schedule import schedule_data, schedule_sentence

    data = schedule_data(saved, text)
    if as_json:
        show_json("schedule-summary", data)
        return
    show_paragraph(schedule_sentence(saved))
    click.echo(f"replay: {data['replay']}")
    click.echo(f"log: {data['log']}")
