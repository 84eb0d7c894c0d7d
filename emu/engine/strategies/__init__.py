"""Strategies decide which agent goes next and what a choice returns. Each has a file.

round_robin.py  every agent in turn
random.py       a random walk over the agents that can go on
replay.py       as a schedule says
along.py        along a plan as far as that goes
depth_first.py  a search: every interleaving
optimal.py      a search: every trace once; wakeup.py holds what is left to explore

Each execution has a strategy of its own; a search (engine/search.py) serves all executions of an exploration.
"""

from collections.abc import Sequence
from typing import Protocol

from emu.engine.agents import Agent
from emu.engine.operations import Choose
from emu.errors import ModelError

KEEPS_STATE = "something is kept between executions; make all of it anew in the scenario's function"

SHARES_STATE = (
    "agents seem to share a plain Python variable, which no step reads or writes; make it a Variable of emu.engine and "
    "await its read() and write(), or use a signal; if nothing is shared so, please report it with this command"
)


class Strategy(Protocol):
    """Decides which agent goes next and what a choice returns."""

    def pick(self, enabled: Sequence[Agent]) -> Agent | None:
        """Return the agent that takes the next step; None ends the execution.

        `enabled` is not empty, in order of creation, and changes with the next step.
        """

    def choose(self, choice: Choose) -> int:
        """Return a number below `choice.count`."""


def alternative_count(agent: Agent) -> int:
    """Return how many alternatives an agent's next step has: more than one only if the step is a choice."""
    return agent.pending.count if isinstance(agent.pending, Choose) else 1


def not_repeated(agent: Agent, step: int) -> ModelError:
    """Return the error for an agent that, after the same steps, does not do what it did in an earlier execution."""
    now = "cannot go on" if not agent.is_enabled else f"announces {type(agent.pending).__name__}"
    return ModelError(
        f"{agent.name} {now} at step {step}, and did something else after the very same steps in an earlier execution: "
        f"{KEEPS_STATE}"
    )


def not_planned(agent: Agent, step: int) -> ModelError:
    """Return the error for an agent that cannot take a step which independent steps before it, swapped, cannot bar."""
    return ModelError(
        f"{agent.name} cannot take step {step}, and could in an earlier execution that had only independent steps in "
        f"another order: {SHARES_STATE}"
    )
