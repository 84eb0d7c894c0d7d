"""AMD-Vi hooks of the seed patch (Xen: amd/iommu_map.c). They never flush; map reports whether a leaf was modified."""

import attrs

from emu.cpus import Cpu
from emu.hypervisor.amd import (
    AmdDriver,
    amd_iommu_flush_all_pages,
    amd_iommu_flush_pages,
    clear_leaf,
    flush_range,
    has_changed,
    iommu_pde_from_dfn,
    leaf_section,
    merge_leaf,
    read_pte,
    store_pde,
    update_paging_mode,
)
from emu.hypervisor.domain import Domain
from emu.hypervisor.ops import EFAULT, OK, FlushType, MapFlags, xen_assert
from emu.iommus.amd.formats import encode_leaf
from emu.units import Dfn, Maddr, Mfn, frame_address, offset


async def set_iommu_pde_present(
    cpu: Cpu, driver: AmdDriver, domain: Domain, dfn: Dfn, address: Maddr, word: int
) -> FlushType:
    """Store a leaf; return the flush that it requires: MODIFIED if one that was present has changed.

    (Xen: amd/iommu_map.c, set_iommu_pde_present)
    """
    old = await read_pte(cpu, domain, dfn, address)
    await store_pde(cpu, driver, domain, dfn, address, word)
    return FlushType.MODIFIED if has_changed(driver, old, word) else FlushType.NONE


async def set_iommu_pte_present(
    cpu: Cpu, driver: AmdDriver, domain: Domain, dfn: Dfn, address: Maddr, mfn: Mfn, flags: MapFlags
) -> FlushType:
    """Map a frame by a leaf, even if it is there already (Xen: amd/iommu_map.c, set_iommu_pte_present)."""
    word = encode_leaf(frame_address(mfn), read=MapFlags.READABLE in flags, write=MapFlags.WRITABLE in flags)
    flush_type = await set_iommu_pde_present(cpu, driver, domain, dfn, address, word)
    await merge_leaf(cpu, driver, domain, dfn, mfn, flags, is_changed=flush_type == FlushType.MODIFIED)
    return flush_type


async def clear_iommu_pte_present(cpu: Cpu, driver: AmdDriver, domain: Domain, dfn: Dfn, address: Maddr) -> None:
    """Clear a leaf (Xen: amd/iommu_map.c, clear_iommu_pte_present)."""
    await clear_leaf(cpu, driver, domain, dfn, address)


@attrs.frozen
class AmdIommuOps:
    """The hooks (Xen: amd/pci_amd_iommu.c, amd_iommu_ops)."""

    driver: AmdDriver

    async def map_page(self, cpu: Cpu, domain: Domain, dfn: Dfn, mfn: Mfn, flags: MapFlags) -> tuple[int, FlushType]:
        """Store a leaf (Xen: amd/iommu_map.c, amd_iommu_map_page)."""
        if domain.uses_hap_pt:
            return OK, FlushType.NONE
        flush_type = FlushType.NONE
        async with domain.mapping_lock.held(cpu, leaf_section(cpu, domain, dfn, mfn)):
            error = await update_paging_mode(cpu, self.driver, domain, dfn)
            address = None if error else await iommu_pde_from_dfn(cpu, self.driver, domain, dfn)
            if address is not None:
                flush_type = await set_iommu_pte_present(cpu, self.driver, domain, dfn, address, mfn, flags)
        if address is None:
            domain.crash(cpu)
            return error or EFAULT, FlushType.NONE
        return OK, flush_type

    async def unmap_page(self, cpu: Cpu, domain: Domain, dfn: Dfn) -> tuple[int, FlushType]:
        """Clear a leaf, whatever it is (Xen: amd/iommu_map.c, amd_iommu_unmap_page)."""
        if domain.uses_hap_pt:
            return OK, FlushType.NONE
        async with domain.mapping_lock.held(cpu, leaf_section(cpu, domain, dfn)):
            error = await update_paging_mode(cpu, self.driver, domain, dfn)
            address = None if error else await iommu_pde_from_dfn(cpu, self.driver, domain, dfn)
            if address is not None:
                await clear_iommu_pte_present(cpu, self.driver, domain, dfn, address)
        if address is None:
            domain.crash(cpu)
            return error or EFAULT, FlushType.NONE
        return OK, FlushType.NONE

    async def iotlb_flush(self, cpu: Cpu, domain: Domain, dfn: Dfn, page_count: int, flush_type: FlushType) -> int:
        """Flush a range (Xen: amd/iommu_map.c, amd_iommu_flush_iotlb_pages)."""
        if flush_type == FlushType.NONE:
            return OK
        xen_assert(self.driver.debug_build, flush_type == FlushType.MODIFIED, "flush_type == IOMMU_FLUSHTYPE_MODIFIED")
        await amd_iommu_flush_pages(cpu, self.driver, domain, dfn, flush_range(domain, dfn, page_count))
        return OK

    async def iotlb_flush_all(self, cpu: Cpu, domain: Domain) -> int:
        """Flush a domain (Xen: amd/iommu_map.c, amd_iommu_flush_iotlb_all)."""
        await amd_iommu_flush_all_pages(cpu, self.driver, domain)
        return OK


async def amd_iommu_reserve_domain_unity_map(
    cpu: Cpu, domain: Domain, dfn: Dfn, page_count: int, flags: MapFlags
) -> int:
    """Map pages that a device's firmware uses to frames of the same numbers; return the first error.

    (Xen: amd/iommu_map.c, amd_iommu_reserve_domain_unity_map)
    """
    result, flush_type = OK, FlushType.NONE
    for i in range(page_count):
        result, this_flush_type = await domain.ops.map_page(cpu, domain, offset(dfn, i), Mfn(dfn + i), flags)
        if result != OK:
            break
        flush_type = max(flush_type, this_flush_type)
    await domain.ops.iotlb_flush(cpu, domain, dfn, page_count, flush_type)
    return result
