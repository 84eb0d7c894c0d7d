"""The wrappers of today (Xen: iommu.c): a hook maps the largest page that fits; a failed call flushes the domain."""

from emu.cpus import Cpu
from emu.hypervisor.console import printk
from emu.hypervisor.domain import Domain
from emu.hypervisor.ops import EINVAL, INVALID_DFN, OK, FlushType, MapFlags, iommu_dont_flush_iotlb, unsigned_int
from emu.units import Dfn, Mfn, offset, page_count


def mapping_order(domain: Domain, dfn: Dfn, mfn: Mfn | None, pages: int) -> int:
    """Return the order of the largest page with which a range may begin (Xen: iommu.c, mapping_order)."""
    mask = dfn | (mfn or 0)
    return max(
        order for order in domain.format.leaf_orders if page_count(order) <= pages and not mask & (1 << order) - 1
    )


async def iommu_map(
    cpu: Cpu, domain: Domain, dfn: Dfn, mfn: Mfn, page_order: int, flags: MapFlags
) -> tuple[int, FlushType]:
    """Map 2^page_order pages, undo it on an error, and report what is left to flush (Xen: iommu.c, iommu_map)."""
    if not domain.has_iommu:
        return OK, FlushType.NONE
    result, flush_type = OK, FlushType.NONE
    done, pages = 0, page_count(page_order)
    while done < pages:
        first, frame = offset(dfn, done), Mfn(mfn + done)
        order = mapping_order(domain, first, frame, pages - done)
        result, this_flush_type = await domain.ops.map_page(cpu, domain, first, frame, flags, order)
        flush_type = max(flush_type, this_flush_type)
        if result != OK:
            _, this_flush_type = await unmap_pages(cpu, domain, dfn, done)
            flush_type = max(flush_type, this_flush_type)
            if not domain.is_hardware_domain:
                domain.crash(cpu)
            break
        done += page_count(order)

    return result, await flush_failed(cpu, domain, pages, result, flush_type)


async def iommu_legacy_map(cpu: Cpu, domain: Domain, dfn: Dfn, mfn: Mfn, page_order: int, flags: MapFlags) -> int:
    """Map 2^page_order pages, and flush once on success (Xen: iommu.c, iommu_legacy_map)."""
    result, flush_type = await iommu_map(cpu, domain, dfn, mfn, page_order, flags)
    if not await cpu.read(iommu_dont_flush_iotlb) and result == OK:
        result = await iommu_iotlb_flush(cpu, domain, dfn, page_count(page_order), flush_type)
    return result


async def unmap_pages(cpu: Cpu, domain: Domain, dfn: Dfn, pages: int) -> tuple[int, FlushType]:
    """Unmap a number of pages; report the first error and what to flush (Xen: iommu.c, in iommu_unmap)."""
    result, flush_type = OK, FlushType.NONE
    done = 0
    while done < pages:
        first = offset(dfn, done)
        order = mapping_order(domain, first, None, pages - done)
        error, this_flush_type = await domain.ops.unmap_page(cpu, domain, first, order)
        flush_type = max(flush_type, this_flush_type)
        done += page_count(order)
        if error == OK:
            continue
        if result == OK:
            result = error
        if not domain.is_hardware_domain:
            domain.crash(cpu)
            break

    return result, flush_type


async def iommu_unmap(cpu: Cpu, domain: Domain, dfn: Dfn, page_order: int) -> tuple[int, FlushType]:
    """Unmap 2^page_order pages; report the first error and what is left to flush (Xen: iommu.c, iommu_unmap)."""
    if not domain.has_iommu:
        return OK, FlushType.NONE
    pages = page_count(page_order)
    result, flush_type = await unmap_pages(cpu, domain, dfn, pages)
    return result, await flush_failed(cpu, domain, pages, result, flush_type)


async def flush_failed(cpu: Cpu, domain: Domain, pages: int, result: int, flush_type: FlushType) -> FlushType:
    """Flush the domain if a call for several pages failed, whatever the flag says; return what is left to flush.

    (Xen: iommu.c, in iommu_map and iommu_unmap)
    """
    if result == OK or pages == 1:
        return flush_type
    error = await iommu_iotlb_flush_all(cpu, domain, flush_type)
    return FlushType.NONE if error == OK else flush_type


async def iommu_legacy_unmap(cpu: Cpu, domain: Domain, dfn: Dfn, page_order: int) -> int:
    """Unmap 2^page_order pages, and flush once on success (Xen: iommu.c, iommu_legacy_unmap)."""
    result, flush_type = await iommu_unmap(cpu, domain, dfn, page_order)
    if not await cpu.read(iommu_dont_flush_iotlb) and result == OK:
        result = await iommu_iotlb_flush(cpu, domain, dfn, page_count(page_order), flush_type)
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
    """Call the driver's hook, which maps what the hardware domain may reach (Xen: iommu.c, iommu_hwdom_init)."""
    if domain.has_iommu:
        await domain.ops.hwdom_init(cpu, domain)
