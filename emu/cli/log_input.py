"""What `emu log` reads: a log as a file or a pipe, one that grows, or a schedule that was taken for a log."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self

import attrs
import click

from emu.errors import reason_of

if TYPE_CHECKING:
    from emu.reports.reading import Lines
    from emu.running.save import SavedSchedule

SECONDS_BETWEEN_LOOKS = 0.2
"""How long until a log that is followed is looked at again: it costs nothing, and seems to be at once."""

BEGINNING = 256
"""So many bytes of a file tell whether it is a schedule."""


@contextmanager
def open_input(path: str, at_end: Callable[[], object] | None = None) -> Iterator["Lines"]:
    """Open a log, or standard input for "-".

    Args:
        at_end: follow the file, and call this each time when all of it has been read.

    Raises:
        click.UsageError: if it cannot be read.
    """
    if path == "-" and sys.stdin is None:
        raise click.UsageError("standard input is closed: name a file")
    with nullcontext(sys.stdin.buffer) if path == "-" else open_log(path) as file:
        if at_end is None or path == "-":
            yield file
        else:
            with Followed(path, file, at_end) as followed:
                yield followed


def open_log(path: str) -> BinaryIO:
    """Open a log: a file or a pipe, since a log is read line by line.

    Raises:
        click.UsageError: naming the file and why it cannot be read.
    """
    try:
        return Path(path).open("rb")
    except (OSError, ValueError) as error:
        raise click.UsageError(f"the log {path!r} cannot be read: {reason_of(error)}") from None


@attrs.define
class Followed:
    """A file that grows. Where another file takes its name, as when a run writes its log anew, that is read next.

    Attributes:
        at_end: called when all of it has been read.
        part: the beginning of a line that has not ended yet.
    """

    path: str
    file: BinaryIO
    at_end: Callable[[], object]
    part: bytes = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def readline(self, limit: int, /) -> bytes:
        """Return the next line when it has ended, or so many bytes of it; nothing after Ctrl-C."""
        try:
            return self.next_line(limit)
        except KeyboardInterrupt:
            return b""

    def next_line(self, limit: int) -> bytes:
        """Return the next line when it has ended, or so many bytes of it."""
        while True:
            self.part += self.file.readline(limit - len(self.part))
            if self.part.endswith(b"\n") or len(self.part) >= limit:
                line, self.part = self.part, b""
                return line
            if not self.is_replaced():
                self.at_end()
                time.sleep(SECONDS_BETWEEN_LOOKS)
            elif self.part:
                line, self.part = self.part, b""
                return line  # it will never end: it is cut off
            else:
                self.file.close()
                self.file = open_log(self.path)

    def is_replaced(self) -> bool:
        """Whether the path leads to another file now, or the file has become shorter."""
        try:
            found, ours = Path(self.path).stat(), os.fstat(self.file.fileno())
        except OSError:
            return False  # it may come back
        return not os.path.samestat(found, ours) or self.is_cut(found)

    def is_cut(self, found: os.stat_result) -> bool:
        """Whether a regular file is shorter than what has been read of it."""
        return self.file.seekable() and found.st_size < self.file.tell()


def schedule_in(path: str) -> "SavedSchedule | None":
    """Return the schedule that a token is or a file holds; None if it is no schedule.

    Raises:
        ScenarioError: if it is a damaged one.
    """
    from emu.running.read import read
    from emu.running.save import TOKEN_PREFIX

    if path.startswith(TOKEN_PREFIX):
        return read(path)
    try:
        if not Path(path).is_file():
            return None
        with Path(path).open("rb") as file:
            beginning = file.read(BEGINNING)
    except (OSError, ValueError):
        return None
    if beginning.startswith(TOKEN_PREFIX.encode()):
        return read(Path(path).read_text().strip())
    return read(path) if beginning.lstrip().startswith(b"{") and b'"emu-schedule-' in beginning else None
