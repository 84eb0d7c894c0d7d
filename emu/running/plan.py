"""The plan of an exploration: its strategy, and the limits that end it early."""

from collections.abc import Callable

import attrs

from emu.engine.search import Search
from emu.engine.sections import Sections
from emu.engine.strategies.depth_first import DepthFirst
from emu.engine.strategies.optimal import Optimal
from emu.running.shrink import SECONDS

SEARCHES: dict[str, Callable[[], Search]] = {"optimal": Optimal, "depth-first": DepthFirst}


@attrs.frozen
class Plan:
    """The strategy and the limits of an exploration.

    Attributes:
        strategy: "optimal", "depth-first" or "random".
        executions: the limit of executions.
        seconds: the limit of time; the present execution still runs to its end.
        seed: the seed of the first random execution; each later execution takes the next seed.
        steps: the limit of steps of all executions together; the present execution still runs to its end.
        sections: take a section in one step if it declares its accesses.
    """

    strategy: str = "optimal"
    executions: int | None = None
    seconds: float | None = None
    seed: int = 0
    sections: bool = True
    steps: int | None = None
    shrink: float | None = SECONDS

    @property
    def is_random(self) -> bool:
        """Whether executions are drawn at random, without a search."""
        return self.strategy == "random"

    @property
    def is_reduced(self) -> bool:
        """Whether one interleaving stands for all others that differ only in the order of independent steps."""
        return self.strategy == "optimal"

    def make_sections(self) -> Sections | None:
        """Return a new collection of sections that are taken in one step; None to take each step by step."""
        return Sections() if self.sections and self.is_reduced else None
