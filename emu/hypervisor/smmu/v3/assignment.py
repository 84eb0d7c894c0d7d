"""Attaching, detaching and moving devices (Xen: arm/smmu-v3.c).

Not modelled: the lock of a domain's list of devices, and that which guards the making of a context; both are taken
within the domain's own.
"""

from emu.cpus import Cpu
from emu.devices.device import Device
from emu.hypervisor.assignment import FindDevice, HandOver
from emu.hypervisor.bitmaps import first_free
from emu.hypervisor.domain import Domain
from emu.hypervisor.ops import ENODEV, ENOSPC, OK
from emu.hypervisor.smmu.v3.state import VMIDS, DriverState, Smmuv3Iommu
from emu.hypervisor.smmu.v3.stream_entries import enter_abort, enter_tables


async def arm_smmu_domain_finalise_s2(driver: DriverState, domain: Domain, iommu: Smmuv3Iommu) -> int | None:
    """Return the VMID of a domain on a unit: a new one, the lowest that is free, if it has none; None if none is free.

    Nothing is invalidated: what the TLB holds under it stays (Xen: arm/smmu-v3.c, arm_smmu_domain_finalise_s2).
    """
    xen_domain = driver.domains[domain.number]
    contexts = dict(await xen_domain.contexts.read())
    if iommu.index not in contexts:
        vmid = first_free(await iommu.vmid_map.read(), VMIDS)
        if vmid is None:
            return None
        await iommu.vmid_map.set(vmid)
        contexts[iommu.index] = vmid
        await xen_domain.contexts.write(tuple(contexts.items()))
    return contexts[iommu.index]


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
        others = [other for other in driver.devices.values() if other.unit is device.unit and other is not device]
        if not await FindDevice(domain, others):
            await arm_smmu_domain_free(driver, domain, driver.iommu_of(device))
    await HandOver(device, None)
    return OK


async def arm_smmu_domain_free(driver: DriverState, domain: Domain, iommu: Smmuv3Iommu) -> None:
    """Free a domain's VMID on a unit (Xen: arm/smmu-v3.c, arm_smmu_destroy_iommu_domain and arm_smmu_domain_free)."""
    xen_domain = driver.domains[domain.number]
    contexts = dict(await xen_domain.contexts.read())
    vmid = contexts.pop(iommu.index)
    await xen_domain.contexts.write(tuple(contexts.items()))
    await iommu.vmid_map.clear(vmid)


async def arm_smmu_reassign_dev(cpu: Cpu, driver: DriverState, source: Domain, target: Domain, device: Device) -> int:
    """Move a device from one domain to another (Xen: arm/smmu-v3.c, arm_smmu_reassign_dev)."""
    result = await arm_smmu_detach_dev(cpu, driver, source, device)
    return result or await arm_smmu_attach_dev(cpu, driver, target, device)
