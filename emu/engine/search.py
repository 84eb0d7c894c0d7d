"""Searches: strategies that serve one execution after the other, until nothing is left to be explored."""

from typing import Protocol

from emu.engine.execution import Execution
from emu.engine.strategies import Strategy


class Search(Strategy, Protocol):
    """Decides in one execution after the other, until nothing is left to execute."""

    @property
    def is_blocked(self) -> bool:
        """Whether the present execution was given up, because it could only repeat what has been executed."""

    @property
    def share(self) -> float:
        """An estimate of the explored share of the space, from 0 to 1."""

    def begin(self, execution: Execution) -> None:
        """Serve another execution of the same program, from its start."""

    def advance(self) -> bool:
        """Learn from the execution that has ended, and turn to the next; return whether there is one."""
