"""The values that a revision's functions may return: a result, or a result with the flush required."""

from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

from emu.errors import ScenarioError
from emu.hypervisor.ops import FlushType

RESULT = "0 or a negative errno"


def result_of(returned: object, function: Callable[..., Any]) -> int:
    """Return the result that a function has returned: 0 or a negative errno.

    Raises:
        ScenarioError: if it is anything else, naming the function and what it should return.
    """
    if isinstance(returned, bool) or not isinstance(returned, int) or returned > 0:
        raise wrong(returned, function, RESULT)
    return returned


def change_of(returned: object, function: Callable[..., Any]) -> tuple[int, FlushType]:
    """Return what a hook that changes an entry has returned: a result, and the flush that the change requires.

    Raises:
        ScenarioError: if it is anything else, naming the function and what it should return.
    """
    match returned:
        case (int() as result, FlushType() as flush_type) if result <= 0 and not isinstance(result, bool):
            return result, flush_type
    raise wrong(returned, function, f"({RESULT}, FlushType.NONE, ADDED or MODIFIED)")


def wrong(returned: object, function: Callable[..., Any], wanted: str) -> ScenarioError:
    """Return the error for a function that has returned anything but `wanted`."""
    if isinstance(returned, Coroutine):
        returned.close()
        return ScenarioError(f"{name_of(function)} returned a call that it has not awaited: write `await` before it")
    return ScenarioError(f"{name_of(function)} returned {shown(returned)}: return {wanted}")


def shown(returned: object) -> str:
    """Return a value as a message names it: a number or flush type in full, anything else by its type."""
    if isinstance(returned, tuple):
        return f"({', '.join(map(shown, returned))})"
    if isinstance(returned, FlushType):
        return f"FlushType.{returned.name}"
    return str(returned) if returned is None or isinstance(returned, int) else f"a {type(returned).__name__}"


def name_of(function: Callable[..., Any]) -> str:
    """Return the name of a function, with its revision, file and line."""
    if isinstance(function, partial):
        function = function.func
    code = function.__code__
    path = Path(code.co_filename)
    return f"{function.__qualname__} ({path.parent.name}/{path.name}:{code.co_firstlineno})"
