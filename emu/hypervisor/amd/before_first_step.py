"""The state before the first step: device table entries, cached translations. Takes no step."""

from emu.devices.device import Device
from emu.hypervisor.amd.device_entries import entry_of
from emu.hypervisor.amd.state import DriverState
from emu.hypervisor.domain import Domain
from emu.iommus.amd.formats import encode_device_entry
from emu.iommus.formats import Translation
from emu.iommus.iotlb import IotlbEntry
from emu.iommus.paths import Tables
from emu.iommus.requests import TableRead
from emu.units import Dfn


def enter_device(driver: DriverState, domain: Domain, device: Device) -> None:
    """Point a device's entry at a domain's tables (Xen: amd/pci_amd_iommu.c, amd_iommu_setup_domain_device)."""
    unit = driver.iommu_of(device).unit
    words = unit.device_table.words(device.source_id)
    for address, value in zip(
        words, encode_device_entry(entry_of(domain.number, domain.pgd, domain.levels)), strict=True
    ):
        unit.memory.put(address, value)


def device_words(driver: DriverState, device: Device) -> tuple[TableRead, ...]:
    """Return the words of a device's entry, as a walk for the device reads them."""
    unit = driver.iommu_of(device).unit
    level, words = unit.format.device_level, unit.device_table.words(device.source_id)
    return tuple(TableRead(level, unit.format.orders[level], word, 0, is_leaf=False) for word in words)


def cache_leaf(
    driver: DriverState, domain: Domain, device: Device, dfn: Dfn, leaf: int, reads: tuple[TableRead, ...]
) -> None:
    """Cache a leaf in the IOTLB of a device's unit, as if the device had used the page by a walk with these reads."""
    unit, entry = driver.iommu_of(device).unit, domain.format.decode(leaf, reads[-1].level)
    if entry is None:
        return
    translation = Translation(leaf, entry.order, entry.read, entry.write, entry.address)
    found = (*device_words(driver, device), *reads)
    unit.iotlb.insert(IotlbEntry(domain.number, domain.number, dfn, translation, found))
    if unit.walk_cache is not None:
        tables = Tables(domain.number, domain.pgd, domain.levels)
        unit.walk_cache.insert_walk(domain.number, tables, dfn, found)
