"""Questions about a log, their rows, and the tables that fit 80 columns."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import attrs

from emu.errors import printable
from emu.reports.log import Record
from emu.reports.vocabulary import is_in_hexadecimal
from emu.reports.whole_words import in_whole_words

WIDTH = 80
INDENT_MAX = 60
CELL_MAX = 30
"""The most characters of a cell that is not the last one: names in a user's file may be of any length."""

Row = dict[str, Any]


@attrs.frozen
class Column:
    """A column of a table: a key of the rows, its heading, and its width; the last one takes what is left.

    Attributes:
        say: makes the text of a cell of its row, instead of the value of the key.
    """

    key: str
    head: str
    width: int
    say: Callable[[Row], str] | None = None

    def cell(self, row: Row) -> str:
        """Return the text of a cell."""
        return cell_text(self.key, row.get(self.key)) if self.say is None else printable(self.say(row))


@attrs.frozen
class Question:
    """A question: how it makes rows of records, and how these are shown.

    Attributes:
        nothing: the sentence where there is no row.
        by_execution: the rows of an execution stand below its number.
        of_filtered: the rows are made of the records that pass the filters; else of all, and the rows are filtered.
    """

    rows: Callable[[Iterable[Record]], Iterator[Row]]
    columns: tuple[Column, ...]
    nothing: str
    by_execution: bool = True
    of_filtered: bool = False

    def lines(self, rows: Iterable[Row]) -> Iterator[str]:
        """Yield the lines of the table."""
        execution = None
        for number, row in enumerate(rows):
            if self.by_execution and (number == 0 or row.get("execution") != execution):
                execution = row.get("execution")
                yield from ([""] if number else [])
                yield f"execution {cell_text('execution', execution)}"
            if number == 0:
                yield heading(self.columns)
            yield from row_lines(self.columns, row)


def heading(columns: tuple[Column, ...]) -> str:
    """Return the line above the rows."""
    return " ".join(column.head.ljust(column.width) for column in columns).rstrip()


def row_lines(columns: tuple[Column, ...], row: Row) -> Iterator[str]:
    """Yield the lines of a row: what does not fit the last column goes on below it."""
    *first, last = columns
    before = "".join(f"{cut(column.cell(row)).ljust(column.width)} " for column in first)
    text, indent = last.cell(row), " " * min(sum(column.width + 1 for column in first), INDENT_MAX)
    if len(before) + len(text) <= WIDTH:
        yield (before + text).rstrip()
        return
    if len(before) + len(text.partition(" ")[0]) > WIDTH:
        yield before.rstrip()
        before = indent
    yield from in_whole_words(text, WIDTH, before, indent)


def cut(text: str) -> str:
    """Return the text of a cell, or its beginning if it is a long one."""
    return text if len(text) <= CELL_MAX else f"{text[: CELL_MAX - 3]}..."


def cell_text(key: str, value: object) -> str:
    """Return a value as people read it: addresses in hexadecimal, nothing for what is not there."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if is_in_hexadecimal(key, value):
        return f"{value:#x}"
    if isinstance(value, list):
        return ",".join(cell_text(key, one) for one in value)
    return printable(str(value)).replace("\n", " ")
