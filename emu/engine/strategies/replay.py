"""Replays a schedule, and says where an execution first differs from it."""

from collections.abc import Collection, Sequence

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
        chooses: what the witness chooses, if it has so many possibilities, else the last of them.
        earlier: the names of agents that go to their ends before a step of the schedule.
        before: the number of that step.
        agent: the name of the agent that goes next, if it is not the schedule that names it.
    """

    schedule: Schedule
    witness: str | None = None
    chooses: int = 0
    earlier: Collection[str] = ()
    before: int = 0
    step: int = 0
    choice: int = 0
    agent: str | None = None

    def pick(self, enabled: Sequence[Agent]) -> Agent | None:
        """Return the agent that the schedule names for this step.

        Raises:
            ScheduleDoesNotFitError: if that agent cannot go on, or is about to do something else.
        """
        added = self.added(enabled)
        self.agent = None if added is None else added.name
        if added is not None or self.step == len(self.schedule.agents):
            return added
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

    def added(self, enabled: Sequence[Agent]) -> Agent | None:
        """Return the agent that goes next although the schedule does not name it."""
        if self.witness is not None and self.step == len(self.schedule.agents):
            return next((agent for agent in enabled if agent.name == self.witness), enabled[0])
        if self.step == self.before - 1:
            return next((agent for agent in enabled if agent.name in self.earlier), None)
        return None

    def choose(self, choice: Choose) -> int:
        """Return the schedule's choice.

        Raises:
            ScheduleDoesNotFitError: if the schedule has no choice left, or its choice is not possible here.
        """
        if self.agent is not None:
            return max(0, min(self.chooses, choice.count - 1)) if self.agent == self.witness else 0
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
