"""Stops an agent that runs on and on without awaiting an operation."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType

from emu.engine.claims import Claim
from emu.engine.execution import Execution
from emu.engine.failures import NoOperationError

SECONDS = 5.0

RUNS_AGENTS: set[CodeType] = {
    method.__code__ for method in (Execution.start, Execution.resume, Execution.throw, Claim.holds)
}
"""One of these is on the stack while an agent's own code runs, or a claim is evaluated; foreign.py adds another."""


@contextmanager
def watchdog(progress: Callable[[], object]) -> Iterator[None]:
    """Raise `NoOperationError` in an agent's code that runs while `progress` stays the same.

    The code may run so for `SECONDS` of processor time. Only the main thread can be watched, and only where the system
    counts a process's time. An inner watchdog replaces the outer one until it ends.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return
    last: object = None

    def look(number: int, frame: FrameType | None) -> None:
        """Compare `progress` with its last value.

        Raises:
            NoOperationError: if the value is the same and an agent's code runs.
        """
        nonlocal last
        now = progress()
        if now == last and is_in_agent(frame):
            raise NoOperationError
        last = now

    previous = signal.signal(signal.SIGVTALRM, look)
    outer = signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, previous)
        signal.setitimer(signal.ITIMER_VIRTUAL, *outer)


def is_in_agent(frame: FrameType | None) -> bool:
    """Whether an agent's code is on the stack."""
    while frame is not None:
        if frame.f_code in RUNS_AGENTS:
            return True
        frame = frame.f_back
    return False
