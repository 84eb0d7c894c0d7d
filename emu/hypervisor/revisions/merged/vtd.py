"""VT-d hooks as merged (Xen: vtd/iommu.c). They change entries and never flush; each reports what to flush."""

import attrs

from emu.cpus import Cpu
from emu.hypervisor.domain import Domain
from emu.hypervisor.ops import ENOMEM, INVALID_DFN, OK, FlushType, MapFlags
from emu.hypervisor.vtd import (
    VtdDriver,
    addr_to_dma_page_maddr,
    iommu_flush_cache_entry,
    iommu_flush_iotlb,
    leaf_section,
    read_pte,
    write_pte,
)
from emu.iommus.vtd.formats import decode_pte, encode_leaf
from emu.units import Dfn, Mfn, frame_address


async def dma_pte_clear_one(cpu: Cpu, driver: VtdDriver, domain: Domain, dfn: Dfn) -> tuple[int, FlushType]:
    """Clear a leaf, and report whether it was present (Xen: vtd/iommu.c, dma_pte_clear_one).

    Its line is written back after the unlock (D21).
    """
    async with domain.mapping_lock.held(cpu, leaf_section(cpu, domain, dfn)):
        address = await addr_to_dma_page_maddr(cpu, driver, domain, dfn, alloc=False)
        if address is None:
            return OK, FlushType.NONE
        old = await read_pte(cpu, domain, dfn, address)
        if decode_pte(old, 1) is None:
            return OK, FlushType.NONE
        await write_pte(cpu, domain, dfn, address, 0)
    await iommu_flush_cache_entry(cpu, driver, address)
    return OK, FlushType.MODIFIED


@attrs.frozen
class IntelIommuOps:
    """The hooks (Xen: vtd/iommu.c, intel_iommu_ops)."""

    driver: VtdDriver

    async def map_page(self, cpu: Cpu, domain: Domain, dfn: Dfn, mfn: Mfn, flags: MapFlags) -> tuple[int, FlushType]:
        """Store a leaf (Xen: vtd/iommu.c, intel_iommu_map_page)."""
        if domain.uses_hap_pt or domain.is_passthrough:
            return OK, FlushType.NONE
        async with domain.mapping_lock.held(cpu, leaf_section(cpu, domain, dfn, mfn)):
            address = await addr_to_dma_page_maddr(cpu, self.driver, domain, dfn, alloc=True)
            if address is None:
                return ENOMEM, FlushType.NONE
            old = await read_pte(cpu, domain, dfn, address)
            new = encode_leaf(
                frame_address(mfn),
                read=MapFlags.READABLE in flags,
                write=MapFlags.WRITABLE in flags,
                snoop=self.driver.snoop_control,
            )
            if old == new:
                return OK, FlushType.NONE
            await write_pte(cpu, domain, dfn, address, new)
            await iommu_flush_cache_entry(cpu, self.driver, address)
        return OK, FlushType.ADDED if decode_pte(old, 1) is None else FlushType.MODIFIED

    async def unmap_page(self, cpu: Cpu, domain: Domain, dfn: Dfn) -> tuple[int, FlushType]:
        """Clear a leaf (Xen: vtd/iommu.c, intel_iommu_unmap_page)."""
        if domain.uses_hap_pt or domain.is_passthrough:
            return OK, FlushType.NONE
        return await dma_pte_clear_one(cpu, self.driver, domain, dfn)

    async def iotlb_flush(self, cpu: Cpu, domain: Domain, dfn: Dfn, page_count: int, flush_type: FlushType) -> int:
        """Flush a range (Xen: vtd/iommu.c, iommu_flush_iotlb_pages)."""
        old_present = flush_type == FlushType.MODIFIED
        return await iommu_flush_iotlb(cpu, self.driver, domain, dfn, old_present=old_present, page_count=page_count)

    async def iotlb_flush_all(self, cpu: Cpu, domain: Domain) -> int:
        """Flush a domain (Xen: vtd/iommu.c, iommu_flush_iotlb_all)."""
        return await iommu_flush_iotlb(cpu, self.driver, domain, INVALID_DFN, old_present=False, page_count=0)
