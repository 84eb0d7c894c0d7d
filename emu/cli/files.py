"""The files that the command line names: logs, how many cycles events take, schedules."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

import click

from emu.errors import reason_of

if TYPE_CHECKING:
    from emu.running.replay import Replay
    from emu.running.save import SavedSchedule


def open_log_file(path: str, mode: Literal["rb", "wb"]) -> BinaryIO:
    """Open a log.

    Raises:
        click.UsageError: naming the file and why it cannot be read or written.
    """
    try:
        return Path(path).open(mode)
    except (OSError, ValueError) as error:
        verb = "read" if mode == "rb" else "written"
        raise click.UsageError(f"the log {path!r} cannot be {verb}: {reason_of(error)}") from None


@contextmanager
def open_log(path: str | None) -> Iterator[BinaryIO | None]:
    """Open the log file before anything runs, so that nothing is lost where it cannot be written.

    Raises:
        click.UsageError: naming the file and why.
    """
    if path is None:
        yield None
        return
    with open_log_file(path, "wb") as file:
        yield file


def cycles_of(path: str | None) -> Mapping[str, int]:
    """Return how many cycles events take, by the file that the user names."""
    from emu.analysis.cycles import CYCLES, read_cycles

    return read_cycles(path) if path else CYCLES


def save_replay(replay: "Replay", folder: Path) -> str:
    """Save the schedule of a replay to a new file; return the command that repeats it."""
    return replay.command(write_schedule(replay.saved, folder))


def write_schedule(saved: "SavedSchedule", folder: Path) -> str:
    """Write a schedule to a new file and return its path; where that cannot be, return its token."""
    try:
        return str(saved.write(folder))
    except OSError as error:
        click.echo(f"emu: the schedule cannot be saved in {str(folder)!r}: {error.strerror}", err=True)
        return saved.token()
