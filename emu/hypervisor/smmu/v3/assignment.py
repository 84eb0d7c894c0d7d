"""Attaching, detaching and moving devices (Xen: arm/smmu-v3.c).

Not modelled: the lock of a domain's list of devices, and that which guards the making of a context; both are taken
within the domain's own.
"""

from emu.cpus import Cpu
from emu.devices.device import Device
from emu.hypervisor.assignment import FindDevice, HandOver
from emu.hypervisor.domain import Domain
from emu.hypervisor.ops import ENODEV, ENOSPC, OK
from emu.hypervisor.smmu.state import Context, context_on, with_devices
from emu.hypervisor.smmu.v3.state import VMIDS, DriverState, Smmuv3Iommu
from emu.hypervisor.smmu.v3.stream_entries import enter_abort, enter_tables


async def arm_smmu_domain_finalise_s2(driver: DriverState, domain: Domain, iommu: Smmuv3Iommu) -> int | None:
    """Return the VMID of a domain on a unit: a new one, the lowest that is free, if it has none; None if none is free.

    Nothing is invalidated: what the TLB holds under it stays (Xen: arm/smmu-v3.c, arm_smmu_domain_finalise_s2).
    """
    xen_domain = driver.domains[domain.number]
    contexts = await xen_domain.contexts.read()
    context = context_on(contexts, iommu.index)
    if context is None:
        vmid = await iommu.vmid_map.take(VMIDS)
        if vmid is None:
            return None
        context = Context(iommu.index, vmid, 0)
    await xen_domain.contexts.write(with_devices(contexts, context, 1))
    return context.bank


async def arm_smmu_attach_dev(cpu: Cpu, driver: DriverState, domain: Domain, device: Device) -> int:
    """Let a domain's tables translate for a device (Xen: arm/smmu-v3.c, arm_smmu_assign_dev, arm_smmu_attach_dev).

    A device that is attached already is taken off its tables first, and its requests are aborted until the end.

    Returns:
        0; or -ENOSPC if no VMID is free.
    """
    async with driver.domains[domain.number].lock.held(cpu):
        left = driver.attached.pop(device.bdf, None)
        if left is not None:
            await enter_abort(cpu, driver, left, device)
        vmid = await arm_smmu_domain_finalise_s2(driver, domain, driver.iommu_of(device))
        if vmid is None:
            return ENOSPC
        await enter_tables(cpu, driver, domain, device, vmid)
        driver.attached[device.bdf] = domain
    await HandOver(device, domain.number)
    return OK


async def arm_smmu_detach_dev(cpu: Cpu, driver: DriverState, domain: Domain, device: Device) -> int:
    """Let a device's requests be aborted (Xen: arm/smmu-v3.c, arm_smmu_deassign_dev and arm_smmu_detach_dev).

    No translation is invalidated, also where the device was the domain's last behind its unit, and the VMID is freed.

    Returns:
        0; or -ENODEV if the domain does not have the device.
    """
    if not await FindDevice(domain, [device]):
        return ENODEV
    async with driver.domains[domain.number].lock.held(cpu):
        await enter_abort(cpu, driver, domain, device)
        driver.attached.pop(device.bdf, None)
        await arm_smmu_domain_free(driver, domain, driver.iommu_of(device))
    await HandOver(device, None)
    return OK


async def arm_smmu_domain_free(driver: DriverState, domain: Domain, iommu: Smmuv3Iommu) -> None:
    """Let a domain use a unit for one device less, and free its VMID there if that was the last.

    (Xen: arm/smmu-v3.c, arm_smmu_destroy_iommu_domain and arm_smmu_domain_free)
    """
    xen_domain = driver.domains[domain.number]
    contexts = await xen_domain.contexts.read()
    context = context_on(contexts, iommu.index)
    if context is not None:
        await xen_domain.contexts.write(with_devices(contexts, context, -1))
    if context is not None and context.devices == 1:
        await iommu.vmid_map.clear(context.bank)


async def arm_smmu_reassign_dev(cpu: Cpu, driver: DriverState, source: Domain, target: Domain, device: Device) -> int:
    """Move a device from one domain to another (Xen: arm/smmu-v3.c, arm_smmu_reassign_dev)."""
    result = await arm_smmu_detach_dev(cpu, driver, source, device)
    return result or await arm_smmu_attach_dev(cpu, driver, target, device)
