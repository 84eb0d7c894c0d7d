"""The exceptions of emu. A finding is data, and is never raised.

EmuError
  ScenarioError      the user asked for something that cannot be done; the message says what to mend
    ModelError       a scenario's own code raised or misbehaved
  LimitReached       a named limit stopped an execution before it could be judged
  InternalError      an impossible state: a bug of emu
"""

import difflib
from collections.abc import Iterable

SAID_MAX = 1_000
"""How many characters are shown of the text of a foreign exception."""


class EmuError(Exception):
    """Root of everything that emu raises on purpose."""


class ScenarioError(EmuError):
    """A mistake of the user. One sentence says what is wrong and how to mend it."""


class ModelError(ScenarioError):
    """An agent's own code raised, or awaited something that its host does not serve."""


class LimitReached(EmuError):  # noqa: N818 - reaching a limit is an outcome without a verdict, not a mistake
    """A named limit ended an execution. The message names it, its value and how to raise it."""


class InternalError(EmuError):
    """An impossible state, and so a bug of emu."""

    def __str__(self) -> str:
        """Return the message with the request to report it."""
        return f"{super().__str__()}; this is a bug of emu, please report it with the command that showed it"


class ModelAssertionError(AssertionError):
    """An assertion that the emulated software itself makes does not hold: a finding, whoever's line raised it."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a suggestion of the known name that is most like a mistyped name; empty if none is."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def printable(text: str) -> str:
    """Return a text with escapes for the characters that a terminal obeys, or that JSON or XML cannot hold."""
    return "".join(one if one.isprintable() or one == "\n" else repr(one)[1:-1] for one in text)


def text_of(error: BaseException) -> str:
    """Return the text of an exception, even if its own code fails to give one."""
    try:
        return str(error)
    except BaseException as another:  # noqa: BLE001 - the code is not emu's
        return f"(its text cannot be had: that raises {type(another).__name__})"


def said_by(error: BaseException) -> str:
    """Return the type and the text of an exception, in one line.

    For a mistyped attribute, a suggestion follows.
    """
    said = " ".join(printable(text_of(error)).split())
    return f"{type(error).__name__}{f': {said[:SAID_MAX]}' if said else ''}{mistyped(error)}"


def mistyped(error: BaseException) -> str:
    """Return a suggestion for the attribute that an exception says is missing; empty for other exceptions."""
    if not isinstance(error, AttributeError) or not error.name or error.obj is None:
        return ""
    known = {*dir(type(error.obj)), *getattr(error.obj, "__dict__", ())}
    return did_you_mean(error.name, sorted(name for name in known if not name.startswith("_")))


def reason_of(error: OSError | ValueError) -> str:
    """Return why a file cannot be read or written; a path that can name no file raises a ValueError."""
    return str(error.strerror if isinstance(error, OSError) else error)
