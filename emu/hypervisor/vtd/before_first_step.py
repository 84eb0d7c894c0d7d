"""What stands before the first step: device assignments and page tables, written at once and without any step."""

from collections.abc import Iterable

from emu.devices.device import Device
from emu.hypervisor.domain import Domain
from emu.hypervisor.ops import MapFlags
from emu.hypervisor.vtd.driver import VtdDriver
from emu.iommus.formats import Translation, entry_address
from emu.iommus.iotlb import IotlbEntry
from emu.iommus.requests import CONTEXT_LEVEL, TableRead
from emu.iommus.vtd.contexts import context_entry_address, root_entry_address
from emu.iommus.vtd.formats import (
    ContextEntry,
    decode_pte,
    decode_root_entry,
    encode_context_entry,
    encode_leaf,
    encode_root_entry,
    encode_table,
)
from emu.memory import WORD_MASK, Memory
from emu.units import WORD_BYTES, Dfn, Maddr, Mfn, address_frame, frame_address


def make_context_table(device: Device) -> Maddr:
    """Return the context table of a device's bus; make it if there is none."""
    memory = device.unit.memory
    root_entry = root_entry_address(device.unit.contexts.root_table, device.source_id)
    table = decode_root_entry(memory.peek(root_entry))
    if table is None:
        table = frame_address(memory.allocate_table())
        memory.put(root_entry, encode_root_entry(table))
    return table


def assign(device: Device, domain: Domain, driver: VtdDriver) -> None:
    """Point a device's context entry at a domain's tables, under the domain's id on its unit."""
    iommu, memory = driver.iommu_of(device), device.unit.memory
    did = iommu.domids.put(domain.number)
    context = encode_context_entry(ContextEntry(did, domain.pgd, domain.levels))
    address = context_entry_address(make_context_table(device), device.source_id)
    memory.put(address, context & WORD_MASK)
    memory.put(address + WORD_BYTES, context >> 64)
    domain.iommu_bitmap.put(iommu.index)
    device.driven_by = domain.number


def enter_leaf(memory: Memory, domain: Domain, dfn: Dfn, leaf: int) -> tuple[TableRead, ...]:
    """Enter a 4 KiB leaf, with the tables that lead to it; return what a walk to it reads."""
    path: list[TableRead] = []
    table = domain.pgd
    for level in range(domain.levels, 1, -1):
        address = entry_address(table, dfn, level)
        path.append(TableRead(level, address, 0, is_leaf=False))
        entry = decode_pte(memory.peek(address), level)
        if entry is None:
            table = frame_address(domain.pages.add_table(domain, dfn))
            memory.put(address, encode_table(table))
        else:
            table = entry.address
    address = entry_address(table, dfn, 1)
    memory.put(address, leaf)
    entered = decode_pte(leaf, 1)
    if entered is not None:
        domain.note_leaf(dfn, address_frame(entered.address))
    return (*path, TableRead(1, address, 0, is_leaf=True))


def context_reads(device: Device) -> tuple[TableRead, ...]:
    """Return what a walk for a device reads of the root and the context tables."""
    root_entry = root_entry_address(device.unit.contexts.root_table, device.source_id)
    entry = context_entry_address(make_context_table(device), device.source_id)
    words = (root_entry, entry, entry + WORD_BYTES)
    return tuple(TableRead(CONTEXT_LEVEL, word, 0, is_leaf=False) for word in words)


def premap(
    memory: Memory, driver: VtdDriver, domain: Domain, dfn: Dfn, mfn: Mfn, flags: MapFlags, users: Iterable[Device]
) -> None:
    """Map one page, and let some devices of the domain have used it already."""
    read, write = MapFlags.READABLE in flags, MapFlags.WRITABLE in flags
    leaf = encode_leaf(frame_address(mfn), read=read, write=write, snoop=driver.snoop_control)
    reads = enter_leaf(memory, domain, dfn, leaf)
    for device in users:
        did = driver.iommu_of(device).domids.put(domain.number)
        translation, found = Translation(leaf, 1, read, write), (*context_reads(device), *reads)
        device.unit.iotlb.insert(IotlbEntry(device.source_id, did, dfn, mfn, translation, found))
