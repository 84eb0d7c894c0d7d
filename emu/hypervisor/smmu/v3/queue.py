"""The command queue as the driver uses it (Xen: arm/smmu-v3.c).

Posting a command and waiting for it are two sections of the queue's lock: commands of other CPUs may come between.

Not modelled: a unit that writes a word for each CMD_SYNC (IDR0.MSI), for which a CPU waits without the lock.
"""

from emu.cpus import Cpu
from emu.hypervisor.commands import AwaitUnit
from emu.hypervisor.faults import Fault
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import ETIMEDOUT, OK
from emu.hypervisor.records import record_result
from emu.hypervisor.smmu.v3.state import DriverState, Smmuv3Iommu
from emu.iommus.ring import ReadTail, WriteTail
from emu.iommus.smmu.v3.formats import Command, Sync, encode_command
from emu.memory import WriteBack
from emu.units import Dfn


async def arm_smmu_cmdq_insert_cmd(cpu: Cpu, driver: DriverState, iommu: Smmuv3Iommu, command: Command) -> None:
    """Write a command into the queue, under its lock; wait for room as long as it takes.

    Until 3a11099edd (2025) the command was left in the CPU's cache, where a unit that does not snoop does not see it
    (B51).

    (Xen: arm/smmu-v3.c, arm_smmu_cmdq_insert_cmd and queue_insert_raw)
    """
    queue = iommu.unit.queue
    room = queue.room()
    if room is not None:
        await AwaitUnit(room, "queue.room", queue.unit)
    tail = await ReadTail(queue)
    address = queue.slot_address(tail)
    await cpu.store128(address, encode_command(command), "queue.write", iommu=queue.unit)
    if not cpu.memory.is_coherent and Fix.QUEUE_CLEAN in driver.fixes:
        await WriteBack(cpu.memory, address)
    await WriteTail(queue, (tail + 1) % queue.entries)


async def arm_smmu_cmdq_issue_cmd(cpu: Cpu, driver: DriverState, iommu: Smmuv3Iommu, command: Command) -> None:
    """Post a command (Xen: arm/smmu-v3.c, arm_smmu_cmdq_issue_cmd)."""
    async with iommu.cmdq_lock.held(cpu):
        await arm_smmu_cmdq_insert_cmd(cpu, driver, iommu, command)


async def arm_smmu_cmdq_issue_sync(cpu: Cpu, driver: DriverState, iommu: Smmuv3Iommu) -> int:
    """Post a CMD_SYNC and wait, under the lock, until the queue is empty.

    (Xen: arm/smmu-v3.c, __arm_smmu_cmdq_issue_sync)

    Returns:
        0; or -ETIMEDOUT after a second, which no caller looks at. The hardware still completes what it was asked for.
    """
    queue = iommu.unit.queue
    async with iommu.cmdq_lock.held(cpu):
        await arm_smmu_cmdq_insert_cmd(cpu, driver, iommu, Sync())
        if await driver.faults.strike(cpu, Fault.WAIT):
            cpu.note("fault.inject", iommu=queue.unit, result=ETIMEDOUT)
            record_result(cpu, f"iotlb_flush on {queue.unit}", Dfn(0), 0, ETIMEDOUT)
            return ETIMEDOUT
        last = queue.count - 1
        latch = queue.taken_latch(last, f"CONS of {queue.unit} past command {last}")
        await AwaitUnit(latch, "flush.done", queue.unit)
    return OK
