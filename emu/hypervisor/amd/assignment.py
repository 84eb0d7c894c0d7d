"""Device table entries of devices (Xen: amd/pci_amd_iommu.c and amd/iommu_map.c)."""

from emu.cpus import Cpu
from emu.devices.device import Device
from emu.hypervisor.amd.flush import amd_iommu_flush_device
from emu.hypervisor.amd.state import DriverState
from emu.hypervisor.assignment import FindDevice, HandOver
from emu.hypervisor.domain import Domain
from emu.hypervisor.ops import ENODEV, OK
from emu.iommus.amd.formats import TRANSLATION_VALID, VALID, DeviceTableEntry, encode_device_entry
from emu.memory import HALF_BYTES, HALF_MASK
from emu.units import Maddr

TRANSLATES = VALID | TRANSLATION_VALID


async def store_dwords(cpu: Cpu, device: Device, entry: Maddr, dwords: dict[int, int]) -> None:
    """Store 32-bit words of a device's entry, each given by its number, in the order given."""
    for number, value in dwords.items():
        await cpu.store32(entry + HALF_BYTES * number, value, "device_entry.write", bdf=device.bdf, dword=number)


def dwords_of(entry: DeviceTableEntry) -> dict[int, int]:
    """Return the 32-bit words of an entry in the order in which Xen stores them: the one with V and TV comes last.

    (Xen: amd/iommu_map.c, amd_iommu_set_root_page_table)
    """
    first, second, *_ = encode_device_entry(entry)
    return {2: second & HALF_MASK, 1: first >> 32, 0: first & HALF_MASK}


async def amd_iommu_setup_domain_device(cpu: Cpu, driver: DriverState, domain: Domain, device: Device) -> int:
    """Point a device's entry at a domain's tables (Xen: amd/pci_amd_iommu.c, amd_iommu_setup_domain_device).

    Nothing is written or flushed if the entry translates already, for whatever domain.
    """
    iommu = driver.iommu_of(device)
    address = iommu.unit.device_table.address(device.source_id)
    async with iommu.lock.held(cpu):
        if await cpu.load64(address, "device_entry.read", bdf=device.bdf) & TRANSLATES != TRANSLATES:
            await store_dwords(cpu, device, address, dwords_of(entry_for(domain)))
            await amd_iommu_flush_device(cpu, driver, iommu, device)
    await HandOver(device, domain.number)
    return OK


def entry_for(domain: Domain) -> DeviceTableEntry:
    """Return the entry of a domain's device: its tables and, as the tag on every unit, its number."""
    return DeviceTableEntry(mode=domain.levels, root=domain.pgd, domain_id=domain.number)


async def amd_iommu_disable_domain_device(cpu: Cpu, driver: DriverState, domain: Domain, device: Device) -> int:
    """Take a device's entry out of use (Xen: amd/pci_amd_iommu.c, amd_iommu_disable_domain_device).

    V and TV are cleared in one store, and nothing else: the unit then lets the device's requests through untranslated.
    No page is flushed.

    Returns:
        0; or -ENODEV if the domain does not have the device.
    """
    if not await FindDevice(domain, [device]):
        return ENODEV
    iommu = driver.iommu_of(device)
    address = iommu.unit.device_table.address(device.source_id)
    async with iommu.lock.held(cpu):
        old = await cpu.load64(address, "device_entry.read", bdf=device.bdf)
        if old & TRANSLATES == TRANSLATES:
            await store_dwords(cpu, device, address, {0: old & HALF_MASK & ~TRANSLATES})
            await amd_iommu_flush_device(cpu, driver, iommu, device)
    await HandOver(device, None)
    return OK


async def reassign_device(cpu: Cpu, driver: DriverState, source: Domain, target: Domain, device: Device) -> int:
    """Move a device from one domain to another (Xen: amd/pci_amd_iommu.c, reassign_device)."""
    result = await amd_iommu_disable_domain_device(cpu, driver, source, device)
    return result or await amd_iommu_setup_domain_device(cpu, driver, target, device)
