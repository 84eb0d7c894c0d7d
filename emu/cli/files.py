"""The files that the command line names: logs, JUnit files, and tables of cycles."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from emu.errors import reason_of

if TYPE_CHECKING:
    from emu.files.whole import Write
    from emu.scenarios.scenario import BoundScenario

LOG_BYTES_MAX = 16 << 30


def refuse_unwritable(what: str, path: str | None, read: Iterable[str | Path | None]) -> None:
    """Refuse a file to be written, before anything runs.

    Args:
        what: names the file in the sentence, such as "log".
        read: the files that the command reads.

    Raises:
        click.UsageError: if it cannot be written, or if the command reads it.
    """
    from emu.files.whole import why_not

    if path is None:
        return
    if reason := why_not(Path(path)):
        raise cannot_write(what, path, reason)
    for one in read:
        if one is not None and is_same(path, one):
            raise click.UsageError(
                f"the {what} {path!r} would overwrite {str(one)!r}, which is read: name another file"
            )


def is_same(path: str, other: str | Path) -> bool:
    """Whether two paths lead to one file."""
    try:
        return Path(path).samefile(other)
    except (OSError, ValueError):
        return False


def cannot_write(what: str, path: str, reason: str) -> click.UsageError:
    """Return the error for a file that cannot be written."""
    return click.UsageError(f"the {what} {path!r} cannot be written: {reason}")


def code_of(bound: "BoundScenario") -> list[Path]:
    """Return the source files of a scenario and its revision."""
    revision = bound.platform.load_revision(bound.values["revision"])
    return [Path(bound.scenario.build.__code__.co_filename), *revision.files]


@contextmanager
def written(what: str, path: str | None, write: "Write", bytes_max: int = LOG_BYTES_MAX) -> Iterator[None]:
    """Write a file, if a path is given, before the body shows the report, which it does even if writing fails.

    Raises:
        click.UsageError: after the body, if the file could not be written.
    """
    from emu.files.whole import write_whole

    failure = None
    if path is not None:
        try:
            write_whole(Path(path), write, bytes_max)
        except BrokenPipeError:
            raise
        except (OSError, ValueError) as error:
            failure = cannot_write(what, path, reason_of(error))
    yield
    if failure is not None:
        raise failure


def cycles_of(path: str | None) -> Mapping[str, int]:
    """Return the cycles by event, with those replaced that the user's file names."""
    from emu.analysis.cycles import CYCLES, read_cycles

    return read_cycles(path) if path else CYCLES
