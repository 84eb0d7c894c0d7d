"""The command buffer as the driver uses it (Xen: amd/iommu_cmd.c). The caller holds the unit's lock."""

from collections.abc import Mapping
from typing import Any

from emu.cpus import Cpu
from emu.hypervisor.amd.state import AmdIommu, DriverState
from emu.hypervisor.commands import AwaitUnit, post
from emu.hypervisor.faults import Fault
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import ETIMEDOUT
from emu.iommus.amd.engine import COM_WAIT_INT
from emu.iommus.amd.formats import CompletionWait, encode_command
from emu.iommus.ring import ReadHead, ReadTail
from emu.memory import HALF_MASK, Memory, Store
from emu.units import Maddr


class ClearBits(Store):
    """Write ones to bits of a register which that clears; the other bits stay (RW1C)."""

    __slots__ = ()

    event = "register.clear"

    def __init__(self, memory: Memory, address: Maddr, bits: int, iommu: str) -> None:
        super().__init__(memory, address, bits, 32, self.event, {"iommu": iommu})

    def perform(self, step: int) -> int:
        self.old = self.memory.peek(self.address) & HALF_MASK
        self.memory.put(self.address, self.old & ~self.value, step=step, bits=32)
        return self.old

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.label, {**self.details, "address": self.address, "old": self.old, "value": self.old & ~self.value}


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
    unit, waits_for_ever = iommu.unit, Fix.WAIT_FOR_EVER in driver.fixes
    await ClearBits(cpu.memory, unit.queue.status, COM_WAIT_INT, unit.name)
    latch = cpu.memory.latch(unit.queue.status, COM_WAIT_INT)
    is_posted = await send_iommu_command(cpu, driver, iommu, encode_command(CompletionWait(interrupt=True)))
    if not waits_for_ever and (not is_posted or await driver.faults.strike(cpu, Fault.WAIT)):
        cpu.note("fault.inject", iommu=unit.name, result=ETIMEDOUT)
        return
    await AwaitUnit(latch, "flush.done", unit.name)
    if not waits_for_ever:
        await ClearBits(cpu.memory, unit.queue.status, COM_WAIT_INT, unit.name)


async def execute(cpu: Cpu, driver: DriverState, iommu: AmdIommu, bits: int) -> None:
    """Post a command and a wait, and wait for them (Xen: amd/iommu_cmd.c, in _amd_iommu_flush_pages)."""
    await send_iommu_command(cpu, driver, iommu, bits)
    await flush_command_buffer(cpu, driver, iommu)
