"""Replays a schedule, and says where an execution first differs from it."""

from collections.abc import Sequence

import attrs

from emu.engine.agents import Agent
from emu.engine.operations import Choose
from emu.engine.schedules import Schedule, describe_announced
from emu.errors import ModelError


class ScheduleDoesNotFitError(ModelError):
    """The execution differs from the schedule: scenario, revision or parameters have changed."""


@attrs.define
class ReplayStrategy:
    """Pick and choose as a schedule says; after its end let the witness go on, if there is one, and then the others.

    Attributes:
        witness: the name of an agent that goes on after the schedule.
    """

    schedule: Schedule
    witness: str | None = None
    step: int = 0
    choice: int = 0

    def pick(self, enabled: Sequence[Agent]) -> Agent | None:
        """Return the agent that the schedule names for this step.

        Raises:
            ScheduleDoesNotFitError: if that agent cannot go on, or is about to do something else.
        """
        if self.step == len(self.schedule.agents):
            if self.witness is None:
                return None
            return next((agent for agent in enabled if agent.name == self.witness), enabled[0])
        name = self.schedule.agents[self.step]
        recorded = self.schedule.operations[self.step] if self.schedule.operations else None
        self.step += 1
        agent = next((agent for agent in enabled if agent.name == name), None)
        if agent is None or agent.pending is None:
            others = ", ".join(f"{other.name} ({pending(other)})" for other in enabled)
            raise self.differs(f"{name}{f' did {recorded}' if recorded else ''}", f"only these can go on: {others}")
        if recorded is not None and not is_same(recorded, pending(agent)):
            raise self.differs(f"{name} did {recorded}", f"{name} is about to do {pending(agent)}")
        return agent

    def choose(self, choice: Choose) -> int:
        """Return the schedule's choice.

        Raises:
            ScheduleDoesNotFitError: if the schedule has no choice left, or its choice is not possible here.
        """
        if self.witness is not None and self.step == len(self.schedule.agents):
            return 0
        if self.choice == len(self.schedule.choices):
            raise self.differs("nothing was chosen", f"{choice.about} has to be chosen")
        chosen = self.schedule.choices[self.choice]
        self.choice += 1
        if not 0 <= chosen < choice.count:
            raise self.differs(f"number {chosen} was chosen", f"{choice.about} has {choice.count} possibilities")
        return chosen

    def differs(self, then: str, now: str) -> ScheduleDoesNotFitError:
        """Return the error for the present step."""
        return ScheduleDoesNotFitError(
            f"the schedule no longer fits, from step {self.step} on: then {then}; now {now}; replay it with the "
            "scenario, revision and parameters that it was made with"
        )


def pending(agent: Agent) -> str:
    """Name the operation that an agent has announced."""
    if agent.pending is None:
        return "nothing"
    waits = not agent.can_step()
    return f"{'a wait, ' if waits else ''}{describe_announced(agent.pending, tuple(agent.pending.accesses()))}"


def is_same(recorded: str, announced: str) -> bool:
    """Whether two names denote the same operation: its class and its first access, which is the operation's own.

    Later accesses may be reads of checks, and checks may read more than when the schedule was saved.
    """
    return recorded.split()[:2] == announced.split()[:2]
