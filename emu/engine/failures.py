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
    """Raised inside an agent that runs on and on without awaiting an operation; no agent should catch it."""


def agent_raised(agent: Agent, error: BaseException, at: str | None = None) -> ModelError:
    """Return the error for an agent whose own code raised, or asked for what cannot be done.

    Args:
        at: the line to name, if it is not the one that raised the error.
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
    """Close the calls that were never awaited and that an error keeps alive: the error says enough, Python need not."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        for value in frame.f_locals.values():
            if inspect.iscoroutine(value) and inspect.getcoroutinestate(value) == inspect.CORO_CREATED:
                value.close()


def mend_of(error: BaseException) -> str:
    """Return how to mend what Python complains of, as the end of a sentence; nothing where that is not known."""
    if is_of_coroutine(error):
        return ": a call was not awaited, write `await` before it"
    if isinstance(error, TypeError | AttributeError) and NO_CONTEXT_MANAGER.search(text_of(error)):
        return ": write `async with` instead of `with`"
    return ""


def is_of_coroutine(error: BaseException) -> bool:
    """Whether Python complains that a call which nobody awaited is no value."""
    return isinstance(error, TypeError | AttributeError) and "coroutine" in text_of(error)


def is_of_trio(error: BaseException) -> bool:
    """Whether Trio itself complains that it is not running."""
    if isinstance(error, RuntimeError) and "async context" in text_of(error):
        return True
    return isinstance(error, AttributeError) and "RunContext" in text_of(error)


def is_cancellation(error: BaseException) -> bool:
    """Whether Trio has cancelled what raised it. Only a host has Trio; the rest of an execution needs none."""
    trio = sys.modules.get("trio")
    return trio is not None and isinstance(error, trio.Cancelled)


def refuse_not_an_operation(agent: Agent) -> None:
    """Refuse an agent that awaits what only Trio itself could serve.

    Raises:
        ModelError: if it does; it says where, and how to mend that.
    """
    if agent.awaited_instead is not None and agent.coroutine is not None:
        where = suspended_at(agent.coroutine)
        raise ModelError(f"{agent.name}, at {where}, awaited something that is not an operation; {CONTROLLED}")
