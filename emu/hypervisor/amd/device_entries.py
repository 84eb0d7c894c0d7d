"""Storing a device's table entry (Xen: amd/iommu_map.c, amd_iommu_set_root_page_table)."""

from collections.abc import Mapping

from emu.cpus import Cpu
from emu.devices.device import Device
from emu.hypervisor.amd.state import DriverState
from emu.hypervisor.device_entry import StoreDeviceEntry
from emu.hypervisor.domain import Domain
from emu.iommus.amd.formats import DeviceTableEntry, encode_device_entry
from emu.memory import HALF_BYTES, HALF_MASK
from emu.units import WORD_BYTES, Maddr

EVENT = "device_entry.write"


def entry_of(domain_id: int, root: Maddr, levels: int) -> DeviceTableEntry:
    """Return the entry of a domain's device: its tables and, as the tag on every unit, its number."""
    return DeviceTableEntry(mode=levels, root=root, domain_id=domain_id)


def address_of(driver: DriverState, device: Device) -> Maddr:
    """Return the address of a device's entry."""
    return driver.iommu_of(device).unit.device_table.address(device.source_id)


def dwords_of(entry: DeviceTableEntry) -> dict[int, int]:
    """Return the 32-bit words of an entry in the order in which Xen stores them: the one with V and TV comes last."""
    first, second, *_ = encode_device_entry(entry)
    return {2: second & HALF_MASK, 1: first >> 32, 0: first & HALF_MASK}


async def store_dwords(
    cpu: Cpu, driver: DriverState, device: Device, dwords: Mapping[int, int], domain: Domain | None
) -> None:
    """Store 32-bit words of a device's entry, each given by its number, in the order given.

    Args:
        domain: the domain to whose tables the entry may lead after each store; None if to none.
    """
    entry = address_of(driver, device)
    for number, value in dwords.items():
        place, details = entry + HALF_BYTES * number, {"bdf": device.bdf, "dword": number}
        await StoreDeviceEntry(cpu, place, value, 32, EVENT, domain=domain, **details)


async def store_words(
    cpu: Cpu, driver: DriverState, device: Device, words: tuple[int, int], domain: Domain, *, whole: bool
) -> None:
    """Store the two words that lead to a domain's tables: in one step, or the one with the root first."""
    entry = address_of(driver, device)
    if whole:
        await StoreDeviceEntry(cpu, entry, words[0] | words[1] << 64, 128, EVENT, domain=domain, bdf=device.bdf)
        return
    for number, value in enumerate(words):
        await StoreDeviceEntry(cpu, entry + WORD_BYTES * number, value, 64, EVENT, domain=domain, bdf=device.bdf)
