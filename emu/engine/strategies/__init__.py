"""Strategies decide who goes next and what a choice yields; one file each. A fresh one serves each execution."""

from collections.abc import Sequence
from typing import Protocol

from emu.engine.agents import Agent
from emu.engine.operations import Choose


class Strategy(Protocol):
    """What chooses."""

    def pick(self, enabled: Sequence[Agent]) -> Agent | None:
        """Return the agent that takes the next step; None ends the execution.

        `enabled` is not empty, in order of creation.
        """

    def choose(self, choice: Choose) -> int:
        """Return a number below `choice.count`."""
