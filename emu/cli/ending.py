"""How a verb that runs executions ends: by Ctrl-C, by a mistake of the scenario, or with a status for its verdict."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

import click

from emu.errors import ScenarioError

if TYPE_CHECKING:
    from emu.running.executions import Executions

STATUS = {"shown": 0, "proved": 0, "not contradicted": 0, "contradicted": 1, "found": 1, "undecided": 3}
EMULATOR_BUG = 70


def status_of(executions: "Executions") -> int:
    """Return the exit status for the verdict on executions."""
    return EMULATOR_BUG if executions.has_emulator_bug else STATUS[executions.verdict.value]


@contextmanager
def stop_on_interrupt(executions: "Executions") -> Iterator[None]:
    """Let Ctrl-C end the executions after the present one; a second one ends them at once."""

    def stop(number: int, frame: FrameType | None) -> None:
        executions.is_stopping = True
        signal.signal(signal.SIGINT, previous)
        click.echo("emu: stopping after this execution; Ctrl-C again stops at once", err=True)

    previous = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


@contextmanager
def interrupts_noted() -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether Ctrl-C was pressed since; meanwhile it does nothing else."""
    is_pressed = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal is_pressed
        is_pressed = True

    previous = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: is_pressed
    finally:
        signal.signal(signal.SIGINT, previous)


def refuse_failure(executions: "Executions", again: Callable[[], str | None]) -> None:
    """Refuse a scenario that made a mistake.

    Args:
        again: returns the command that repeats the mistake; None where there is no such command.

    Raises:
        ScenarioError: naming the mistake, and the command that repeats it.
    """
    if executions.failure is None:
        return
    sys.unraisablehook = lambda _: None  # an agent that broke Trio leaves parts of it to the garbage collector
    command = again()
    raise ScenarioError(f"{executions.failure}{f'; again: {command}' if command else ''}")
