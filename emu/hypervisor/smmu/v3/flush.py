"""Flushes of the TLBs of SMMUs (Xen: arm/smmu-v3.c). They go by domain only, and none reports a failure."""

from emu.cpus import Cpu
from emu.hypervisor.domain import Domain
from emu.hypervisor.smmu.v3.queue import arm_smmu_cmdq_issue_cmd, arm_smmu_cmdq_issue_sync
from emu.hypervisor.smmu.v3.state import DriverState, Smmuv3Iommu
from emu.iommus.smmu.v3.formats import InvalidateVmid


async def arm_smmu_tlb_inv_context(cpu: Cpu, driver: DriverState, iommu: Smmuv3Iommu, vmid: int) -> None:
    """Invalidate all that is cached under a VMID, and wait; a wait that was given up passes for completed.

    (Xen: arm/smmu-v3.c, arm_smmu_tlb_inv_context)
    """
    await arm_smmu_cmdq_issue_cmd(cpu, driver, iommu, InvalidateVmid(vmid))
    await arm_smmu_cmdq_issue_sync(cpu, driver, iommu)


async def arm_smmu_iotlb_flush_all(cpu: Cpu, driver: DriverState, domain: Domain) -> None:
    """Flush all of a domain, on each unit that it uses (Xen: arm/smmu-v3.c, arm_smmu_iotlb_flush_all).

    A domain without devices has no context left, so nothing is flushed for it.
    """
    xen_domain = driver.domains[domain.number]
    async with xen_domain.lock.held(cpu):
        for context in await xen_domain.contexts.read():
            await arm_smmu_tlb_inv_context(cpu, driver, driver.iommus[context.iommu], context.bank)
