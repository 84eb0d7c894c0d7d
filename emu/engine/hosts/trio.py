"""The Trio host: every agent is one named Trio task, and all of them live in one nursery.

Here the strategy lets exactly one task go at a time: a task that has taken its step wakes the next one and parks.
In free.py Trio itself decides.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import attrs
import trio

from emu.engine.agents import Agent
from emu.engine.execution import Execution
from emu.engine.failures import CONTROLLED
from emu.errors import ModelError

STEPS_BETWEEN_CHECKPOINTS = 1_000

Run = Callable[[Execution], Awaitable[None]]


def run_each(executions: Iterable[Execution]) -> None:
    """Run executions one after the other under a single `trio.run`, which costs more than a short execution.

    The iterable is asked for the next execution once the last has ended.

    Raises:
        ModelError: if an agent has used Trio in a way that breaks Trio itself.
        KeyboardInterrupt: if Ctrl-C has come while Trio did something of its own.
    """
    try:
        trio.run(run_each_by, run, executions)
    except trio.TrioInternalError as error:
        if isinstance(error.__cause__, KeyboardInterrupt):
            raise error.__cause__ from None
        raise ModelError(f"an agent has left a Trio nursery or scope open; {CONTROLLED}") from error


async def run_each_by(run_one: Run, executions: Iterable[Execution]) -> None:
    """Run executions one after the other inside Trio, each by `run_one`."""
    for execution in executions:
        await run_one(execution)


async def run(execution: Execution) -> None:
    """Run one execution to its end, one task at a time, in the order that its strategy picks.

    Raises:
        EmuError: if it has ended the execution before the agents did.
        ModelError: if a Trio scope of an agent's own has cancelled it.
    """
    turns = Turns(execution)
    try:
        await live_together(execution, turns.live)
    finally:
        execution.end()
    if not turns.is_complete:
        raise ModelError(
            "an agent was cancelled by a Trio scope of its own; under a controlled strategy no time passes: "
            "leave Trio's scopes out, or use the free strategy"
        )


async def live_together(execution: Execution, live: Callable[[Agent], Awaitable[bool]]) -> None:
    """Run `live` for each agent, as a task of its own, until one call returns that the execution is over.

    Once anything cancels the tasks, `execution.has_ended` is true.

    Raises:
        BaseException: the first exception of a task, outside any exception group; it ends the execution.
    """
    failures: list[BaseException] = []

    async def task(agent: Agent) -> None:
        """Run one agent, and end the execution if that says so or raises."""
        if await live_scoped(agent, live, failures):
            execution.has_ended = True
            nursery.cancel_scope.cancel()

    def note_cancellation(_: Any) -> trio.lowlevel.Abort:
        execution.has_ended = True
        return trio.lowlevel.Abort.SUCCEEDED

    try:
        async with trio.open_nursery() as watch:
            watch.start_soon(trio.lowlevel.wait_task_rescheduled, note_cancellation)
            async with trio.open_nursery() as nursery:
                for agent in execution.agents:
                    nursery.start_soon(task, agent, name=agent.name)
            watch.cancel_scope.cancel()
    except BaseExceptionGroup:  # Trio's own complaint of a nursery that an agent has left open
        if not failures:
            raise
    if failures:
        raise failures[0]


async def live_scoped(agent: Agent, live: Callable[[Agent], Awaitable[bool]], failures: list[BaseException]) -> bool:
    """Run one agent in a scope, whose end notices what the agent has left open; return whether the execution is over.

    Args:
        failures: what it raises is added; so it comes out of the nursery unwrapped.

    Raises:
        Cancelled: if the execution is cancelled.
    """
    is_over = True
    try:
        with trio.CancelScope():
            try:
                is_over = await live(agent)
            except trio.Cancelled:
                raise
            except BaseException as error:  # noqa: BLE001 - whatever it is, it ends the execution
                failures.append(error)
    except RuntimeError:
        if agent.is_done:
            failures.append(left_open(agent))
            is_over = True
    return is_over


def left_open(agent: Agent) -> ModelError:
    """Return the error for an agent that has ended within a scope or a nursery of its own."""
    return ModelError(f"{agent.name} has ended with a Trio nursery or scope open: write `with` or `async with`")


@attrs.define(eq=False)
class Turns:
    """Hands the turn from task to task.

    Attributes:
        turn: the agent that may go on; every other task is parked or about to park.
        tasks: the tasks that have started, by the agent's name.
        is_complete: the execution has come to its own end.
    """

    execution: Execution
    turn: Agent | None = None
    tasks: dict[str, trio.lowlevel.Task] = attrs.field(factory=dict)
    is_complete: bool = False

    async def live(self, agent: Agent) -> bool:
        """Start the agent and take its steps, each in its turn; return whether the execution is over."""
        agents = self.execution.agents
        self.tasks[agent.name] = trio.lowlevel.current_task()
        if len(self.tasks) == len(agents):
            self.give_turn(agents[0], by=agent)
        await self.wait_for_turn(agent)
        self.execution.start(agent)
        number = agents.index(agent) + 1
        is_over = not (self.give_turn(agents[number], by=agent) if number < len(agents) else self.pass_turn(agent))
        steps_in_a_row = 0
        while not (agent.is_done or is_over):
            if await self.wait_for_turn(agent):
                steps_in_a_row = 0
            self.execution.step(agent)
            is_over = not self.pass_turn(agent)
            steps_in_a_row += 1
            if steps_in_a_row % STEPS_BETWEEN_CHECKPOINTS == 0:
                await trio.lowlevel.checkpoint()
        return is_over

    async def wait_for_turn(self, agent: Agent) -> bool:
        """Park until it is the agent's turn; return whether the agent had to park."""
        if self.turn is agent:
            return False
        await trio.lowlevel.wait_task_rescheduled(self.abort)
        return True

    def abort(self, _: Any) -> trio.lowlevel.Abort:
        """Let a cancellation through: it ends the execution, so no agent gets another turn."""
        self.execution.has_ended = True
        return trio.lowlevel.Abort.SUCCEEDED

    def give_turn(self, agent: Agent, *, by: Agent) -> bool:
        """Let an agent go on; return False if the execution has ended."""
        if self.execution.has_ended:
            return False
        self.turn = agent
        if agent is not by:
            trio.lowlevel.reschedule(self.tasks[agent.name])
        return True

    def pass_turn(self, agent: Agent) -> bool:
        """Pick the agent that goes next and let it go on; return False if the execution is over."""
        if self.execution.has_ended:
            return False
        chosen = self.execution.pick()
        self.is_complete = chosen is None
        return chosen is not None and self.give_turn(chosen, by=agent)
