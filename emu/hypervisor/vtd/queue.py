"""The invalidation queue as the driver uses it (Xen: vtd/qinval.c)."""

import attrs

from emu.cpus import Cpu
from emu.hypervisor.commands import AwaitUnit, post
from emu.hypervisor.faults import Fault
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import ETIMEDOUT, OK
from emu.hypervisor.records import record_result
from emu.hypervisor.vtd.state import DriverState, VtdIommu
from emu.iommus.ring import ReadTail
from emu.iommus.vtd.formats import (
    ContextInvalidation,
    Descriptor,
    Granularity,
    IotlbInvalidation,
    WaitDescriptor,
    encode_descriptor,
)
from emu.units import page_count

QINVAL_STAT_INIT = 0
QINVAL_STAT_DONE = 1

NOT_ISSUED = 1
"""The result of a flush that posts nothing, because only non-present entries changed and the unit caches none."""


async def qinval_update(cpu: Cpu, iommu: VtdIommu, descriptor: Descriptor) -> None:
    """Post a descriptor to a unit's queue.

    (Xen: vtd/qinval.c, queue_invalidate_context_sync, queue_invalidate_iotlb_sync and queue_invalidate_wait)
    """
    queue = iommu.unit.queue
    async with iommu.register_lock.held(cpu):
        tail = await ReadTail(queue)
        room = queue.room()
        if room is not None:
            await AwaitUnit(room, "queue.room", iommu.unit.name)
        await post(cpu, queue, tail, encode_descriptor(descriptor))


async def invalidate_sync(cpu: Cpu, driver: DriverState, iommu: VtdIommu) -> int:
    """Post a wait descriptor and wait for its status (Xen: vtd/qinval.c, invalidate_sync and queue_invalidate_wait).

    After a timeout the descriptors stay in the queue. The unit still writes the status when they have completed, and
    that write may end a later wait of the same CPU too early.
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
    """Post an invalidation and wait for it (Xen: vtd/qinval.c, flush_context_qi and flush_iotlb_qi).

    If only non-present entries changed, a unit without caching mode has nothing to invalidate. In caching mode
    non-present *context* entries are tagged with domain id 0, and are invalidated under it. Until c5c84e9766 Xen used
    id 0 for the IOTLB too, whose non-present entries have the domain's own id and so stayed cached.
    """
    if non_present:
        if not iommu.unit.settings.caching_mode:
            return NOT_ISSUED
        if isinstance(asked, ContextInvalidation) or Fix.OWN_ID not in driver.fixes:
            asked = attrs.evolve(asked, did=0)
    await qinval_update(cpu, iommu, asked)
    result = await invalidate_sync(cpu, driver, iommu)
    if isinstance(asked, IotlbInvalidation):
        pages = 0 if asked.granularity is not Granularity.NARROW else page_count(asked.address_mask)
        record_result(cpu, f"iotlb_flush on {iommu.unit.name}", asked.dfn, pages, result)
    return result
