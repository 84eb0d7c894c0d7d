"""The cost of a step on each host, against a bare loop that does the same."""

import random
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import trio

from emu.bench.benchmark import make_agents
from emu.bench.timing import best_times
from emu.engine import Agent, Choose, Execution, Operation, Trace, Variable
from emu.engine.hosts import direct
from emu.engine.hosts import trio as trio_host
from emu.engine.strategies.random import RandomStrategy

SEED = 0
STEPS = 8_000


@attrs.frozen
class StepMeasure:
    """The time of steps on a host, and of a bare loop.

    Attributes:
        name: how the steps are taken.
        bare: the work of the bare loop.
        ratio_aim: the ratio of the two times should stay below this.
    """

    name: str
    bare: str
    ratio_aim: float
    steps: int
    seconds: float
    bare_seconds: float

    @property
    def ratio(self) -> float:
        """How many times longer a step takes than in the bare loop."""
        return self.seconds / self.bare_seconds


def measure_steps() -> Iterator[StepMeasure]:
    """Measure a random step on the direct host, and a controlled one on the Trio host."""
    times = best_times(
        lambda: direct.run(Execution(busy(4), RandomStrategy.seeded(SEED), Trace())),
        lambda: pick_at_random(busy(4)),
    )
    yield StepMeasure("random step, direct host", "pick, send and perform", 3.0, STEPS, *times)
    times = best_times(
        lambda: trio_host.run_each([Execution(busy(2), Alternately(), Trace())]),
        lambda: trio.run(park_and_reschedule, STEPS),
    )
    yield StepMeasure("controlled step, Trio host", "park and reschedule", 2.0, STEPS, *times)


def busy(agents: int) -> list[Agent]:
    """Return agents that access two variables in `STEPS` steps altogether."""
    x, y = Variable("x", 0), Variable("y", 0)

    async def body() -> None:
        for value in range(STEPS // agents // 2):
            await x.write(value)
            await y.read()

    return make_agents(*[body] * agents)


def pick_at_random(agents: Sequence[Agent]) -> None:
    """Perform the operations of agents picked at random, and nothing else: not even a look whether they are enabled."""
    draw = random.Random(SEED).random
    coroutines = [agent.body() for agent in agents]
    pending: list[Operation[Any]] = [coroutine.send(None) for coroutine in coroutines]
    step = 0
    while pending:
        step += 1
        number = int(draw() * len(pending))
        value = pending[number].perform(step)
        try:
            pending[number] = coroutines[number].send(value)
        except StopIteration:
            del pending[number], coroutines[number]


class Alternately:
    """A strategy by which two agents take turns, so that every step is taken by another task."""

    turn = 0

    def pick(self, enabled: Sequence[Agent]) -> Agent:
        self.turn ^= 1
        return enabled[self.turn % len(enabled)]

    def choose(self, choice: Choose) -> int:
        return 0


async def park_and_reschedule(times: int) -> None:
    """Have two Trio tasks wake one another in turn, and do nothing else."""
    tasks: list[trio.lowlevel.Task] = []

    def abort(_: Any) -> trio.lowlevel.Abort:
        return trio.lowlevel.Abort.SUCCEEDED

    async def live() -> None:
        number = len(tasks)
        tasks.append(trio.lowlevel.current_task())
        if number == 0:
            await trio.lowlevel.wait_task_rescheduled(abort)
        other = tasks[1 - number]
        for _ in range(times // 2):
            trio.lowlevel.reschedule(other)
            await trio.lowlevel.wait_task_rescheduled(abort)
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(live)
        nursery.start_soon(live)
