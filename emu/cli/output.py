"""Printing to stdout: paragraphs for people, JSON for programs, and the report of a run as either."""

import shutil
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from emu.cli.terminal import wants_colors
from emu.reports.whole_words import in_whole_words

if TYPE_CHECKING:
    from emu.reports.finding_report import FindingReport
    from emu.reports.run import RunReport


def show_paragraph(text: str, indent: str = "", **style: Any) -> None:
    """Print a text filled to the width of the terminal; the style applies where colour is wanted.

    Args:
        indent: stands before each line but the first.
    """
    width, colors = shutil.get_terminal_size().columns, wants_colors(sys.stdout)
    filled = in_whole_words(text, width, rest=indent)
    click.secho("\n".join(filled), color=colors, **(style if colors else {}))


def show_title(name: str, story: str) -> None:
    """Print the name of an entry, and its story."""
    click.secho(name, bold=True)
    click.echo(click.wrap_text(story, width=80, initial_indent="  ", subsequent_indent="  "))


def show_finding(sentence: str) -> None:
    """Print the sentence of a finding below an empty line."""
    click.echo()
    show_paragraph(sentence, fg="red", bold=True)


def show_report(report: "FindingReport", *, with_columns: bool = True) -> None:
    """Print the report of a finding: its headline, its facts and the interleaving."""
    width, colors = shutil.get_terminal_size().columns, wants_colors(sys.stdout)
    show_paragraph(report.headline(), fg="red", bold=True)
    for line in report.fact_lines(width):
        click.echo(line)
    columns = report.columns(width) if with_columns else []
    if columns:
        click.echo()
        for line in columns:
            click.secho(line, color=colors, bold=True if colors and line.startswith(">") else None)


def show_json(kind: str, data: Mapping[str, Any], version: int = 1) -> None:
    """Print data as JSON; its first key names the kind of the report and the version."""
    import orjson

    click.echo(orjson.dumps({"format": f"emu-{kind}-{version}", **data}, option=orjson.OPT_INDENT_2).decode())


def show_run(report: "RunReport", replay: str | None = None, *, as_json: bool, with_log: bool) -> None:
    """Print the report of a run.

    Args:
        replay: the command that replays it.
        with_log: print the log before it; where a limit has ended the execution, its end is printed in any case.
    """
    if as_json:
        from emu.reports.version import made_by

        show_json("run", {"emu": made_by(), **report.data(), "replay": replay}, 2)
    else:
        show_run_text(report, replay, with_log=with_log)


def show_run_text(report: "RunReport", replay: str | None, *, with_log: bool) -> None:
    """Print the log, the findings, the verdict and the commands that repeat the execution."""
    has_log = with_log or report.run.limit is not None
    if has_log:
        report.write_text(sys.stdout, colors=wants_colors(sys.stdout))
    told = report.told()
    for number, one in enumerate(told):
        if has_log or number:
            click.echo()
        show_report(one, with_columns=not number)
    if has_log or told:
        click.echo()
    if report.run.limit is not None:
        show_paragraph(report.run.limit)
    show_paragraph(report.verdict())
    if command := report.command():
        click.echo(f"again: {command}")
    if replay:
        click.echo(f"replay: {replay}")
