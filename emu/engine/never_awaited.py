"""Notices a call that was never awaited: the call did nothing, so the findings of that execution do not count.

Python warns when it drops the coroutine of such a call. An agent that was cut short, by the end of its execution or a
failed assertion, may drop coroutines that it would have awaited later, and Python may drop them at any time. So the
warnings no longer count once an agent was cut short.
"""

import gc
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import attrs

from emu.engine.execution import Execution
from emu.engine.sources import Location, file_and_line, is_users
from emu.errors import ModelError

NEVER_AWAITED = re.compile(r"coroutine '(.*?)' was never awaited")


@attrs.define
class Forgotten:
    """The calls that were never awaited, by Python's warnings.

    Attributes:
        calls: the name of the function and the scenario's line, empty if Python names none.
        is_first: no execution has ended so far.
        is_certain: no agent was cut short so far.
    """

    calls: list[tuple[str, str]] = attrs.field(factory=list)
    is_first: bool = True
    is_certain: bool = True

    def refuse(self, execution: Execution) -> None:
        """Refuse to go on after an execution in which a call was not awaited.

        Raises:
            ModelError: if a call was certainly not awaited; the message names the first such call, and the mend.
        """
        self.is_certain = (
            self.is_certain
            and not execution.has_ended_by_assertion
            and all(agent.is_daemon or not agent.is_cleaning for agent in execution.agents)
        )
        if self.is_first:
            gc.collect()
        self.is_first = False
        if self.calls and self.is_certain:
            name, where = self.calls[0]
            raise ModelError(f"{where}{name} was called and not awaited, so it did nothing: write `await`")

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Note Python's warnings of calls that were never awaited; other warnings are shown as usual."""

        def note(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            found = NEVER_AWAITED.match(str(message))
            if found is None:
                shown(message, category, filename, lineno, file, line)
            else:
                called = Location(filename, lineno, found[1])
                where = f"{file_and_line(called)}: " if is_users(called) else ""
                self.calls.append((found[1], where))

        with warnings.catch_warnings():
            warnings.filterwarnings("always", NEVER_AWAITED.pattern, RuntimeWarning)
            shown, warnings.showwarning = warnings.showwarning, note
            with older_objects_left_out():
                try:
                    yield
                finally:
                    gc.collect()


@contextmanager
def older_objects_left_out() -> Iterator[None]:
    """Let the garbage collector skip all present objects: they take long to search, and hold no such call."""
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
