"""Goes along a plan as far as it can: a schedule that was changed may no longer fit, and is followed all the same."""

from collections.abc import Iterable, Mapping, Sequence

import attrs

from emu.engine.agents import Agent
from emu.engine.operations import Choose


@attrs.define
class Turn:
    """What a plan says of one agent: it takes so many steps.

    Attributes:
        steps: None for as many as it can take.
    """

    agent: str
    steps: int | None


@attrs.define
class AlongStrategy:
    """Let the first agent of a plan go on that can; after the plan let each agent go on until it cannot.

    A step that an agent has taken ahead of its turn is taken off its later turns.

    Attributes:
        plan: the turns that are left.
        choices: for each agent what it chooses, in order; then it takes the first possibility.
        ranks: after the plan the agent of the lowest rank goes first; by default in order of creation.
        is_eager: engines go before all other agents after the plan, not after them.
        ahead: how many steps each agent has taken ahead of its turns.
        last: the agent that went last, if it was no engine.
        acting: the agent that takes the present step.
    """

    plan: list[Turn] = attrs.field(factory=list)
    choices: dict[str, list[int]] = attrs.field(factory=dict)
    ranks: Mapping[str, int] = attrs.field(factory=dict)
    is_eager: bool = False
    ahead: dict[str, int] = attrs.field(factory=dict)
    last: str | None = None
    acting: str = ""

    def pick(self, enabled: Sequence[Agent]) -> Agent:
        agents = {agent.name: agent for agent in enabled}
        agent = self.planned(agents) or self.unplanned(enabled)
        self.acting = agent.name
        if not agent.is_daemon:
            self.last = agent.name
        return agent

    def planned(self, agents: Mapping[str, Agent]) -> Agent | None:
        """Return the first agent of the plan that can go on."""
        while self.plan and self.is_over(self.plan[0], agents):
            del self.plan[0]
        for turn in self.plan:
            if turn.agent not in agents or self.is_over(turn, agents):
                continue
            if turn.steps is None:
                self.ahead[turn.agent] = self.ahead.get(turn.agent, 0) + 1
            else:
                turn.steps -= 1
            return agents[turn.agent]
        return None

    def is_over(self, turn: Turn, agents: Mapping[str, Agent]) -> bool:
        """Whether the steps of a turn were all taken, or its agent has gone as far as it can."""
        if turn.steps is None:
            return turn.agent not in agents
        taken = min(turn.steps, self.ahead.get(turn.agent, 0))
        if taken:
            self.ahead[turn.agent] -= taken
            turn.steps -= taken
        return turn.steps == 0

    def unplanned(self, enabled: Sequence[Agent]) -> Agent:
        """Return the agent that goes on where the plan names none that can."""
        agent = min(enabled, key=self.rank)
        self.ahead[agent.name] = self.ahead.get(agent.name, 0) + 1
        return agent

    def rank(self, agent: Agent) -> tuple[bool, bool, int, int]:
        """Return what decides between agents that can go on."""
        is_late = agent.is_daemon is not self.is_eager
        return is_late, agent.name != self.last, self.ranks.get(agent.name, 0), agent.number

    def choose(self, choice: Choose) -> int:
        left = self.choices.get(self.acting)
        return min(left.pop(0), choice.count - 1) if left else 0


def turns(agents: Iterable[str]) -> list[Turn]:
    """Return the plan by which each step is taken by the agent that is named for it."""
    plan: list[Turn] = []
    for name in agents:
        if plan and plan[-1].agent == name:
            plan[-1].steps = (plan[-1].steps or 0) + 1
        else:
            plan.append(Turn(name, 1))
    return plan
