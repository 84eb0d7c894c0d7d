"""SMMUv3 hooks of today (Xen: arm/smmu-v3.c and arm/iommu_helpers.c). The p2m flushes what it changes."""

import attrs

from emu.cpus import Cpu
from emu.hypervisor.domain import Domain
from emu.hypervisor.ops import EINVAL, OK, FlushType, MapFlags
from emu.hypervisor.p2m_types import P2mType
from emu.hypervisor.smmu.v3 import Smmuv3Driver, arm_smmu_iotlb_flush_all
from emu.units import Dfn, Mfn

from .p2m import guest_physmap_add_entry, guest_physmap_remove_page


@attrs.frozen
class ArmSmmuV3Ops:
    """The hooks (Xen: arm/smmu-v3.c, arm_smmu_iommu_ops)."""

    driver: Smmuv3Driver

    async def map_page(
        self, cpu: Cpu, domain: Domain, dfn: Dfn, mfn: Mfn, flags: MapFlags, page_order: int = 0
    ) -> tuple[int, FlushType]:
        """Map 2^page_order pages (Xen: arm/iommu_helpers.c, arm_iommu_map_page)."""
        if not flags:
            return EINVAL, FlushType.NONE
        p2m_type = P2mType.IOMMU_MAP_RW if MapFlags.WRITABLE in flags else P2mType.IOMMU_MAP_RO
        return await guest_physmap_add_entry(cpu, domain, dfn, mfn, page_order, p2m_type), FlushType.NONE

    async def unmap_page(self, cpu: Cpu, domain: Domain, dfn: Dfn, page_order: int = 0) -> tuple[int, FlushType]:
        """Unmap 2^page_order pages of a direct-mapped domain (Xen: arm/iommu_helpers.c, arm_iommu_unmap_page)."""
        if not domain.is_direct_mapped:
            return EINVAL, FlushType.NONE
        return await guest_physmap_remove_page(cpu, domain, dfn, Mfn(dfn), page_order), FlushType.NONE

    async def iotlb_flush(self, cpu: Cpu, domain: Domain, dfn: Dfn, page_count: int, flush_type: FlushType) -> int:
        """Flush a domain, whatever range and type are asked for (Xen: arm/smmu-v3.c, arm_smmu_iotlb_flush)."""
        await arm_smmu_iotlb_flush_all(cpu, self.driver, domain)
        return OK

    async def iotlb_flush_all(self, cpu: Cpu, domain: Domain) -> int:
        """Flush a domain (Xen: arm/smmu-v3.c, arm_smmu_iotlb_flush_all)."""
        await arm_smmu_iotlb_flush_all(cpu, self.driver, domain)
        return OK
