"""Device table entries of devices (Xen: amd/pci_amd_iommu.c).

Until 1fa6e9aa36 a device is moved from one domain to another by taking its entry out of use and entering it anew.
Since then the new entry replaces the old one while the device may use it.
"""

from emu.cpus import Cpu
from emu.devices.device import Device
from emu.hypervisor.amd.device_entries import address_of, dwords_of, entry_of, store_dwords, store_words
from emu.hypervisor.amd.flush import amd_iommu_flush_device, amd_iommu_flush_unit
from emu.hypervisor.amd.paging import Field, ReadField
from emu.hypervisor.amd.state import DriverState
from emu.hypervisor.assignment import FindDevice, HandOver
from emu.hypervisor.domain import Domain
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import ENODEV, OK
from emu.iommus.amd.formats import (
    DOMAIN_ID_MASK,
    TRANSLATION_VALID,
    VALID,
    DeviceTableEntry,
    encode_device_entry,
)
from emu.memory import HALF_MASK
from emu.units import WORD_BYTES, Maddr

TRANSLATES = VALID | TRANSLATION_VALID


async def entry_for(domain: Domain) -> DeviceTableEntry:
    """Return the entry of a domain's device; its two fields are read without a lock."""
    mode = await ReadField(domain, Field.MODE)
    return entry_of(domain.number, Maddr(await ReadField(domain, Field.ROOT)), mode)


async def translates(cpu: Cpu, driver: DriverState, device: Device) -> bool:
    """Return whether a device's entry translates its requests, for whatever domain."""
    word = await cpu.load64(address_of(driver, device), "device_entry.read", bdf=device.bdf)
    return word & TRANSLATES == TRANSLATES


async def amd_iommu_setup_domain_device(cpu: Cpu, driver: DriverState, domain: Domain, device: Device) -> int:
    """Point a device's entry at a domain's tables (Xen: amd/pci_amd_iommu.c, amd_iommu_setup_domain_device).

    Nothing is written or flushed if the entry translates already, for whatever domain.
    """
    iommu = driver.iommu_of(device)
    entry = await entry_for(domain)
    async with iommu.lock.held(cpu):
        if not await translates(cpu, driver, device):
            await store_dwords(cpu, driver, device, dwords_of(entry), domain)
            await amd_iommu_flush_device(cpu, driver, iommu, device)
    await HandOver(device, domain.number)
    return OK


async def amd_iommu_disable_domain_device(cpu: Cpu, driver: DriverState, domain: Domain, device: Device) -> int:
    """Take a device's entry out of use (Xen: amd/pci_amd_iommu.c, amd_iommu_disable_domain_device).

    V and TV are cleared in one store, and nothing else: the unit then lets the device's requests through untranslated.
    Since 1b00c16bdf V stays set, and the unit aborts them. No page is flushed.

    Returns:
        0; or -ENODEV if the domain does not have the device.
    """
    if not await FindDevice(domain, [device]):
        return ENODEV
    iommu = driver.iommu_of(device)
    async with iommu.lock.held(cpu):
        word = await cpu.load64(address_of(driver, device), "device_entry.read", bdf=device.bdf)
        if word & TRANSLATES == TRANSLATES:
            cleared = TRANSLATION_VALID if Fix.ABORT in driver.fixes else TRANSLATES
            await store_dwords(cpu, driver, device, {0: word & HALF_MASK & ~cleared}, None)
            await amd_iommu_flush_device(cpu, driver, iommu, device)
    await HandOver(device, None)
    return OK


async def reassign_device(cpu: Cpu, driver: DriverState, source: Domain, target: Domain, device: Device) -> int:
    """Move a device from one domain to another (Xen: amd/pci_amd_iommu.c, reassign_device)."""
    if Fix.LIVE_ENTRY in driver.fixes:
        return await replace_entry(cpu, driver, source, target, device)
    result = await amd_iommu_disable_domain_device(cpu, driver, source, device)
    return result or await amd_iommu_setup_domain_device(cpu, driver, target, device)


async def replace_entry(cpu: Cpu, driver: DriverState, source: Domain, target: Domain, device: Device) -> int:
    """Replace a device's entry while the device may use it (Xen: amd/iommu_map.c, amd_iommu_set_root_page_table).

    Until 3fc44151d8 on CPUs without cmpxchg16b these are two stores, the root first, so that walks may find the new
    tables with the old domain id. What is cached under the old id is flushed at the end, on the device's unit.

    Returns:
        0; or -ENODEV if the domain does not have the device.
    """
    if not await FindDevice(source, [device]):
        return ENODEV
    iommu = driver.iommu_of(device)
    first, second, *_ = encode_device_entry(await entry_for(target))
    async with iommu.lock.held(cpu):
        old = await cpu.load64(address_of(driver, device) + WORD_BYTES, "device_entry.read", bdf=device.bdf)
        await store_words(cpu, driver, device, (first, second), target, whole=Fix.WHOLE_ENTRY in driver.fixes)
        await amd_iommu_flush_device(cpu, driver, iommu, device)
        await amd_iommu_flush_unit(cpu, driver, iommu, old & DOMAIN_ID_MASK)
    await HandOver(device, target.number)
    return OK
