"""Notices what was called and never awaited: it has done nothing, and whatever is found without it is worth nothing."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import attrs

from emu.engine.sources import Location, name_innermost
from emu.errors import ModelError

NEVER_AWAITED = re.compile(r"coroutine '(.*?)' was never awaited")


@attrs.define
class Forgotten:
    """What was called and never awaited, as Python has noticed.

    Attributes:
        calls: each with the line at which that was known.
    """

    calls: list[tuple[str, str]] = attrs.field(factory=list)

    def refuse(self) -> None:
        """Refuse to go on where there is something.

        Raises:
            ModelError: naming the first, and the mend.
        """
        if self.calls:
            name, where = self.calls[0]
            raise ModelError(f"{where}: {name} was called and not awaited, so it did nothing: write `await`")

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Take note of what Python remarks; all its other warnings are shown as ever."""

        def show(
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
                self.calls.append((found[1], name_innermost([Location(filename, lineno, found[1])])))

        with warnings.catch_warnings():
            warnings.filterwarnings("always", NEVER_AWAITED.pattern, RuntimeWarning)
            shown, warnings.showwarning = warnings.showwarning, show
            yield
