"""`emu log`: prints the events of a log that pass its filters."""

import itertools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import click

from emu.cli.options import json_option
from emu.cli.terminal import wants_colors
from emu.errors import reason_of


@click.command("log", short_help="Print the events of a log that pass every filter.")
@click.argument("file")
@click.option("--agent", "agents", multiple=True, help="Name of an agent: cpu0, 00:1f.0, vtd0.")
@click.option("--domain", type=int, help="Number of a domain.")
@click.option("--dfn", help="A device frame number, 0x1000 or 4096.")
@click.option("--event", "events", multiple=True, help="Name of an event, or its beginning: pte, iotlb.fill.")
@click.option("--steps", metavar="FIRST:LAST", help="A range of steps; either end may be left out.")
@json_option("Print JSON lines.")
def log_command(
    *,
    file: str,
    agents: tuple[str, ...],
    domain: int | None,
    dfn: str | None,
    events: tuple[str, ...],
    steps: str | None,
    as_json: bool,
) -> None:
    """Print the events of a log FILE that pass every filter; - reads standard input."""
    from emu.reports.log import write_console, write_json
    from emu.reports.reading import Filter, Names, read_records

    wanted = Filter.parse(agents=agents, domain=domain, dfn=dfn, events=events, steps=steps)
    with open_input(file) as lines:
        names = Names()
        records = (record for record in names.noting(read_records(lines, file)) if wanted.passes(record))
        first = next(records, None)
        passed = itertools.chain([] if first is None else [first], records)
        if as_json:
            write_json(passed, sys.stdout.buffer)
        else:
            write_console(passed, sys.stdout, colors=wants_colors(sys.stdout))
    sentences = list(names.missing(wanted))
    if first is None:
        sentences.insert(0, "no event passes the filters")
    if sentences:
        click.echo(f"emu: {'; '.join(sentences)}", err=True)


@contextmanager
def open_input(path: str) -> Iterator[BinaryIO]:
    """Open a log, or standard input for "-".

    Raises:
        click.UsageError: if it cannot be read.
    """
    if path == "-":
        if sys.stdin is None:
            raise click.UsageError("standard input is closed: name a file")
        yield sys.stdin.buffer
        return
    with open_log(path) as file:
        yield file


def open_log(path: str) -> BinaryIO:
    """Open a log: a file or a pipe, since a log is read line by line.

    Raises:
        click.UsageError: naming the file and why it cannot be read.
    """
    try:
        return Path(path).open("rb")
    except (OSError, ValueError) as error:
        raise click.UsageError(f"the log {path!r} cannot be read: {reason_of(error)}") from None
