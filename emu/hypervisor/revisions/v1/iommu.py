"""The wrappers of the seed patch (Xen: iommu.c). They flush once, after the loop."""

from emu.cpus import Cpu
from emu.hypervisor.domain import Domain
from emu.hypervisor.ops import OK, FlushType, MapFlags, iommu_dont_flush_iotlb
from emu.units import Dfn, Mfn, offset, page_count


async def iommu_map(cpu: Cpu, domain: Domain, dfn: Dfn, mfn: Mfn, page_order: int, flags: MapFlags) -> int:
    """Map 2^page_order pages and flush once; on an error unmap those that were mapped (Xen: iommu.c, iommu_map)."""
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

    if not await cpu.read(iommu_dont_flush_iotlb):
        result = await domain.ops.iotlb_flush(cpu, domain, dfn, page_count(page_order), flush_type)
    return result


async def iommu_unmap(cpu: Cpu, domain: Domain, dfn: Dfn, page_order: int) -> int:
    """Unmap 2^page_order pages and flush once, even after an error (Xen: iommu.c, iommu_unmap)."""
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

    result = await domain.ops.iotlb_flush(cpu, domain, dfn, page_count(page_order), FlushType.MODIFIED)
    return result  # noqa: RET504 - the error before it is lost, as in the patch


async def iommu_iotlb_flush(cpu: Cpu, domain: Domain, dfn: Dfn, page_count: int) -> int:
    """Flush a range, as if its entries had been modified (Xen: iommu.c, iommu_iotlb_flush)."""
    result = await domain.ops.iotlb_flush(cpu, domain, dfn, page_count, FlushType.MODIFIED)
    if result != OK and not domain.is_hardware_domain:
        domain.crash(cpu)
    return result


async def iommu_iotlb_flush_all(cpu: Cpu, domain: Domain) -> int:
    """Flush a domain (Xen: iommu.c, iommu_iotlb_flush_all)."""
    result = await domain.ops.iotlb_flush_all(cpu, domain)
    if result != OK and not domain.is_hardware_domain:
        domain.crash(cpu)
    return result
