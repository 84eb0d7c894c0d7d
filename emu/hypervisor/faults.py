"""Faults that the strategy may inject. Each is a choice, so an exploration executes both outcomes.

The number of faults of each sort is limited for each CPU by itself, so the choices of two CPUs commute.
"""

from enum import Enum

import attrs

from emu.cpus import Cpu, PerCpu
from emu.engine import Choose
from emu.errors import ScenarioError


class Fault(Enum):
    """A sort of fault."""

    ALLOCATION = "allocation"  # there is no memory for a page table
    HOOK = "hook"  # a driver hook fails before it has touched anything
    WAIT = "wait"  # a CPU gives up waiting for an invalidation; hardware still completes it later


@attrs.frozen
class Faults:
    """The faults that may happen.

    Attributes:
        limits: how many faults of each sort a CPU may meet; a sort without a limit never happens.
        of_one: how many a single CPU may meet, by its number, if that is more.
    """

    limits: dict[Fault, int] = attrs.field(factory=dict)
    of_one: dict[tuple[Fault, int], int] = attrs.field(factory=dict)

    def allow(self, fault: Fault, limit: int, cpu: int | None = None) -> None:
        """Let at least so many faults of a sort happen on each CPU, or on one.

        Raises:
            ScenarioError: if the number is negative.
        """
        if limit < 0:
            raise ScenarioError(f"{limit} {fault.value} faults: allow none, or a number of them")
        if cpu is None:
            self.limits[fault] = max(limit, self.limits.get(fault, 0))
        else:
            self.of_one[fault, cpu] = max(limit, self.of_one.get((fault, cpu), 0))

    async def strike(self, cpu: Cpu, fault: Fault) -> bool:
        """Choose whether a fault happens now, if the CPU may meet one more."""
        met = PerCpu(f"{fault.value} faults", initial=0)
        limit = max(self.limits.get(fault, 0), self.of_one.get((fault, cpu.number), 0))
        if cpu.peek(met) >= limit or not await Choose(f"{fault.value} fault", 2):
            return False
        cpu.poke(met, cpu.peek(met) + 1)
        return True
