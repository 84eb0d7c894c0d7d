"""Flushes of context cache, IOTLB and write buffer (Xen: vtd/iommu.c)."""

from emu.cpus import Cpu
from emu.hypervisor.domain import Domain
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import INVALID_DFN, OK
from emu.hypervisor.vtd.queue import NOT_ISSUED, flush_qi
from emu.hypervisor.vtd.state import DriverState, VtdIommu
from emu.iommus.formats import base_of_order
from emu.iommus.vtd.formats import ContextInvalidation, Granularity, IotlbInvalidation
from emu.iommus.vtd.write_buffer import FlushWriteBuffer
from emu.memory import WriteBack
from emu.units import Dfn, Maddr


async def iommu_flush_cache_entry(cpu: Cpu, driver: DriverState, address: Maddr) -> None:
    """Write an entry's cache line back if some unit's walks do not snoop the CPUs' caches.

    (Xen: vtd/iommu.c, iommu_flush_cache_entry)
    """
    if not driver.is_coherent:
        await WriteBack(cpu.memory, address)


async def iommu_flush_context_device(
    cpu: Cpu, driver: DriverState, iommu: VtdIommu, did: int, source_id: int, *, non_present: bool
) -> int:
    """Flush a device's context entry (Xen: vtd/iommu.c, iommu_flush_context_device)."""
    asked = ContextInvalidation(Granularity.NARROW, did, source_id)
    return await flush_qi(cpu, driver, iommu, asked, non_present=non_present)


async def iommu_flush_iotlb_dsi(cpu: Cpu, driver: DriverState, iommu: VtdIommu, did: int, *, non_present: bool) -> int:
    """Flush all entries of a domain id from a unit's IOTLB (Xen: vtd/iommu.c, iommu_flush_iotlb_dsi)."""
    asked = IotlbInvalidation(Granularity.DOMAIN, did)
    return await flush_qi(cpu, driver, iommu, asked, non_present=non_present)


async def iommu_flush_iotlb_psi(
    cpu: Cpu, driver: DriverState, iommu: VtdIommu, did: int, dfn: Dfn, order: int, *, non_present: bool
) -> int:
    """Flush 2^order pages of a domain id (Xen: vtd/iommu.c, iommu_flush_iotlb_psi).

    A unit that cannot invalidate so few pages, or so many, flushes the whole domain id.
    """
    settings = iommu.unit.settings
    if not settings.page_selective or order > settings.mamv:
        return await iommu_flush_iotlb_dsi(cpu, driver, iommu, did, non_present=non_present)
    asked = IotlbInvalidation(Granularity.NARROW, did, base_of_order(dfn, order), order)
    return await flush_qi(cpu, driver, iommu, asked, non_present=non_present)


async def iommu_flush_iotlb(
    cpu: Cpu, driver: DriverState, domain: Domain, dfn: Dfn, *, old_present: bool, page_count: int
) -> int:
    """Flush a range of a domain on every unit that it uses, without a lock (Xen: vtd/iommu.c, iommu_flush_iotlb).

    One page is flushed alone; any other count, or INVALID_DFN, flushes the whole domain. Until e7059776f9 the result
    of a later unit replaces that of an earlier one.
    """
    result, is_whole = OK, page_count != 1 or dfn == INVALID_DFN
    for iommu in driver.iommus:
        if not await driver.iommu_bitmap(domain).read() >> iommu.index & 1:
            continue
        did = await iommu.domids.find(domain.number)
        if did is None:
            cpu.note("flush.skip", iommu=iommu.unit.name, domain=domain.number)
            continue
        if is_whole:
            error = await iommu_flush_iotlb_dsi(cpu, driver, iommu, did, non_present=False)
        else:
            non_present = not old_present if Fix.XSA_78 in driver.fixes else old_present
            error = await iommu_flush_iotlb_psi(cpu, driver, iommu, did, dfn, 0, non_present=non_present)
        if error == NOT_ISSUED:
            await iommu_flush_write_buffer(cpu, iommu)
            error = OK
        result = (result or error) if Fix.FIRST_ERROR in driver.fixes else error
    return result


async def iommu_flush_write_buffer(cpu: Cpu, iommu: VtdIommu) -> None:
    """Drain the chipset's write buffer, as an invalidation does (Xen: vtd/iommu.c, iommu_flush_write_buffer)."""
    if iommu.unit.settings.write_buffer:
        await FlushWriteBuffer(iommu.unit)
