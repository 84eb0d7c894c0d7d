"""The source lines at which an agent is suspended or has raised, for logs and messages."""

import ast
import dis
import linecache
import traceback
from collections.abc import Coroutine, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from emu.errors import ModelAssertionError, text_of

PACKAGE = Path(__file__).parent.parent
BUNDLED_SCENARIOS = PACKAGE / "bundled" / "scenarios"
STANDARD_LIBRARY = Path(traceback.__file__).parent

RAISES = dis.opmap["RAISE_VARARGS"]
"""The instruction of `raise`."""


class Location(NamedTuple):
    """A line of source."""

    file: str
    line: int
    function: str


def locations(coroutine: Coroutine[Any, Any, Any]) -> Iterator[Location]:
    """Yield the suspended lines of a coroutine, outermost first."""
    return map(location_of, frames(coroutine))


def location_of(frame: FrameType) -> Location:
    """Return the line at which a frame is suspended."""
    return Location(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)


def frames(coroutine: Coroutine[Any, Any, Any]) -> Iterator[FrameType]:
    """Yield the suspended frames of a coroutine and of what it awaits, outermost first."""
    awaited: Any = coroutine
    while awaited is not None:
        frame: FrameType | None = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is None:
            return
        yield frame
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)


def is_users(location: Location) -> bool:
    """Whether a line is the user's, or a bundled scenario's: neither emu's own nor a library's."""
    path = Path(location.file)
    if path.is_relative_to(PACKAGE):
        return path.is_relative_to(BUNDLED_SCENARIOS)
    if location.file.startswith("<"):
        return False
    return "site-packages" not in path.parts and not path.is_relative_to(STANDARD_LIBRARY)


def suspended_at(coroutine: Coroutine[Any, Any, Any]) -> str:
    """Name the user's innermost line at which a coroutine is suspended."""
    return name_innermost(locations(coroutine))


def raised_at(error: BaseException) -> str:
    """Name the user's innermost line from which an exception came."""
    return name_innermost(raised_lines(error))


def raised_in(error: BaseException) -> str:
    """Name the same line with its folders, because every revision has an iommu.py."""
    return file_and_line(innermost_of(raised_lines(error)))


def file_and_line(location: Location) -> str:
    """Return file:line, with a path that does not depend on where emu is installed."""
    path = Path(location.file)
    for base in (PACKAGE.parent, working_directory()):
        if base is not None and path.is_relative_to(base):
            return f"{path.relative_to(base).as_posix()}:{location.line}"
    return f"{path.name}:{location.line}"


def working_directory() -> Path | None:
    """Return the working directory; None if it is gone."""
    try:
        return Path.cwd()
    except OSError:
        return None


def from_here(path: Path) -> str:
    """Return a path relative to the working directory if it lies below that, else the whole path."""
    here = working_directory()
    return str(path.relative_to(here) if here is not None and path.is_relative_to(here) else path)


def raised_lines(error: BaseException) -> list[Location]:
    """Return the lines through which an exception came, the outermost first."""
    frames = traceback.extract_tb(error.__traceback__)
    return [Location(frame.filename, frame.lineno or 0, frame.name) for frame in frames]


def is_interrupt(error: BaseException) -> bool:
    """Whether an error is Ctrl-C, and no KeyboardInterrupt that a `raise` in a user's own line raised."""
    if not isinstance(error, KeyboardInterrupt):
        return False
    innermost = error.__traceback__
    while innermost is not None and innermost.tb_next is not None:
        innermost = innermost.tb_next
    if innermost is None or not is_users(raised_lines(error)[-1]):
        return True
    return innermost.tb_frame.f_code.co_code[innermost.tb_lasti] != RAISES


def is_asserted_by_model(error: AssertionError) -> bool:
    """Whether a user's own line or the emulated software raised the error, rather than emu or a library."""
    return isinstance(error, ModelAssertionError) or is_users(raised_lines(error)[-1])


def claim_of(error: AssertionError) -> str:
    """Return the asserted claim: the first line of the message, or the source of the condition without a message."""
    message = text_of(error).strip()
    if message:
        return message.splitlines()[0]
    frame = traceback.extract_tb(error.__traceback__)[-1]
    source = "".join(linecache.getlines(frame.filename))
    return condition_at(source, frame.lineno or 0) or frame.line or type(error).__name__


@lru_cache
def condition_at(source: str, line: int) -> str | None:
    """Return the condition of the `assert` at a line, in one line; Pythons differ in the line that they name."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except SyntaxError:  # the file has changed since it was imported
        return None
    for node in nodes:
        if isinstance(node, ast.Assert) and node.lineno <= line <= (node.end_lineno or node.lineno):
            return " ".join((ast.get_source_segment(source, node.test) or "").split())
    return None


def name_innermost(lines: Iterable[Location]) -> str:
    """Name the user's innermost line; the innermost line of all where none is the user's."""
    innermost = innermost_of(lines)
    return f"{Path(innermost.file).name}:{innermost.line}"


def innermost_of(lines: Iterable[Location]) -> Location:
    """Return the user's innermost line; the innermost line of all where none is the user's."""
    found = list(lines)
    users = [location for location in found if is_users(location)]
    return (users or found)[-1]
