"""Where the schedule of a finding goes: to a file in the folder of findings, or into a token for chat."""

from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import click

from emu.errors import reason_of

if TYPE_CHECKING:
    from emu.running.replay import Replay
    from emu.running.save import SavedSchedule

FOLDER = "emu-findings"
"""Where schedules go if the user names no other folder."""


@attrs.frozen
class Schedules:
    """What becomes of the schedules that a command saves.

    Attributes:
        folder: made with the first file in it.
        are_tokens: no file is written.
    """

    folder: Path
    are_tokens: bool

    def save(self, saved: "SavedSchedule") -> str:
        """Save a schedule; return its file, or its token where that is asked for or no file can be written."""
        if self.are_tokens:
            return saved.token()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            return str(saved.write(self.folder))
        except (OSError, ValueError) as error:
            click.echo(f"emu: the schedule cannot be saved in {str(self.folder)!r}: {reason_of(error)}", err=True)
            return saved.token()

    def save_replay(self, replay: "Replay") -> str:
        """Save the schedule of a replay; return the command that repeats it."""
        return replay.command(self.save(replay.saved))
