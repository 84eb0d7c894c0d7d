"""The wrappers as merged (Xen: iommu.c): the loops report what to flush, and their callers flush."""

from emu.cpus import Cpu
from emu.hypervisor.console import printk
from emu.hypervisor.domain import Domain
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import EINVAL, INVALID_DFN, OK, FlushType, MapFlags, iommu_dont_flush_iotlb, unsigned_int
from emu.hypervisor.page_list import PageType, ReadList, get_gpfn_from_mfn
from emu.units import Dfn, Mfn, offset, page_count


async def iommu_map(
    cpu: Cpu, domain: Domain, dfn: Dfn, mfn: Mfn, page_order: int, flags: MapFlags
) -> tuple[int, FlushType]:
    """Map 2^page_order pages, undo it on an error, and report what to flush (Xen: iommu.c, iommu_map)."""
    if not domain.has_iommu:
        return OK, FlushType.NONE
    result = OK
    flush_type = FlushType.NONE
    for i in range(page_count(page_order)):
        result, this_flush_type = await domain.ops.map_page(cpu, domain, offset(dfn, i), Mfn(mfn + i), flags)
        flush_type = max(flush_type, this_flush_type)
        if result == OK:
            continue
        for mapped in reversed(range(i)):
            _, this_flush_type = await domain.ops.unmap_page(cpu, domain, offset(dfn, mapped))
            flush_type = max(flush_type, this_flush_type)
        if not domain.is_hardware_domain:
            domain.crash(cpu)
        break

    return result, flush_type


async def iommu_legacy_map(cpu: Cpu, domain: Domain, dfn: Dfn, mfn: Mfn, page_order: int, flags: MapFlags) -> int:
    """Map 2^page_order pages and flush once (Xen: iommu.c, iommu_legacy_map)."""
    result, flush_type = await iommu_map(cpu, domain, dfn, mfn, page_order, flags)
    if not await cpu.read(iommu_dont_flush_iotlb):
        error = await iommu_iotlb_flush(cpu, domain, dfn, page_count(page_order), flush_type)
        result = result or error
    return result


async def iommu_unmap(cpu: Cpu, domain: Domain, dfn: Dfn, page_order: int) -> tuple[int, FlushType]:
    """Unmap 2^page_order pages; report the first error and what to flush (Xen: iommu.c, iommu_unmap)."""
    if not domain.has_iommu:
        return OK, FlushType.NONE
    result = OK
    flush_type = FlushType.NONE
    for i in range(page_count(page_order)):
        error, this_flush_type = await domain.ops.unmap_page(cpu, domain, offset(dfn, i))
        flush_type = max(flush_type, this_flush_type)
        if error == OK:
            continue
        if result == OK:
            result = error
        if not domain.is_hardware_domain:
            domain.crash(cpu)
            break

    return result, flush_type


async def iommu_legacy_unmap(cpu: Cpu, domain: Domain, dfn: Dfn, page_order: int) -> int:
    """Unmap 2^page_order pages and flush once (Xen: iommu.c, iommu_legacy_unmap)."""
    result, flush_type = await iommu_unmap(cpu, domain, dfn, page_order)
    if not await cpu.read(iommu_dont_flush_iotlb):
        error = await iommu_iotlb_flush(cpu, domain, dfn, page_count(page_order), flush_type)
        result = result or error
    return result


async def iommu_iotlb_flush(cpu: Cpu, domain: Domain, dfn: Dfn, page_count: int, flush_type: FlushType) -> int:
    """Flush a range as far as the type requires (Xen: iommu.c, iommu_iotlb_flush)."""
    if not domain.has_iommu or not domain.ops.has_iotlb_flush:
        return OK
    count = unsigned_int(page_count)
    if count == 0 or flush_type == FlushType.NONE:
        return OK
    if dfn == INVALID_DFN:
        return EINVAL
    result = await domain.ops.iotlb_flush(cpu, domain, dfn, count, flush_type)
    if result != OK:
        printk(cpu, f"d{domain.number}: IOMMU IOTLB flush failed: {result}")
        if not domain.is_hardware_domain:
            domain.crash(cpu)
    return result


async def iommu_iotlb_flush_all(cpu: Cpu, domain: Domain, flush_type: FlushType) -> int:
    """Flush a domain if anything has changed (Xen: iommu.c, iommu_iotlb_flush_all)."""
    if not domain.has_iommu or not domain.ops.has_iotlb_flush_all:
        return OK
    if flush_type == FlushType.NONE:
        return OK
    result = await domain.ops.iotlb_flush_all(cpu, domain)
    if result != OK:
        printk(cpu, f"d{domain.number}: IOMMU IOTLB flush failed: {result}")
        if not domain.is_hardware_domain:
            domain.crash(cpu)
    return result


async def iommu_hwdom_init(cpu: Cpu, domain: Domain) -> None:
    """Map the hardware domain's pages, where it has tables of its own (Xen: iommu.c, iommu_hwdom_init).

    Until 3389a8dc8c the permissions were passed as the order, and no permissions.
    """
    if not domain.has_iommu:
        return
    if domain.need_sync:
        result = OK
        flush_type = FlushType.NONE
        for i, mfn in enumerate(await ReadList(domain.page_list)):
            dfn = await get_gpfn_from_mfn(domain.page_list, mfn)
            mapping = MapFlags.READABLE
            if await domain.page_list.types[mfn].read() in {PageType.NONE, PageType.WRITABLE}:
                mapping |= MapFlags.WRITABLE
            is_right = Fix.HWDOM_ORDER in domain.ops.fixes
            order, flags = (0, mapping) if is_right else (int(mapping), MapFlags(0))  # C2
            error, this_flush_type = await iommu_map(cpu, domain, dfn, mfn, order, flags)
            flush_type = max(flush_type, this_flush_type)
            result = result or error
            if i % domain.boot.softirq_interval == 0:
                await cpu.process_pending_softirqs()
        if result != OK:
            printk(cpu, f"d{domain.number}: IOMMU mapping failed: {result}")
        await iommu_iotlb_flush_all(cpu, domain, flush_type)

    await domain.ops.hwdom_init(cpu, domain)
