"""The Trio host: every agent is one named Trio task, and all of them live in one nursery.

Here the strategy lets exactly one task go at a time: a task that has taken its step wakes the next one and parks.
In free.py Trio itself decides.
"""

from collections.abc import Awaitable, Callable, Iterable

import attrs
import trio

from emu.engine.agents import Agent
from emu.engine.execution import Execution

STEPS_BETWEEN_CANCELLATION_CHECKS = 1_000

Run = Callable[[Execution], Awaitable[None]]


def run_each(executions: Iterable[Execution]) -> None:
    """Run executions one after the other under a single `trio.run`, which costs more than a short execution.

    Each execution is asked for when the one before it has ended.
    """
    trio.run(run_each_by, run, executions)


async def run_each_by(run_one: Run, executions: Iterable[Execution]) -> None:
    """As `run_each`, inside Trio and with any way to run one execution."""
    for execution in executions:
        await run_one(execution)


async def run(execution: Execution) -> None:
    """Run one execution to its end, one task at a time, in the order that its strategy picks.

    Raises:
        EmuError: what ended the execution before its agents did.
    """
    try:
        execution.start()
        turns = Turns(execution)
        await live_together(execution, turns.live)
    finally:
        execution.end()


async def live_together(execution: Execution, live: Callable[[Agent], Awaitable[bool]]) -> None:
    """Run `live` for each agent, as a task of its own, until one says that the execution is over.

    The first exception ends the execution and is raised as it is, outside of any group.
    """
    failures: list[BaseException] = []

    async def task(agent: Agent) -> None:
        try:
            is_over = await live(agent)
        except trio.Cancelled:
            raise
        except BaseException as error:  # noqa: BLE001 - carried out of the nursery unwrapped, below
            failures.append(error)
            is_over = True
        if is_over:
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for agent in execution.agents:
            nursery.start_soon(task, agent, name=agent.name)
    if failures:
        raise failures[0]


@attrs.define(eq=False)
class Turns:
    """Hands the turn from task to task.

    Attributes:
        turn: the agent that may take a step; every other task is parked or about to park.
        tasks: the tasks that have started, by agent.
    """

    execution: Execution
    turn: Agent | None = None
    tasks: dict[str, trio.lowlevel.Task] = attrs.field(factory=dict)

    async def live(self, agent: Agent) -> bool:
        """Take the agent's steps, each in its turn; return whether the execution is over."""
        self.tasks[agent.name] = trio.lowlevel.current_task()
        if len(self.tasks) == len(self.execution.agents) and not self.pass_turn(agent):
            return True
        steps_in_a_row = 0
        while not agent.is_done:
            if self.turn is not agent:
                steps_in_a_row = 0
                await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.SUCCEEDED)
            self.execution.step(agent)
            if not self.pass_turn(agent):
                return True
            steps_in_a_row += 1
            if steps_in_a_row % STEPS_BETWEEN_CANCELLATION_CHECKS == 0:
                await trio.lowlevel.checkpoint_if_cancelled()
        return False

    def pass_turn(self, agent: Agent) -> bool:
        """Pick who goes next and wake it, unless it is this agent; return False when the execution is over."""
        self.turn = self.execution.pick()
        if self.turn is None:
            return False
        if self.turn is not agent:
            trio.lowlevel.reschedule(self.tasks[self.turn.name])
        return True
