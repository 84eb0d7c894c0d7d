"""Saving the schedules of findings: to a file in the folder of findings, or as a token for chat."""

from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import click

from emu.errors import reason_of

if TYPE_CHECKING:
    from emu.running.save import SavedSchedule
    from emu.scenarios.scenario import BoundScenario

FOLDER = "emu-findings"
"""The folder for schedules if the user names no other."""


@attrs.frozen
class Schedules:
    """Saves the schedules of a command.

    Attributes:
        folder: the folder for the files; the first file makes it.
        are_tokens: return tokens, and write no file.
    """

    folder: Path
    are_tokens: bool

    def save(self, saved: "SavedSchedule") -> str:
        """Save a schedule; return the path of its file, or its token if `are_tokens` or no file can be written."""
        if self.are_tokens:
            return saved.token()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            return str(saved.write(self.folder))
        except (OSError, ValueError) as error:
            click.echo(f"emu: the schedule cannot be saved in {str(self.folder)!r}: {reason_of(error)}", err=True)
            return saved.token()

    def command_for(self, saved: "SavedSchedule", named: str, bound: "BoundScenario") -> str:
        """Save a schedule; return the command that replays it with the code that has just executed it."""
        from emu.running.replay import Replay

        return Replay.with_code(saved, named, bound).command(self.save(saved))
