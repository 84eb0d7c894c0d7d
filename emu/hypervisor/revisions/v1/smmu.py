"""SMMU hooks of the seed patch (Xen: arm/smmu.c). They report no flush, because the p2m flushes what it changes."""

import attrs

from emu.cpus import Cpu
from emu.hypervisor.domain import Domain
from emu.hypervisor.ops import EINVAL, OK, FlushType, MapFlags, xen_bug_on
from emu.hypervisor.p2m_types import P2mType
from emu.hypervisor.smmu import SmmuDriver, arm_smmu_iotlb_flush_all
from emu.units import Dfn, Mfn

from .p2m import guest_physmap_add_entry, guest_physmap_remove_page


@attrs.frozen
class ArmSmmuOps:
    """The hooks (Xen: arm/smmu.c, arm_smmu_iommu_ops)."""

    driver: SmmuDriver

    async def map_page(self, cpu: Cpu, domain: Domain, dfn: Dfn, mfn: Mfn, flags: MapFlags) -> tuple[int, FlushType]:
        """Map a page of the hardware domain to the frame of its own number (Xen: arm/smmu.c, arm_smmu_map_page)."""
        xen_bug_on(not domain.is_direct_mapped, "!is_domain_direct_mapped(d)")
        xen_bug_on(int(mfn) != int(dfn), "mfn_x(mfn) != dfn_x(dfn)")
        if not flags:
            return EINVAL, FlushType.NONE
        p2m_type = P2mType.IOMMU_MAP_RW if MapFlags.WRITABLE in flags else P2mType.IOMMU_MAP_RO
        return await guest_physmap_add_entry(cpu, domain, dfn, mfn, 0, p2m_type), FlushType.NONE

    async def unmap_page(self, cpu: Cpu, domain: Domain, dfn: Dfn) -> tuple[int, FlushType]:
        """Unmap a page of the hardware domain (Xen: arm/smmu.c, arm_smmu_unmap_page)."""
        if not domain.is_direct_mapped:
            return EINVAL, FlushType.NONE
        return await guest_physmap_remove_page(cpu, domain, dfn, Mfn(dfn), 0), FlushType.NONE

    async def iotlb_flush(self, cpu: Cpu, domain: Domain, dfn: Dfn, page_count: int, flush_type: FlushType) -> int:
        """Flush a domain, whatever range and type are asked for (Xen: arm/smmu.c, arm_smmu_iotlb_flush)."""
        await arm_smmu_iotlb_flush_all(cpu, self.driver, domain)
        return OK

    async def iotlb_flush_all(self, cpu: Cpu, domain: Domain) -> int:
        """Flush a domain (Xen: arm/smmu.c, arm_smmu_iotlb_flush_all)."""
        await arm_smmu_iotlb_flush_all(cpu, self.driver, domain)
        return OK
