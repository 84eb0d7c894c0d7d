"""Writing a file: whole or not at all, and only up to a limit for its kind.

The content goes to a new file beside the named file, and the new file then replaces it. So an error, a full disk or
Ctrl-C leaves an older file as it was. A pipe or a device is written to directly.
"""

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Protocol

import attrs

from emu.files.bounded import size

STANDARD_STREAMS = (1, 2)


class Writable(Protocol):
    """An object that takes bytes, such as a file."""

    def write(self, data: bytes, /) -> object:
        """Write bytes."""


Write = Callable[[Writable], object]
"""Writes the content of a file."""


@attrs.define
class Bounded:
    """A file that takes at most `bytes_max` bytes."""

    file: BinaryIO
    bytes_max: int
    written: int = 0

    def write(self, data: bytes, /) -> None:
        """Write bytes.

        Raises:
            OSError: if the file would be too large.
        """
        self.written += len(data)
        if self.written > self.bytes_max:
            raise OSError(errno.EFBIG, f"it would be larger than {size(self.bytes_max)}")
        self.file.write(data)


def write_whole(path: Path, write: Write, bytes_max: int) -> None:
    """Write a file; it replaces an older file of the name.

    Raises:
        OSError, ValueError: if the file cannot be written, or would be too large.
    """
    if is_stream(path):
        with open_stream(path) as file:
            write(Bounded(file, bytes_max))
        return
    target = path.resolve()
    with part_of(target, write, bytes_max) as part:
        if target.exists():
            shutil.copymode(target, part)
        part.replace(target)


def write_new(paths: Iterator[Path], content: bytes, bytes_max: int) -> Path:
    """Write a new file under the first name that is free, and return the name.

    If a file of an earlier name has the same content, its name is returned and nothing is written.

    Raises:
        OSError, ValueError: if the file cannot be written, or would be too large.
        FileExistsError: if no name is free.
    """
    first = next(paths)
    with part_of(first, lambda file: file.write(content), bytes_max) as part:
        for path in chain([first], paths):
            if give_name(part, path) or holds(path, content):
                return path
    raise FileExistsError(errno.EEXIST, "all names that the file may have are taken")


def holds(path: Path, content: bytes) -> bool:
    """Whether the content of a file is this."""
    try:
        if not path.is_file():  # to open a pipe would wait for a writer
            return False
        with path.open("rb") as file:
            return file.read(len(content) + 1) == content
    except OSError:
        return False


def give_name(part: Path, path: Path) -> bool:
    """Give a file a new name; return False if the name is taken. No two processes get the same name."""
    try:
        try:
            os.link(part, path)
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links
            path.touch(exist_ok=False)
            part.replace(path)
    except FileExistsError:
        return False
    return True


@contextmanager
def part_of(path: Path, write: Write, bytes_max: int) -> Iterator[Path]:
    """Write the content to a file beside a path, and yield the file; it is removed afterwards."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            write(Bounded(file, bytes_max))
        yield part
    finally:
        part.unlink(missing_ok=True)


def is_stream(path: Path) -> bool:
    """Whether a path is a pipe, a terminal or a device, or where standard output or error goes."""
    try:
        found = path.stat()
    except OSError:
        return False
    is_special = not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode))
    return is_special or stream_at(found) is not None


def stream_at(found: os.stat_result) -> int | None:
    """Return the number of the standard stream that goes to a file; None if neither does."""
    for number in STANDARD_STREAMS:
        try:
            if os.path.samestat(found, os.fstat(number)):
                return number
        except OSError:  # it is closed
            continue
    return None


def open_stream(path: Path) -> BinaryIO:
    """Open a pipe or a device; a standard stream keeps its position."""
    number = stream_at(path.stat())
    return path.open("wb") if number is None else os.fdopen(os.dup(number), "wb")


def why_not(path: Path) -> str | None:
    """Return the reason, as far as it can be known before, why a file cannot be written; None if it can."""
    try:
        if is_stream(path):
            return None if os.access(path, os.W_OK) else os.strerror(errno.EACCES)
        if path.is_dir():
            return os.strerror(errno.EISDIR)
        folder = path.resolve().parent
    except (OSError, ValueError) as error:
        return str(error)
    if not folder.is_dir():
        return "there is no such folder to write into"
    return None if os.access(folder, os.W_OK) else os.strerror(errno.EACCES)
