"""Wrappers that map and unmap by the largest leaves that fit, as Xen has done since 2022 (Xen: iommu.c)."""

from collections.abc import Iterator

from emu.cpus import Cpu
from emu.hypervisor.domain import Domain
from emu.hypervisor.ops import OK, FlushType, MapFlags, iommu_dont_flush_iotlb
from emu.hypervisor.revisions.merged.iommu import iommu_iotlb_flush as flush
from emu.units import Dfn, Mfn, offset, page_count


def blocks(domain: Domain, page_order: int) -> Iterator[tuple[int, int]]:
    """Yield the first page and the order of each leaf of a range; all leaves are of the largest size that fits."""
    order = max(one for one in domain.format.leaf_orders if one <= page_order)
    return ((first, order) for first in range(0, page_count(page_order), page_count(order)))


async def iommu_map(cpu: Cpu, domain: Domain, dfn: Dfn, mfn: Mfn, page_order: int, flags: MapFlags) -> int:
    """Map 2^page_order pages and flush once; on an error unmap those that were mapped (Xen: iommu.c, iommu_map)."""
    result, flush_type = OK, FlushType.NONE
    for i, order in blocks(domain, page_order):
        result, this_flush_type = await domain.ops.map_page(
            cpu, domain, offset(dfn, i), Mfn(mfn + i), flags, page_order=order
        )
        flush_type = max(flush_type, this_flush_type)
        if result == OK:
            continue
        for mapped in reversed(range(0, i, page_count(order))):
            _, this_flush_type = await domain.ops.unmap_page(cpu, domain, offset(dfn, mapped), page_order=order)
            flush_type = max(flush_type, this_flush_type)
        break
    return await flush_unless_deferred(cpu, domain, dfn, page_order, result, flush_type)


async def iommu_unmap(cpu: Cpu, domain: Domain, dfn: Dfn, page_order: int) -> int:
    """Unmap 2^page_order pages and flush once (Xen: iommu.c, iommu_unmap)."""
    result, flush_type = OK, FlushType.NONE
    for i, order in blocks(domain, page_order):
        error, this_flush_type = await domain.ops.unmap_page(cpu, domain, offset(dfn, i), page_order=order)
        flush_type = max(flush_type, this_flush_type)
        result = result or error
    return await flush_unless_deferred(cpu, domain, dfn, page_order, result, flush_type)


async def flush_unless_deferred(
    cpu: Cpu, domain: Domain, dfn: Dfn, page_order: int, result: int, flush_type: FlushType
) -> int:
    """Flush what was changed, unless the caller does; return the first error."""
    if await cpu.read(iommu_dont_flush_iotlb):
        return result
    error = await flush(cpu, domain, dfn, page_count(page_order), flush_type)
    return result or error


async def iommu_iotlb_flush(cpu: Cpu, domain: Domain, dfn: Dfn, page_count: int) -> int:
    """Flush a range (Xen: iommu.c, iommu_iotlb_flush)."""
    return await flush(cpu, domain, dfn, page_count, FlushType.MODIFIED)


async def iommu_iotlb_flush_all(cpu: Cpu, domain: Domain) -> int:
    """Flush a domain (Xen: iommu.c, iommu_iotlb_flush_all)."""
    return await domain.ops.iotlb_flush_all(cpu, domain)
