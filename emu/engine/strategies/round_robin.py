"""Every agent takes one step in turn, in order of creation; the fairest schedule and the easiest to follow."""

from collections.abc import Sequence

import attrs

from emu.engine.agents import Agent
from emu.engine.operations import Choose


@attrs.define
class RoundRobinStrategy:
    """Pick the first enabled agent that has waited longest for its turn; choose the first possibility."""

    last_turn: dict[str, int] = attrs.field(factory=dict)
    turns: int = 0

    def pick(self, enabled: Sequence[Agent]) -> Agent:
        chosen = min(enabled, key=lambda agent: self.last_turn.get(agent.name, -1))
        self.turns += 1
        self.last_turn[chosen.name] = self.turns
        return chosen

    def choose(self, choice: Choose) -> int:
        return 0
