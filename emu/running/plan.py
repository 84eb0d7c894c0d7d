"""What an exploration is asked for: how it goes through the executions of a scenario, and what ends it early."""

from collections.abc import Callable

import attrs

from emu.engine.search import Search
from emu.engine.sections import Sections
from emu.engine.strategies.depth_first import DepthFirst
from emu.engine.strategies.optimal import Optimal

SEARCHES: dict[str, Callable[[], Search]] = {"optimal": Optimal, "depth-first": DepthFirst}


@attrs.frozen
class Plan:
    """What an exploration is asked for.

    Attributes:
        strategy: "optimal", "depth-first" or "random".
        executions: how many at most.
        seconds: how long at most; the present execution is seen to its end.
        seed: of the first execution, where the strategy is random; each later one takes the next.
        steps: how many steps all executions may take together; the present one is seen to its end.
        sections: take sections that declare what they touch in one step.
    """

    strategy: str = "optimal"
    executions: int | None = None
    seconds: float | None = None
    seed: int = 0
    sections: bool = True
    steps: int | None = None

    @property
    def is_random(self) -> bool:
        """Whether executions are drawn, and none is looked for."""
        return self.strategy == "random"

    @property
    def is_reduced(self) -> bool:
        """Whether one interleaving stands for all that differ from it only in the order of independent steps."""
        return self.strategy == "optimal"

    def make_sections(self) -> Sections | None:
        """Return the sections that are taken in one step; None to take none so."""
        return Sections() if self.sections and self.is_reduced else None
