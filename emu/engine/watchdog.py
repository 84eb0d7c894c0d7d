"""Notices an agent that runs on and on without awaiting an operation: nobody else could stop it."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SECONDS = 5.0


class NoOperationError(BaseException):
    """Raised inside the agent; no agent should catch it."""


@contextmanager
def watchdog(progress: Callable[[], object]) -> Iterator[None]:
    """Raise `NoOperationError` in whatever runs when `progress` stays the same for `SECONDS` of processor time.

    Only the main thread can be watched, and only where the system counts a process's time.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return
    last: object = None

    def look(number: int, frame: FrameType | None) -> None:
        nonlocal last
        now = progress()
        if now == last:
            raise NoOperationError
        last = now

    previous = signal.signal(signal.SIGVTALRM, look)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, previous)
