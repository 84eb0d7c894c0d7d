"""Every interleaving, one after the other, without any reduction. Other searches are measured against this one."""

from collections.abc import Sequence

import attrs

from emu.engine.agents import Agent
from emu.engine.execution import Execution
from emu.engine.operations import Choose
from emu.engine.strategies import alternative_count, not_repeated


@attrs.define
class Fork:
    """A point at which an execution can go on in several ways.

    Attributes:
        branches: for each way to go on, the agent's number and its choice.
        taken: the index of the branch that is being explored; earlier branches were explored.
        announced: the type of the operation that this branch performs; None before it is taken.
    """

    branches: list[tuple[int, int]]
    taken: int = 0
    announced: type | None = None


@attrs.define
class DepthFirst:
    """Goes back to the last fork with a branch left to explore.

    Attributes:
        forks: one for each step of the present execution.
        depth: how many steps the present execution has taken.
    """

    forks: list[Fork] = attrs.field(factory=list)
    depth: int = 0
    agents: Sequence[Agent] = ()

    def begin(self, execution: Execution) -> None:
        """Serve another execution of the same program, from its start."""
        self.agents = execution.agents
        self.depth = 0

    def pick(self, enabled: Sequence[Agent]) -> Agent:
        """Return the agent of the branch that is being explored.

        Raises:
            ModelError: if the agent does not do again what it did in an earlier execution.
        """
        if self.depth == len(self.forks):
            self.forks.append(
                Fork([(agent.number, chosen) for agent in enabled for chosen in range(alternative_count(agent))])
            )
        fork = self.forks[self.depth]
        agent = self.agents[fork.branches[fork.taken][0]]
        self.depth += 1
        if not agent.is_enabled or fork.announced not in {None, type(agent.pending)}:
            raise not_repeated(agent, self.depth)
        fork.announced = type(agent.pending)
        return agent

    def choose(self, choice: Choose) -> int:
        fork = self.forks[self.depth - 1]
        return fork.branches[fork.taken][1]

    def advance(self) -> bool:
        """Turn to the next execution; return whether there is one."""
        while self.forks and self.forks[-1].taken + 1 == len(self.forks[-1].branches):
            self.forks.pop()
        if not self.forks:
            return False
        self.forks[-1].taken += 1
        self.forks[-1].announced = None
        return True

    @property
    def is_blocked(self) -> bool:
        """Whether the present execution was given up: this search gives none up."""
        return False

    @property
    def share(self) -> float:
        """An estimate of the explored share of the space."""
        done, rest = 0.0, 1.0
        for fork in self.forks:
            rest /= len(fork.branches)
            done += rest * fork.taken
        return done
