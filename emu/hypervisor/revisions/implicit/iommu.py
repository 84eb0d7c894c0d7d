"""The wrappers before the seed patch (Xen: iommu.c). They flush nothing: the hooks have flushed already."""

from emu.cpus import Cpu
from emu.hypervisor.domain import Domain
from emu.hypervisor.ops import OK, FlushType, MapFlags
from emu.units import Dfn, Mfn, offset, page_count


async def iommu_map(cpu: Cpu, domain: Domain, dfn: Dfn, mfn: Mfn, page_order: int, flags: MapFlags) -> int:
    """Map 2^page_order pages; on an error unmap those that were mapped (Xen: iommu.c, iommu_map)."""
    result = OK
    for i in range(page_count(page_order)):
        result, _ = await domain.ops.map_page(cpu, domain, offset(dfn, i), Mfn(mfn + i), flags)
        if result == OK:
            continue
        for mapped in reversed(range(i)):
            await domain.ops.unmap_page(cpu, domain, offset(dfn, mapped))
        if not domain.is_hardware_domain:
            domain.crash(cpu)
        break

    return result


async def iommu_unmap(cpu: Cpu, domain: Domain, dfn: Dfn, page_order: int) -> int:
    """Unmap 2^page_order pages; return the first error (Xen: iommu.c, iommu_unmap)."""
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

    return result


async def iommu_iotlb_flush(cpu: Cpu, domain: Domain, dfn: Dfn, page_count: int) -> int:
    """Flush a range (Xen: iommu.c, iommu_iotlb_flush)."""
    result = await domain.ops.iotlb_flush(cpu, domain, dfn, page_count, FlushType.NONE)
    if result != OK and not domain.is_hardware_domain:
        domain.crash(cpu)
    return result


async def iommu_iotlb_flush_all(cpu: Cpu, domain: Domain) -> int:
    """Flush a domain (Xen: iommu.c, iommu_iotlb_flush_all)."""
    result = await domain.ops.iotlb_flush_all(cpu, domain)
    if result != OK and not domain.is_hardware_domain:
        domain.crash(cpu)
    return result
