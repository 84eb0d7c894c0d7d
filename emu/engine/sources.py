"""The source lines at which an agent is suspended or has raised, for logs and messages."""

import traceback
from collections.abc import Coroutine, Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

PACKAGE = Path(__file__).parent.parent
BUNDLED_SCENARIOS = PACKAGE / "bundled" / "scenarios"
STANDARD_LIBRARY = Path(traceback.__file__).parent


class Location(NamedTuple):
    """A line of source."""

    file: str
    line: int
    function: str


def locations(coroutine: Coroutine[Any, Any, Any]) -> Iterator[Location]:
    """Yield the suspended lines of a coroutine, outermost first."""
    awaited: Any = coroutine
    while awaited is not None:
        frame: FrameType | None = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is None:
            return
        yield Location(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)


def is_users(location: Location) -> bool:
    """Whether a line is a scenario's: neither emu's own nor a library's."""
    path = Path(location.file)
    if path.is_relative_to(PACKAGE):
        return path.is_relative_to(BUNDLED_SCENARIOS)
    return "site-packages" not in path.parts and not path.is_relative_to(STANDARD_LIBRARY)


def suspended_at(coroutine: Coroutine[Any, Any, Any]) -> str:
    """Name the user's innermost line at which a coroutine is suspended."""
    return name_innermost(locations(coroutine))


def raised_at(error: BaseException) -> str:
    """Name the user's innermost line from which an exception came."""
    frames = traceback.extract_tb(error.__traceback__)
    return name_innermost(Location(frame.filename, frame.lineno or 0, frame.name) for frame in frames)


def name_innermost(lines: Iterable[Location]) -> str:
    """Name the user's innermost line; the innermost of all where none is a user's."""
    found = list(lines)
    users = [location for location in found if is_users(location)]
    innermost = (users or found)[-1]
    return f"{Path(innermost.file).name}:{innermost.line}"
