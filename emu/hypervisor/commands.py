"""Handing commands to a unit by its ring, and waiting for the unit, whatever the vendor."""

from collections.abc import Mapping
from typing import Any

from emu.cpus import Cpu
from emu.engine import Latch, Wait
from emu.iommus.ring import Ring, WriteTail


class AwaitUnit(Wait):
    """Wait until a unit has told that it is done, or has room in its ring; `label` is the event's name.

    (Xen: vtd/qinval.c, in queue_invalidate_wait and qinval_next_index; amd/iommu_cmd.c, in flush_command_buffer)
    """

    __slots__ = ("iommu", "label")

    def __init__(self, latch: Latch, label: str, iommu: str) -> None:
        super().__init__(latch)
        self.label = label
        self.iommu = iommu

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.label, {"iommu": self.iommu}


async def post(cpu: Cpu, ring: Ring[Any], tail: int, bits: int) -> None:
    """Write the 128 bits of a command into the slot at the tail, and hand it to the unit.

    (Xen: vtd/qinval.c, qinval_update_qtail; amd/iommu_cmd.c, commit_iommu_command_buffer)
    """
    await cpu.store128(ring.slot_address(tail), bits, "queue.write", iommu=ring.unit)
    await WriteTail(ring, (tail + 1) % ring.entries)
