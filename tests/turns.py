"""Strategies that let agents go on in turns, that hold a device back, and that let some lag behind at random."""

import random
from collections.abc import Callable, Sequence

import attrs

from emu.checks.findings import Finding
from emu.engine import Agent, Choose, Operation
from emu.engine.hosts import direct
from emu.iommus.walk_cache import ChooseStart
from emu.machine.machine import Machine


@attrs.define
class Order:
    """Lets agents go on in turns, each until its next operation is of a class, or until it cannot; at last anybody.

    Attributes:
        turns: the names of agents, each with the class; None where the agent goes on as far as it can.
        start: where walks start: at the root table (0), or at a cached table entry.
    """

    turns: list[tuple[str, type | None]]
    start: int = 1

    def pick(self, enabled: Sequence[Agent]) -> Agent:
        while self.turns:
            name, held = self.turns[0]
            for agent in enabled:
                if agent.name == name and type(agent.pending) is not held:
                    return agent
            self.turns.pop(0)
        return enabled[0]

    def choose(self, choice: Choose) -> int:
        return min(self.start, choice.count - 1) if isinstance(choice, ChooseStart) else 0


@attrs.define
class HoldBack:
    """Let the device go first, up to an operation that waits until nobody else can go on.

    Attributes:
        chosen: what is chosen, where there is so much.
    """

    holds: Callable[[Operation[object] | None], bool]
    chosen: int = 0

    def pick(self, enabled: Sequence[Agent]) -> Agent:
        devices = [agent for agent in enabled if "device" in agent.labels]
        others = [agent for agent in enabled if "device" not in agent.labels]
        return devices[0] if devices and (not others or not self.holds(devices[0].pending)) else others[0]

    def choose(self, choice: Choose) -> int:
        return min(self.chosen, choice.count - 1)


def held_back(machine: Machine, operation: type, *, level: int | None = None, chosen: int = 0) -> list[Finding]:
    """Run a machine whose device does one sort of operation only when nobody else can go on; return the findings.

    Args:
        level: only if it is about a table of this level.
        chosen: what is chosen, where there is so much.
    """

    def holds(pending: Operation[object] | None) -> bool:
        return isinstance(pending, operation) and level in {None, getattr(pending, "level", None)}

    execution = machine.execution(HoldBack(holds, chosen))
    direct.run(execution)
    return machine.conclude(execution)


@attrs.define
class Lagging:
    """Runs whoever has the highest of random priorities, which change now and then."""

    random: random.Random
    of: dict[int, float] = attrs.field(factory=dict)

    def pick(self, enabled: Sequence[Agent]) -> Agent:
        for agent in enabled:
            self.of.setdefault(agent.number, self.random.random())
        first = max(enabled, key=lambda agent: self.of[agent.number])
        if self.random.random() < 1 / 6:
            self.of[first.number] = self.random.random()
        return first

    def choose(self, choice: Choose) -> int:
        return int(self.random.random() * choice.count)
