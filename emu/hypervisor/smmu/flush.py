"""Flushes of the TLBs of SMMUs (Xen: arm/smmu.c). They go by domain only, and none reports a failure."""

from emu.cpus import Cpu
from emu.hypervisor.commands import AwaitUnit
from emu.hypervisor.domain import Domain
from emu.hypervisor.faults import Fault
from emu.hypervisor.ops import ETIMEDOUT
from emu.hypervisor.records import record_result
from emu.hypervisor.smmu.state import DriverState, SmmuIommu
from emu.iommus.smmu.queue import SYNC, ReadTlbStatus, WriteTlbRegister
from emu.units import Dfn


def vmid_of(bank: int) -> int:
    """Return the VMID under which a context bank is cached (Xen: arm/smmu.c, ARM_SMMU_CB_VMID)."""
    return bank + 1


async def arm_smmu_tlb_sync(cpu: Cpu, driver: DriverState, iommu: SmmuIommu) -> None:
    """Ask for a synchronisation, and poll until no synchronisation is active (Xen: arm/smmu.c, arm_smmu_tlb_sync).

    After a million polls the CPU logs that, and goes on as if it had completed (B63). The hardware still completes what
    it was asked for.
    """
    queue = iommu.unit.queue
    await WriteTlbRegister(queue, SYNC)
    while (latch := await ReadTlbStatus(queue)) is not None:
        if await driver.faults.strike(cpu, Fault.WAIT):
            cpu.note("fault.inject", iommu=queue.unit, result=ETIMEDOUT)
            record_result(cpu, f"iotlb_flush on {queue.unit}", Dfn(0), 0, ETIMEDOUT)
            return
        await AwaitUnit(latch, "flush.done", queue.unit)


async def arm_smmu_tlb_inv_context(cpu: Cpu, driver: DriverState, iommu: SmmuIommu, bank: int) -> None:
    """Invalidate all that is cached through a context bank (Xen: arm/smmu.c, arm_smmu_tlb_inv_context)."""
    await WriteTlbRegister(iommu.unit.queue, vmid_of(bank))
    await arm_smmu_tlb_sync(cpu, driver, iommu)


async def arm_smmu_iotlb_flush_all(cpu: Cpu, driver: DriverState, domain: Domain) -> None:
    """Flush all of a domain, on each unit that it uses (Xen: arm/smmu.c, arm_smmu_iotlb_flush_all)."""
    xen_domain = driver.domains[domain.number]
    async with xen_domain.lock.held(cpu):
        for context in await xen_domain.contexts.read():
            await arm_smmu_tlb_inv_context(cpu, driver, driver.iommus[context.iommu], context.bank)
