"""AMD-Vi hooks of the seed patch (Xen: amd/iommu_map.c). They never flush; map reports whether a leaf was modified."""

import attrs

from emu.cpus import Cpu
from emu.hypervisor.amd import (
    AmdDriver,
    amd_iommu_flush_all_pages,
    amd_iommu_flush_pages,
    clear_iommu_pte_present,
    flush_range,
    iommu_pde_from_dfn,
    leaf_section,
    set_iommu_pte_present,
    update_paging_mode,
)
from emu.hypervisor.domain import Domain
from emu.hypervisor.ops import EFAULT, OK, FlushType, MapFlags, xen_assert
from emu.units import Dfn, Mfn


@attrs.frozen
class AmdIommuOps:
    """The hooks (Xen: amd/pci_amd_iommu.c, amd_iommu_ops)."""

    driver: AmdDriver

    async def map_page(self, cpu: Cpu, domain: Domain, dfn: Dfn, mfn: Mfn, flags: MapFlags) -> tuple[int, FlushType]:
        """Store a leaf (Xen: amd/iommu_map.c, amd_iommu_map_page)."""
        is_changed = False
        async with domain.mapping_lock.held(cpu, leaf_section(cpu, domain, dfn, mfn)):
            error = await update_paging_mode(cpu, self.driver, domain, dfn)
            address = None if error else await iommu_pde_from_dfn(cpu, self.driver, domain, dfn)
            if address is not None:
                is_changed = await set_iommu_pte_present(cpu, self.driver, domain, dfn, address, mfn, flags)
        if address is None:
            domain.crash(cpu)
            return error or EFAULT, FlushType.NONE
        return OK, FlushType.MODIFIED if is_changed else FlushType.NONE

    async def unmap_page(self, cpu: Cpu, domain: Domain, dfn: Dfn) -> tuple[int, FlushType]:
        """Clear a leaf, whatever it is (Xen: amd/iommu_map.c, amd_iommu_unmap_page)."""
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
