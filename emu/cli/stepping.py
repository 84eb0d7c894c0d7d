"""Stepping through a replay: what `emu replay --step`, `--break` and `--pdb` ask for."""

import sys
from collections.abc import Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

import attrs
import click

if TYPE_CHECKING:
    from emu.running.replay import Replay
    from emu.running.run import Run


@attrs.frozen
class Steps:
    """How the user wants to step through a replay, by the options of these names."""

    step: bool
    breaks: tuple[str, ...]
    with_pdb: bool

    @property
    def are_wanted(self) -> bool:
        """Whether the user wants to step through the replay at all."""
        return self.step or self.with_pdb or bool(self.breaks)

    @classmethod
    def of(cls, options: Mapping[str, Any], *, as_json: bool) -> "Steps":
        """Return what the options say.

        Raises:
            click.UsageError: if a report is wanted as JSON, too.
        """
        steps = cls(**options)
        if steps.are_wanted and as_json:
            raise click.UsageError("--json prints a report, and who steps through a replay gets none: leave one out")
        return steps

    def take(self, replay: "Replay", whole: "Run") -> None:
        """Go to the first finding with `--pdb`, else to the first break; then let the user go on, if that is wanted.

        Without `--step` the user is asked only where stdin is a terminal.

        Args:
            whole: the same replay, to its end.

        Raises:
            click.UsageError: if commands are to be read, and stdin is closed.
        """
        from emu.cli.prompt import Prompt
        from emu.reports.breaks import Break, Names
        from emu.running.stepping import Stepping

        if not self.are_wanted:
            return
        if sys.stdin is None and (self.step or self.with_pdb):
            raise click.UsageError("standard input is closed: commands are read from it")
        with whole.forgotten.watched(), closing(Stepping(replay, whole)) as stepping:
            names = Names.of(stepping.whole_trace)
            prompt = Prompt(stepping, names, [Break.parse(text, names) for text in self.breaks])
            if self.with_pdb:
                prompt.go_to_finding()
            elif self.breaks:
                prompt.go_to_break()
            else:
                prompt.show_agents()
            if self.step or (sys.stdin is not None and sys.stdin.isatty()):
                prompt.cmdloop("help lists the commands")
