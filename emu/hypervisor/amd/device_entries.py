"""Storing a device's table entry (Xen: amd/iommu_map.c, amd_iommu_set_root_page_table)."""

from collections.abc import Mapping

from emu.cpus import Cpu
from emu.devices.device import Device
from emu.hypervisor.amd.state import DriverState
from emu.iommus.amd.formats import DeviceTableEntry, encode_device_entry
from emu.memory import HALF_BYTES, HALF_MASK
from emu.units import WORD_BYTES, Maddr


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


async def store_dwords(cpu: Cpu, driver: DriverState, device: Device, dwords: Mapping[int, int]) -> None:
    """Store 32-bit words of a device's entry, each given by its number, in the order given."""
    entry = address_of(driver, device)
    for number, value in dwords.items():
        await cpu.store32(entry + HALF_BYTES * number, value, "device_entry.write", bdf=device.bdf, dword=number)


async def store_words(cpu: Cpu, driver: DriverState, device: Device, words: tuple[int, int], *, whole: bool) -> None:
    """Store the two words that translation depends on: in one step, or the one with the root first."""
    entry = address_of(driver, device)
    if whole:
        await cpu.store128(entry, words[0] | words[1] << 64, "device_entry.write", bdf=device.bdf)
        return
    for number, value in enumerate(words):
        await cpu.store64(entry + WORD_BYTES * number, value, "device_entry.write", bdf=device.bdf)
