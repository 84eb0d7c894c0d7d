"""The command buffer as the driver uses it (Xen: amd/iommu_cmd.c). The caller holds the unit's lock."""

from collections.abc import Mapping
from typing import Any

from emu.cpus import Cpu
from emu.engine import Latch
from emu.hypervisor.amd.state import AmdIommu, DriverState
from emu.hypervisor.commands import AwaitUnit, post
from emu.hypervisor.faults import Fault
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import ETIMEDOUT
from emu.iommus.amd.engine import COM_WAIT_INT
from emu.iommus.amd.formats import CompletionWait, encode_command
from emu.iommus.amd.queue import CommandBuffer
from emu.iommus.ring import ReadHead, ReadTail
from emu.memory import HALF_MASK, Store


class ClearBits(Store):
    """Write ones to bits of the status register, which clears them; the other bits stay (RW1C)."""

    __slots__ = ("counters",)

    event = "register.clear"

    def __init__(self, queue: CommandBuffer, bits: int) -> None:
        super().__init__(queue.memory, queue.status, bits, 32, self.event, {"iommu": queue.unit})
        self.counters = queue.counters

    def perform(self, step: int) -> int:
        self.counters.register_writes += 1
        self.old = self.memory.peek(self.address) & HALF_MASK
        self.memory.put(self.address, self.old & ~self.value, step=step, bits=32)
        return self.old

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.label, {**self.details, "address": self.address, "old": self.old, "value": self.old & ~self.value}


class AwaitStatus(AwaitUnit):
    """Read the status register until it says that a COMPLETION_WAIT has completed."""

    __slots__ = ("counters",)

    saved_as = AwaitUnit.__name__

    def __init__(self, queue: CommandBuffer, latch: Latch) -> None:
        super().__init__(latch, "flush.done", queue.unit)
        self.counters = queue.counters

    def perform(self, step: int) -> None:
        self.counters.register_reads += 1
        super().perform(step)


async def send_iommu_command(cpu: Cpu, driver: DriverState, iommu: AmdIommu, bits: int) -> bool:
    """Post the 128 bits of a command; return whether there was room for it (Xen: amd/iommu_cmd.c, send_iommu_command).

    Until c4e4434357 a command for which there was no room was dropped, and no caller looked at the result.
    """
    queue = iommu.unit.queue
    tail = await ReadTail(queue)
    if Fix.RING_ROOM in driver.fixes:
        room = queue.room()
        if room is not None:
            await AwaitUnit(room, "queue.room", iommu.unit.name)
    elif await ReadHead(queue):
        command = queue.decode(bits)
        cpu.note("queue.drop", iommu=iommu.unit.name, **({} if command is None else queue.about(command)))
        return False
    await post(cpu, queue, tail, bits)
    return True


async def flush_command_buffer(cpu: Cpu, driver: DriverState, iommu: AmdIommu) -> None:
    """Post a COMPLETION_WAIT and wait until it has completed (Xen: amd/iommu_cmd.c, flush_command_buffer).

    Until e4fee66043 the CPU looked at the status a thousand times, and then went on as if the wait had completed. A
    later completion may then end the next wait too early, for all waits set the same bit.
    """
    queue, waits_for_ever = iommu.unit.queue, Fix.WAIT_FOR_EVER in driver.fixes
    await ClearBits(queue, COM_WAIT_INT)
    latch = cpu.memory.latch(queue.status, COM_WAIT_INT)
    is_posted = await send_iommu_command(cpu, driver, iommu, encode_command(CompletionWait(interrupt=True)))
    if not waits_for_ever and (not is_posted or await driver.faults.strike(cpu, Fault.WAIT)):
        cpu.note("fault.inject", iommu=queue.unit, result=ETIMEDOUT)
        return
    await AwaitStatus(queue, latch)
    if not waits_for_ever:
        await ClearBits(queue, COM_WAIT_INT)


async def execute(cpu: Cpu, driver: DriverState, iommu: AmdIommu, bits: int) -> None:
    """Post a command and a wait, and wait for them (Xen: amd/iommu_cmd.c, in _amd_iommu_flush_pages)."""
    await send_iommu_command(cpu, driver, iommu, bits)
    await flush_command_buffer(cpu, driver, iommu)
