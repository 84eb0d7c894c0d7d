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

from emu.engine.agents import Agent
from emu.engine.execution import Execution
from emu.engine.hosts.trio import live_together

CHANCE_OF_ANOTHER_CHECKPOINT = 0.75  # three checkpoints after a step, on the average


async def run(execution: Execution, generator: random.Random) -> None:
    """Run one execution to its end, as Trio schedules it, with random checkpoints from the generator.

    Raises:
        EmuError: what ended the execution before its agents did.
    """
    try:
        await live_together(execution, FreeTasks(execution, generator).live)
    finally:
        execution.end()


@types.coroutine
def hand_to_trio(awaited: object) -> Generator[object, Any, Any]:
    """Pass on to Trio what an agent awaited that is no operation."""
    return (yield awaited)


@attrs.define(eq=False)
class FreeTasks:
    """Steps whenever they are enabled; the rest parks until a step of another enables it."""

    execution: Execution
    generator: random.Random
    parked: dict[str, tuple[Agent, trio.lowlevel.Task]] = attrs.field(factory=dict)

    async def live(self, agent: Agent) -> bool:
        """Take the agent's steps; return whether the execution is over."""
        self.execution.start_agent(agent)
        while not agent.is_done:
            if agent.foreign is not None:
                await self.serve_foreign(agent)
            elif agent.can_step():
                await self.step(agent)
            elif self.others_are_stuck(agent):
                return True
            else:
                await self.park(agent)
        return self.others_are_stuck(agent)

    async def step(self, agent: Agent) -> None:
        """Take one step, wake whom it enabled, and give way for a while."""
        self.execution.check_limits()
        self.execution.perform_and_resume(agent)
        for name, (other, task) in tuple(self.parked.items()):
            if other.can_step():
                del self.parked[name]
                trio.lowlevel.reschedule(task)
        while self.generator.random() < CHANCE_OF_ANOTHER_CHECKPOINT:
            # Shielded: a lock that has been taken would be lost with a result that is not delivered.
            await trio.lowlevel.cancel_shielded_checkpoint()

    async def park(self, agent: Agent) -> None:
        """Wait until the agent's operation is enabled; a cancellation is thrown into the agent."""
        self.parked[agent.name] = (agent, trio.lowlevel.current_task())
        try:
            await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.SUCCEEDED)
        except trio.Cancelled as cancelled:
            self.parked.pop(agent.name, None)
            self.execution.throw(agent, cancelled)

    async def serve_foreign(self, agent: Agent) -> None:
        """Let Trio serve what the agent awaited, and give the agent what Trio answers."""
        try:
            answer = await hand_to_trio(agent.foreign)
        except BaseException as error:  # noqa: BLE001 - it belongs to the agent, whatever it is
            self.execution.throw(agent, error)
        else:
            self.execution.resume(agent, answer)

    def others_are_stuck(self, agent: Agent) -> bool:
        """Whether the execution is over, well or in a deadlock: nobody else can go on either."""
        stuck = all(
            other is agent or other.is_done or (other.name in self.parked and not other.can_step())
            for other in self.execution.agents
        )
        return stuck and self.execution.pick() is None
