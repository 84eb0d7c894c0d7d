"""Where in the source an agent is suspended: the chain of coroutines from its body to the awaited operation."""

from collections.abc import Coroutine, Iterator
from types import FrameType
from typing import Any, NamedTuple


class Location(NamedTuple):
    """A suspended line of source."""

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
