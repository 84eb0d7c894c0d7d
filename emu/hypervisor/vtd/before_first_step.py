"""The state before the first step: root and context entries, domain ids, cached translations. Takes no step."""

from emu.devices.device import Device
from emu.hypervisor.domain import Domain
from emu.hypervisor.vtd.assignment import context_entry
from emu.hypervisor.vtd.state import DriverState
from emu.iommus.formats import Translation
from emu.iommus.iotlb import IotlbEntry
from emu.iommus.paths import Tables
from emu.iommus.requests import TableRead
from emu.iommus.vtd.contexts import root_entry_address
from emu.iommus.vtd.formats import ContextEntry, decode_root_entry, encode_context_entry, encode_root_entry
from emu.iommus.vtd.unit import VtdUnit
from emu.memory import WORD_MASK
from emu.units import WORD_BYTES, Dfn, Maddr, frame_address


def context_table(unit: VtdUnit, source_id: int) -> Maddr:
    """Return the context table of a device's bus; make it if there is none (Xen: vtd/iommu.c, bus_to_context_maddr)."""
    root_entry = root_entry_address(unit.contexts.root_table, source_id)
    table = decode_root_entry(unit.memory.peek(root_entry))
    if table is None:
        table = frame_address(unit.memory.allocate_table())
        unit.memory.put(root_entry, encode_root_entry(table))
    return table


def enter_context(driver: DriverState, domain: Domain, device: Device) -> None:
    """Point a device's context entry at a domain's tables (Xen: vtd/iommu.c, domain_context_mapping_one)."""
    iommu = driver.iommu_of(device)
    did, memory = iommu.domids.put(domain.number), iommu.unit.memory
    context = encode_context_entry(ContextEntry(did, domain.pgd, domain.levels))
    address = context_entry(driver, device)
    memory.put(address, context & WORD_MASK)
    memory.put(address + WORD_BYTES, context >> 64)
    driver.iommu_bitmap(domain).put(iommu.index)


def context_words(driver: DriverState, device: Device) -> tuple[TableRead, ...]:
    """Return the words of the root and context tables that a walk for a device reads."""
    unit = driver.iommu_of(device).unit
    root_entry, entry = root_entry_address(unit.contexts.root_table, device.source_id), context_entry(driver, device)
    level = unit.format.device_level
    words = (root_entry, entry, entry + WORD_BYTES)
    return tuple(TableRead(level, unit.format.orders[level], word, 0, is_leaf=False) for word in words)


def cache_leaf(
    driver: DriverState, domain: Domain, device: Device, dfn: Dfn, leaf: int, reads: tuple[TableRead, ...]
) -> None:
    """Cache a leaf in the IOTLB of a device's unit, as if the device had used the page by a walk with these reads."""
    iommu, entry = driver.iommu_of(device), domain.format.decode(leaf, reads[-1].level)
    if entry is None:
        return
    translation = Translation(leaf, entry.order, entry.read, entry.write, entry.address)
    found = (*context_words(driver, device), *reads)
    did = iommu.domids.put(domain.number)
    iommu.unit.iotlb.insert(IotlbEntry(device.source_id, did, dfn, translation, found))
    if iommu.unit.walk_cache is not None:
        tables = Tables(did, domain.pgd, domain.levels)
        iommu.unit.walk_cache.insert_walk(device.source_id, tables, dfn, found)
