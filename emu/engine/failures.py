"""Failures: how an agent's own code ends its execution, and the sentence that says so."""

import inspect
import re
import sys
import traceback

from emu.engine.agents import Agent
from emu.engine.sources import raised_in, suspended_at
from emu.errors import ModelError, ScenarioError, said_by, text_of

CONTROLLED = (
    "under a controlled strategy agents await operations only: leave Trio's primitives out, or use `emu run --strategy "
    "free`"
)

NO_CONTEXT_MANAGER = re.compile(r"does not support the context manager protocol|^__enter__$")


class NoOperationError(BaseException):
    """Raised in an agent that runs on and on without awaiting an operation. An `except Exception` does not catch it."""


def agent_raised(agent: Agent, error: BaseException, at: str | None = None) -> ModelError:
    """Return the error for an agent whose own code raised, or asked for something impossible.

    Args:
        at: the line to name instead of the line that raised the error.
    """
    where = f"{agent.name}, at {at or raised_in(error)}"
    close_calls(error)
    if isinstance(error, NoOperationError):
        return ModelError(f"{where}, runs on and on without awaiting an operation: await one in each round of a loop")
    if isinstance(error, ScenarioError):
        return ModelError(f"{error} ({where})")
    if is_of_trio(error):
        return ModelError(f"{where}, used Trio outside of Trio; {CONTROLLED}")
    return ModelError(f"{where}, raised {said_by(error)}{mend_of(error)}")


def close_calls(error: BaseException) -> None:
    """Close the unawaited coroutines that an error keeps alive: the error says enough without Python's warning."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        for value in frame.f_locals.values():
            if inspect.iscoroutine(value) and inspect.getcoroutinestate(value) == inspect.CORO_CREATED:
                value.close()


def mend_of(error: BaseException) -> str:
    """Return how to mend Python's complaint, as the end of a sentence; empty where that is unknown."""
    if is_of_coroutine(error):
        return ": a call was not awaited, write `await` before it"
    if isinstance(error, TypeError | AttributeError) and NO_CONTEXT_MANAGER.search(text_of(error)):
        return ": write `async with` instead of `with`"
    return ""


def is_of_coroutine(error: BaseException) -> bool:
    """Whether Python complains of a coroutine that is used as a value, because its call was not awaited."""
    return isinstance(error, TypeError | AttributeError) and "coroutine" in text_of(error)


def is_of_trio(error: BaseException) -> bool:
    """Whether Trio itself complains that it is not running."""
    if isinstance(error, RuntimeError) and "async context" in text_of(error):
        return True
    return isinstance(error, AttributeError) and "RunContext" in text_of(error)


def is_cancellation(error: BaseException) -> bool:
    """Whether an error is Trio's cancellation. Trio is imported only if a host runs on it."""
    trio = sys.modules.get("trio")
    return trio is not None and isinstance(error, trio.Cancelled)


def refuse_not_an_operation(agent: Agent) -> None:
    """Refuse an agent that awaits something other than an operation, such as Trio's primitives.

    Raises:
        ModelError: naming the line, and the mend.
    """
    if agent.awaited_instead is not None and agent.coroutine is not None:
        where = suspended_at(agent.coroutine)
        raise ModelError(f"{agent.name}, at {where}, awaited something that is not an operation; {CONTROLLED}")
