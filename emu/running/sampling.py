"""Random executions, and the number of their traces."""

from collections.abc import Sequence

import attrs

from emu.engine import Agent, Execution
from emu.engine.dependence import Footprints, NormalForm, Step, normal_form
from emu.engine.operations import Choose
from emu.engine.strategies.random import RandomStrategy


class WatchedStrategy(RandomStrategy):
    """Notes the footprint of each step when it is taken: later the same operation may have another."""

    def watch(self, footprints: Footprints) -> None:
        """Begin to take notes."""
        self.footprints = footprints
        self.steps: list[Step] = []
        self.execution: Execution | None = None

    def pick(self, enabled: Sequence[Agent]) -> Agent:
        agent = super().pick(enabled)
        if self.execution is not None:
            self.steps.append((agent.number, 0, self.footprints.of(self.execution.announced_by(agent))))
        return agent

    def choose(self, choice: Choose) -> int:
        chosen = super().choose(choice)
        number, _, footprint = self.steps[-1]
        self.steps[-1] = (number, chosen, footprint)
        return chosen


@attrs.define
class Sample:
    """The traces of random executions.

    Attributes:
        forms: the normal form of each trace.
    """

    forms: set[NormalForm] = attrs.field(factory=set)
    footprints: Footprints = attrs.field(factory=Footprints)

    def strategy(self, seed: int) -> WatchedStrategy:
        """Return the strategy of an execution of the sample."""
        strategy = WatchedStrategy.seeded(seed)
        strategy.watch(self.footprints)
        return strategy

    def add(self, execution: Execution, strategy: WatchedStrategy) -> None:
        """Enter the trace of an execution that has ended."""
        self.forms.add(normal_form(len(execution.agents), strategy.steps))

    @property
    def traces(self) -> int:
        """The number of distinct traces."""
        return len(self.forms)
