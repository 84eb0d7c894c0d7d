"""A uniform random walk over the enabled agents."""

import random
from collections.abc import Sequence
from typing import Self

import attrs

from emu.engine.agents import Agent
from emu.engine.operations import Choose


@attrs.define
class RandomStrategy:
    """Pick and choose uniformly.

    The strategy uses only `random()` of its generator, the one draw that is the same on every Python version.
    """

    generator: random.Random

    @classmethod
    def seeded(cls, seed: int) -> Self:
        """Return the strategy that a seed stands for."""
        return cls(random.Random(seed))

    def pick(self, enabled: Sequence[Agent]) -> Agent:
        return enabled[0] if len(enabled) == 1 else enabled[int(self.generator.random() * len(enabled))]

    def choose(self, choice: Choose) -> int:
        return int(self.generator.random() * choice.count)
