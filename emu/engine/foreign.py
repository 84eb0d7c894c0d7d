"""Code of the user that takes no step: a file that is imported, a function that builds a machine or says a verdict."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from emu.engine.failures import NoOperationError
from emu.engine.sources import is_interrupt, is_users, raised_in, raised_lines
from emu.engine.watchdog import RUNS_AGENTS, watchdog
from emu.errors import EmuError, ScenarioError, said_by

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def run_foreign(
    what: str, function: Callable[Parameters, Result], *arguments: Parameters.args, **keywords: Parameters.kwargs
) -> Result:
    """Return what a function of the user's returns.

    Args:
        what: begins the sentence that says what went wrong.

    Raises:
        ScenarioError: if it raises anything, or runs on and on; naming the line.
    """
    try:
        with watchdog(lambda: 0):
            return function(*arguments, **keywords)
    except EmuError:
        raise
    except NoOperationError as error:
        raise ScenarioError(f"{what}, at {raised_in(error)}, runs on and on: let it end") from error
    except BaseException as error:
        if is_interrupt(error):
            raise
        where = f", at {raised_in(error)}," if any(map(is_users, raised_lines(error))) else ""
        raise ScenarioError(f"{what}{where} raised {said_by(error)}") from error


RUNS_AGENTS.add(run_foreign.__code__)
