"""Free-running on Trio: no turns. Trio decides who goes next, and agents may use Trio's own primitives.

Tasks that make a checkpoint after each step move in lock-step and meet in almost no other order; so each step is
followed by a random number of checkpoints. A smoke test under real asynchrony, not a search.
"""

import random
import types
from collections.abc import Generator
from typing import Any

import attrs
import trio

from emu.engine.agents import Agent, NotAnOperation
from emu.engine.execution import Execution
from emu.engine.hosts.trio import live_together

CHANCE_OF_ANOTHER_CHECKPOINT = 0.75  # three checkpoints after a step, on the average


async def run(execution: Execution, generator: random.Random) -> None:
    """Run one execution to its end, as Trio schedules it, with random checkpoints from the generator.

    Raises:
        EmuError: if it has ended the execution before the agents did.
    """
    tasks = FreeTasks(execution, generator, trio.current_effective_deadline())
    try:
        await live_together(execution, tasks.live)
    finally:
        execution.end()


@types.coroutine
def hand_to_trio(awaited: object) -> Generator[object, Any, Any]:
    """Pass on to Trio what an agent awaited instead of an operation."""
    return (yield awaited)


@attrs.frozen
class Parked:
    """An agent that waits for its operation to be enabled; `has_timeout` if a deadline of its own can end the wait."""

    agent: Agent
    task: trio.lowlevel.Task
    has_timeout: bool

    @property
    def is_stuck(self) -> bool:
        """Whether only another agent can make it go on."""
        return not (self.has_timeout or self.agent.can_step())


@attrs.define(eq=False)
class FreeTasks:
    """Tasks of agents: each takes its next step once that is enabled, and parks until then.

    Attributes:
        deadline: when the whole execution is cancelled from outside.
        parked: by name of the agent.
    """

    execution: Execution
    generator: random.Random
    deadline: float
    parked: dict[str, Parked] = attrs.field(factory=dict)

    async def live(self, agent: Agent) -> bool:
        """Take the agent's steps; return whether the execution is over."""
        self.execution.start(agent, may_await_trio=True)
        while not (agent.is_done or self.execution.has_ended):
            if agent.awaited_instead is not None:
                await self.serve_by_trio(agent, agent.awaited_instead)
            elif agent.can_step():
                await self.step(agent)
            elif not await self.park(agent):
                return True
        return self.is_over()

    async def step(self, agent: Agent) -> None:
        """Take one step, wake the agents that it enabled, and give way for a while."""
        self.execution.check_limits()
        self.execution.step(agent, may_await_trio=True)
        for name, other in tuple(self.parked.items()):
            if other.agent.can_step():
                del self.parked[name]
                trio.lowlevel.reschedule(other.task)
        while self.generator.random() < CHANCE_OF_ANOTHER_CHECKPOINT:
            # Shielded: a lock that has been taken would be lost with a result that is not delivered.
            await trio.lowlevel.cancel_shielded_checkpoint()

    async def park(self, agent: Agent) -> bool:
        """Wait until the agent's operation is enabled; return False at once if no agent can ever enable it.

        A cancellation is thrown into the agent, unless it ends the whole execution.

        Raises:
            Cancelled: if it ends the whole execution.
        """
        has_timeout = trio.current_effective_deadline() < self.deadline
        self.parked[agent.name] = Parked(agent, trio.lowlevel.current_task(), has_timeout)
        if self.is_over():
            del self.parked[agent.name]
            return False

        def abort(_: Any) -> trio.lowlevel.Abort:
            del self.parked[agent.name]
            return trio.lowlevel.Abort.SUCCEEDED

        try:
            await trio.lowlevel.wait_task_rescheduled(abort)
        except trio.Cancelled as cancelled:
            if self.execution.has_ended:
                raise
            self.execution.throw(agent, cancelled)
        return True

    async def serve_by_trio(self, agent: Agent, served: NotAnOperation) -> None:
        """Let Trio serve what the agent awaited, and give the agent what Trio answers."""
        try:
            answer = await hand_to_trio(served.awaited)
        except BaseException as error:  # noqa: BLE001 - every error belongs to the agent
            self.execution.throw(agent, error)
        else:
            self.execution.resume(agent, answer)

    def is_over(self) -> bool:
        """Whether no agent can go on, because all have ended or in a deadlock."""
        agents = self.execution.agents
        stuck = all(one.is_done or (one.name in self.parked and self.parked[one.name].is_stuck) for one in agents)
        return stuck and self.execution.pick() is None
