"""VT-d hooks that store one leaf for an order, and flush a range by one descriptor (Xen: vtd/iommu.c)."""

import attrs

from emu.cpus import Cpu
from emu.hypervisor.domain import Domain
from emu.hypervisor.ops import ENOMEM, INVALID_DFN, OK, FlushType, MapFlags
from emu.hypervisor.vtd import (
    NOT_ISSUED,
    VtdDriver,
    addr_to_dma_page_maddr,
    iommu_flush_cache_entry,
    iommu_flush_iotlb,
    iommu_flush_iotlb_psi,
    iommu_flush_write_buffer,
    leaf_section,
    read_pte,
    write_pte,
)
from emu.units import Dfn, Mfn


@attrs.frozen
class IntelIommuOps:
    """The hooks (Xen: vtd/iommu.c, intel_iommu_ops)."""

    driver: VtdDriver

    async def map_page(
        self, cpu: Cpu, domain: Domain, dfn: Dfn, mfn: Mfn, flags: MapFlags, page_order: int = 0
    ) -> tuple[int, FlushType]:
        """Store a leaf of an order (Xen: vtd/iommu.c, intel_iommu_map_page)."""
        level = domain.format.leaf_level(page_order)
        async with domain.mapping_lock.held(cpu, leaf_section(cpu, domain, dfn, mfn, target=level)):
            address = await addr_to_dma_page_maddr(cpu, self.driver, domain, dfn, alloc=True, target=level)
            if address is None:
                return ENOMEM, FlushType.NONE
            old = await read_pte(cpu, domain, dfn, address, level)
            new = self.driver.leaf(mfn, flags, level)
            if old == new:
                return OK, FlushType.NONE
            await write_pte(cpu, domain, dfn, address, new, level)
            await iommu_flush_cache_entry(cpu, self.driver, address)
        return OK, FlushType.ADDED if domain.format.decode(old, level) is None else FlushType.MODIFIED

    async def unmap_page(self, cpu: Cpu, domain: Domain, dfn: Dfn, page_order: int = 0) -> tuple[int, FlushType]:
        """Clear a leaf of an order (Xen: vtd/iommu.c, dma_pte_clear_one)."""
        level = domain.format.leaf_level(page_order)
        async with domain.mapping_lock.held(cpu, leaf_section(cpu, domain, dfn, target=level)):
            address = await addr_to_dma_page_maddr(cpu, self.driver, domain, dfn, alloc=False, target=level)
            if address is None:
                return OK, FlushType.NONE
            old = await read_pte(cpu, domain, dfn, address, level)
            if domain.format.decode(old, level) is None:
                return OK, FlushType.NONE
            await write_pte(cpu, domain, dfn, address, 0, level)
        await iommu_flush_cache_entry(cpu, self.driver, address)
        return OK, FlushType.MODIFIED

    async def iotlb_flush(self, cpu: Cpu, domain: Domain, dfn: Dfn, page_count: int, flush_type: FlushType) -> int:
        """Flush an aligned range of 2^order pages on every unit of a domain (Xen: vtd/iommu.c, iommu_flush_iotlb)."""
        order, result = page_count.bit_length() - 1, OK
        for iommu in self.driver.iommus:
            if not await self.driver.iommu_bitmap(domain).read() >> iommu.index & 1:
                continue
            did = await iommu.domids.find(domain.number)
            if did is None:
                continue
            non_present = flush_type != FlushType.MODIFIED
            error = await iommu_flush_iotlb_psi(cpu, self.driver, iommu, did, dfn, order, non_present=non_present)
            if error == NOT_ISSUED:
                await iommu_flush_write_buffer(cpu, iommu)
                error = OK
            result = result or error
        return result

    async def iotlb_flush_all(self, cpu: Cpu, domain: Domain) -> int:
        """Flush a domain (Xen: vtd/iommu.c, iommu_flush_iotlb_all)."""
        return await iommu_flush_iotlb(cpu, self.driver, domain, INVALID_DFN, old_present=False, page_count=0)
