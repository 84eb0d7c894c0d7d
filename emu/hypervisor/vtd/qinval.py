"""The invalidation queue as the driver uses it (Xen: drivers/passthrough/vtd/qinval.c)."""

from collections.abc import Mapping
from typing import Any

import attrs

from emu.cpus import Cpu
from emu.engine import Latch, Wait
from emu.hypervisor.faults import Fault
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import ETIMEDOUT, OK
from emu.hypervisor.vtd.state import DriverState, VtdIommu
from emu.iommus.vtd.formats import (
    ContextInvalidation,
    Descriptor,
    IotlbInvalidation,
    WaitDescriptor,
    encode_descriptor,
)
from emu.iommus.vtd.queue import ReadTail, WriteTail

QINVAL_STAT_INIT = 0
QINVAL_STAT_DONE = 1

NOT_ISSUED = 1
"""What a low-level flush returns if the unit caches no non-present entries, so that nothing was asked of it."""


class AwaitUnit(Wait):
    """Wait until a unit has written our status word, or has made room in its queue: the event says which."""

    __slots__ = ("iommu", "label")

    def __init__(self, latch: Latch, label: str, iommu: str) -> None:
        super().__init__(latch)
        self.label = label
        self.iommu = iommu

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.label, {"iommu": self.iommu}


async def qinval_update(cpu: Cpu, iommu: VtdIommu, descriptor: Descriptor) -> None:
    """Put a descriptor into the next slot of a unit's queue (Xen: queue_invalidate_* in qinval.c)."""
    queue = iommu.unit.queue
    async with iommu.register_lock.held(cpu):
        tail = await ReadTail(queue)
        room = queue.room()
        if room is not None:
            await AwaitUnit(room, "queue.room", iommu.unit.name)
        address = queue.slot_address(tail)
        await cpu.store128(address, encode_descriptor(descriptor), "queue.write", iommu=iommu.unit.name)
        await WriteTail(queue, (tail + 1) % queue.entries)


async def invalidate_sync(cpu: Cpu, driver: DriverState, iommu: VtdIommu) -> int:
    """Post a wait descriptor and wait until the unit has written its status (Xen: queue_invalidate_wait).

    A CPU that gives up leaves the descriptors to the unit: the status is written when they have completed, and may
    then end a later wait of the same CPU before its time.
    """
    address = driver.poll_slot(cpu)
    await cpu.store32(address, QINVAL_STAT_INIT)
    latch = cpu.memory.latch(address, QINVAL_STAT_DONE)
    await qinval_update(cpu, iommu, WaitDescriptor(address, QINVAL_STAT_DONE))
    if await driver.faults.strike(cpu, Fault.WAIT):
        cpu.note("fault.inject", iommu=iommu.unit.name, result=ETIMEDOUT)
        return ETIMEDOUT
    await AwaitUnit(latch, "flush.done", iommu.unit.name)
    return OK


async def flush_qi(
    cpu: Cpu,
    driver: DriverState,
    iommu: VtdIommu,
    asked: IotlbInvalidation | ContextInvalidation,
    *,
    non_present: bool,
) -> int:
    """Have a unit invalidate, and wait for it; or do nothing where only non-present entries changed.

    A unit that caches non-present entries is asked under domain id 0 then: that is the tag of non-present *context*
    entries. Until c5c84e9766 Xen did so for the IOTLB, too, which then keeps what it was to drop.
    """
    if non_present:
        if not iommu.unit.settings.caching_mode:
            return NOT_ISSUED
        if isinstance(asked, ContextInvalidation) or Fix.OWN_ID not in driver.fixes:
            asked = attrs.evolve(asked, did=0)
    await qinval_update(cpu, iommu, asked)
    return await invalidate_sync(cpu, driver, iommu)
