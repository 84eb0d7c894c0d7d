"""A strategy that lets agents go on in turns."""

from collections.abc import Sequence

import attrs

from emu.engine import Agent, Choose
from emu.iommus.walk_cache import ChooseStart


@attrs.define
class Order:
    """Lets agents go on in turns, each until its next operation is of a class, or until it cannot; at last anybody.

    Attributes:
        turns: the names of agents, each with the class; None where the agent goes on as far as it can.
        start: where walks start: at the root table (0), or at a cached table entry.
    """

    turns: list[tuple[str, type | None]]
    start: int = 1

    def pick(self, enabled: Sequence[Agent]) -> Agent:
        while self.turns:
            name, held = self.turns[0]
            for agent in enabled:
                if agent.name == name and type(agent.pending) is not held:
                    return agent
            self.turns.pop(0)
        return enabled[0]

    def choose(self, choice: Choose) -> int:
        return min(self.start, choice.count - 1) if isinstance(choice, ChooseStart) else 0
