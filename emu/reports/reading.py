"""Reading a log: its records, line by line and bounded. `filters.py` chooses among them."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import orjson

from emu.errors import ScenarioError
from emu.files.bounded import size
from emu.reports.log import LOG_FORMAT, Record

LINE_BYTES_MAX = 1 << 20
SKIPPED_BYTES_MAX = 64 << 20
"""The most bytes of one line that are read and left out; a file with a longer line is given up."""

PARSED_FIRST = 10_000
"""So many lines are always parsed, for the names in them: to suggest one for a name that a filter mistypes."""

FORMATS = (LOG_FORMAT, "emu-log-1")
"""The formats that are read; before there were formats, logs were as those of format 1, without its name."""

Needles = Sequence[Sequence[bytes]]
"""Groups of texts; a line may pass a filter only if it holds a text of each group."""


class Lines(Protocol):
    """A file of lines, or whatever else yields them."""

    def readline(self, limit: int, /) -> bytes:
        """Return the next line, or so many bytes of it; nothing at the end."""


class LeftOutError(ScenarioError):
    """Some lines of a log held no record; all others have been read."""


def read_records(file: Lines, name: str, needles: Needles = ()) -> Iterator[Record]:
    """Yield the records of a log. Lines that hold no record are left out and counted.

    Args:
        needles: a line without one of each group may be left out without being parsed.

    Raises:
        LeftOutError: after the last line, if some held no record, naming the first and their number.
        ScenarioError: at once for a line that does not end, and for a log of another version.
    """
    number, left_out, first = 0, 0, ""
    while line := file.readline(LINE_BYTES_MAX + 1):
        number += 1
        if needles and number > PARSED_FIRST and is_plain(line) and not has_needles(line, needles):
            continue
        try:
            if len(line) > LINE_BYTES_MAX:
                skip_line(file, line, f"line {number} of {name!r}")
            record = parse_record(line, f"line {number} of {name!r}")
        except LeftOutError as error:
            left_out, first = left_out + 1, first or str(error)
            continue
        if record["event"] == "execution.begin":
            refuse_other_version(record, name)
        yield record
    if left_out:
        raise LeftOutError(f"{first}; left out: {left_out} of {number} lines")


def is_plain(line: bytes) -> bool:
    """Whether a line is one whole record as emu writes it, so that what it holds is found without parsing it."""
    is_whole = line.startswith(b'{"event":"') and line.endswith(b"}\n") and line.count(b"{") == 1
    return is_whole and b"\\" not in line and b'": ' not in line


def has_needles(line: bytes, needles: Needles) -> bool:
    """Whether a line holds a text of each group, or begins an execution."""
    if line.startswith(b'{"event":"execution.begin"'):
        return True
    for group in needles:
        for needle in group:
            if needle in line:
                break
        else:
            return False
    return True


def skip_line(file: Lines, line: bytes, where: str) -> None:
    """Read the rest of a line that is too long.

    Raises:
        LeftOutError: always, when the line has ended.
        ScenarioError: if it does not end.
    """
    problem = f"{where} is longer than {size(LINE_BYTES_MAX)}: it is no log of emu"
    skipped = len(line)
    while line and not line.endswith(b"\n"):
        line = file.readline(LINE_BYTES_MAX)
        skipped += len(line)
        if skipped > SKIPPED_BYTES_MAX:
            raise ScenarioError(problem)
    raise LeftOutError(problem)


def refuse_other_version(record: Record, name: str) -> None:
    """Refuse a log whose first record names another format.

    Raises:
        ScenarioError: naming the format.
    """
    named = record.get("format", LOG_FORMAT)
    if named not in FORMATS:
        read = " or ".join(map(repr, FORMATS))
        raise ScenarioError(f"{name!r} has the format {str(named)[:40]!r}, not {read}: make it anew")


def parse_record(line: bytes, where: str) -> Record:
    """Return the record of a line.

    Raises:
        LeftOutError: if the line holds no record.
    """
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise LeftOutError(f"{where} is not JSON: it is no log of emu, or was cut off") from None
    is_record = isinstance(record, dict) and isinstance(record.get("event"), str)
    if not is_record or record.get("level") not in ("info", "warning"):
        raise LeftOutError(f"{where} has no event and level: it is no log of emu")
    found: Record = record
    return found
