"""The wrappers of the seed patch (Xen: iommu.c). They flush once, after the loop."""

from emu.cpus import Cpu
from emu.hypervisor.console import printk
from emu.hypervisor.domain import Domain
from emu.hypervisor.ops import OK, FlushType, MapFlags, iommu_dont_flush_iotlb, unsigned_int
from emu.hypervisor.page_list import PageType, ReadList, get_gpfn_from_mfn
from emu.units import Dfn, Mfn, offset, page_count


async def iommu_map(cpu: Cpu, domain: Domain, dfn: Dfn, mfn: Mfn, page_order: int, flags: MapFlags) -> int:
    """Map 2^page_order pages and flush once; on an error unmap those that were mapped (Xen: iommu.c, iommu_map).

    The error path calls a hook without asking whether there is one (D3).
    """
    if not domain.has_iommu:
        return OK
    result = OK
    flush_type = FlushType.NONE
    for i in range(page_count(page_order)):
        result, this_flush_type = await domain.ops.map_page(cpu, domain, offset(dfn, i), Mfn(mfn + i), flags)
        if result == OK:
            flush_type = max(flush_type, this_flush_type)
            continue
        for mapped in reversed(range(i)):
            await domain.ops.unmap_page(cpu, domain, offset(dfn, mapped))
        await domain.ops.iotlb_flush_all(cpu, domain)
        if not domain.is_hardware_domain:
            domain.crash(cpu)
        break

    if domain.ops.has_iotlb_flush and not await cpu.read(iommu_dont_flush_iotlb):
        result = await domain.ops.iotlb_flush(cpu, domain, dfn, unsigned_int(page_count(page_order)), flush_type)
    return result


async def iommu_unmap(cpu: Cpu, domain: Domain, dfn: Dfn, page_order: int) -> int:
    """Unmap 2^page_order pages and flush once, even after an error (Xen: iommu.c, iommu_unmap)."""
    if not domain.has_iommu:
        return OK
    result = OK
    for i in range(page_count(page_order)):
        error, _ = await domain.ops.unmap_page(cpu, domain, offset(dfn, i))
        if error == OK:
            continue
        if result == OK:
            result = error
        if not domain.is_hardware_domain:
            domain.crash(cpu)
            break

    if domain.ops.has_iotlb_flush:
        count = unsigned_int(page_count(page_order))
        result = await domain.ops.iotlb_flush(cpu, domain, dfn, count, FlushType.MODIFIED)
    return result


async def iommu_iotlb_flush(cpu: Cpu, domain: Domain, dfn: Dfn, page_count: int) -> int:
    """Flush a range, as if its entries had been modified (Xen: iommu.c, iommu_iotlb_flush)."""
    if not domain.has_iommu or not domain.ops.has_iotlb_flush:
        return OK
    result = await domain.ops.iotlb_flush(cpu, domain, dfn, unsigned_int(page_count), FlushType.MODIFIED)
    if result != OK:
        printk(cpu, f"d{domain.number}: IOMMU IOTLB flush failed: {result}")
        if not domain.is_hardware_domain:
            domain.crash(cpu)
    return result


async def iommu_iotlb_flush_all(cpu: Cpu, domain: Domain) -> int:
    """Flush a domain (Xen: iommu.c, iommu_iotlb_flush_all)."""
    if not domain.has_iommu or not domain.ops.has_iotlb_flush_all:
        return OK
    result = await domain.ops.iotlb_flush_all(cpu, domain)
    if result != OK:
        printk(cpu, f"d{domain.number}: IOMMU IOTLB flush failed: {result}")
        if not domain.is_hardware_domain:
            domain.crash(cpu)
    return result


async def iommu_hwdom_init(cpu: Cpu, domain: Domain) -> None:
    """Map the hardware domain's pages, where it has tables of its own (Xen: iommu.c, iommu_hwdom_init)."""
    if not domain.has_iommu:
        return
    if domain.need_sync:
        result = OK
        for i, mfn in enumerate(await ReadList(domain.page_list)):
            dfn = await get_gpfn_from_mfn(domain.page_list, mfn)
            mapping = MapFlags.READABLE
            if await domain.page_list.types[mfn].read() in {PageType.NONE, PageType.WRITABLE}:
                mapping |= MapFlags.WRITABLE
            error, _ = await domain.ops.map_page(cpu, domain, dfn, mfn, mapping)
            result = result or error
            if i % domain.boot.softirq_interval == 0:
                await cpu.process_pending_softirqs()
        if result != OK:
            printk(cpu, f"d{domain.number}: IOMMU mapping failed: {result}")
        elif domain.ops.has_iotlb_flush_all:
            await domain.ops.iotlb_flush_all(cpu, domain)

    await domain.ops.hwdom_init(cpu, domain)
