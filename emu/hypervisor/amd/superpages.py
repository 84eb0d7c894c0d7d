"""Splitting a superpage into smaller leaves, and merging leaves into one (Xen: amd/iommu_map.c).

No code of 2018 makes superpages for AMD-Vi: until 5c08550ff4 (2018) leaves were merged, and since 4b7c48b4ba (2022)
they are mapped so. A superpage that stands there before the first step is split by the first map or unmap below it.
"""

from collections.abc import Sequence

from emu.cpus import Cpu
from emu.hypervisor.amd.flush import amd_iommu_flush_all_pages
from emu.hypervisor.amd.state import DriverState
from emu.hypervisor.domain import Domain
from emu.hypervisor.entries import load_pte, write_pte, write_pte_halves
from emu.hypervisor.faults import Fault
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import ENOMEM, READ_WRITE, MapFlags
from emu.hypervisor.tables import AllocateTable, TakeTable
from emu.iommus.amd.formats import encode_table
from emu.iommus.formats import Entry
from emu.iommus.requests import TableRead
from emu.memory import Memory
from emu.units import PAGE_SHIFT, WORD_BYTES, Dfn, Maddr, Mfn, address_frame, frame_address

COUNT = 0xFF << 1 | 1 << 63
"""Bits of an entry that hardware ignores: bits 8:1 and 63. The merging code counts the leaves below in them."""


async def store_pde(
    cpu: Cpu, driver: DriverState, domain: Domain, dfn: Dfn, address: Maddr, word: int, level: int = 1
) -> None:
    """Store an entry (Xen: amd/iommu_map.c, in set_iommu_pde_present, which a revision has for leaves).

    Until 3b055121c5 it is stored in two halves of 32 bits, the high half first. So where an entry becomes present, its
    present bit is stored last; where one present entry replaces another, walks find a mixture between the two stores.
    """
    store = write_pte if Fix.XSA_347 in driver.fixes else write_pte_halves
    await store(cpu, domain, dfn, address, word, level)


async def iommu_split(
    cpu: Cpu, driver: DriverState, domain: Domain, dfn: Dfn, level: int, address: Maddr, entry: Entry
) -> Maddr | None:
    """Replace a superpage by a table of smaller leaves; return the table (Xen: amd/iommu_map.c, in iommu_pde_from_dfn).

    Until 2a758376f9 the table is entered while it is empty, and filled afterwards. Its leaves permit reads and writes,
    whatever the superpage permitted. None if there is no memory for the table.
    """
    if await driver.faults.strike(cpu, Fault.ALLOCATION):
        cpu.note("fault.inject", dfn=dfn, result=ENOMEM)
        return None
    table = frame_address(await AllocateTable(domain, dfn))
    word, fills_first = encode_table(table, level - 1), Fix.FILL_FIRST in driver.fixes
    if fills_first:
        await fill(cpu, driver, domain, dfn, level, table, entry)
        await write_pte(cpu, domain, dfn, address, word, level)
    else:
        await store_pde(cpu, driver, domain, dfn, address, word, level)
        await fill(cpu, driver, domain, dfn, level, table, entry)
    await amd_iommu_flush_all_pages(cpu, driver, domain)
    return table


async def fill(cpu: Cpu, driver: DriverState, domain: Domain, dfn: Dfn, level: int, table: Maddr, entry: Entry) -> None:
    """Fill a table with the leaves that a superpage of a level consists of."""
    format_ = domain.format
    first, order = format_.base(dfn, level), format_.orders[level - 1]
    for index in range(1 << format_.index_bits[level - 2]):
        frame = Maddr(entry.address + (index << order + PAGE_SHIFT))
        leaf = format_.encode_leaf(frame, read=True, write=True, level=level - 1)
        page = Dfn(first + (index << order))
        await store_pde(cpu, driver, domain, page, Maddr(table + WORD_BYTES * index), leaf, level - 1)


async def iommu_merge_pages(cpu: Cpu, driver: DriverState, domain: Domain, dfn: Dfn, mfn: Mfn, flags: MapFlags) -> None:
    """Merge a table of leaves that follow one another into one superpage (Xen: amd/iommu_map.c, iommu_merge_pages).

    Each store of a leaf that fits is counted in the entry above. When all are counted, the leaf takes the place of the
    table, whatever was unmapped meanwhile: so any unmap or changed leaf ends the merging for the domain (937ef32565).
    """
    if domain.number in driver.no_merge or flags != READ_WRITE:
        return
    for level in range(2, 1 + min(domain.levels, domain.format.leaf_levels[-1])):
        address = await entry_at(cpu, domain, dfn, level)
        word = await load_pte(cpu, domain, dfn, address, level)
        entry = domain.format.decode(word, level)
        if entry is None or entry.is_leaf or not await is_complete(cpu, domain, dfn, mfn, level, address, word, entry):
            return
        leaf = domain.format.encode_leaf(first_frame(domain, dfn, mfn, level), read=True, write=True, level=level)
        frees_first = Fix.FREE_AFTER_MERGE not in driver.fixes
        if frees_first:
            await free_table(cpu, domain, entry.address)
        await store_pde(cpu, driver, domain, dfn, address, leaf, level)
        await amd_iommu_flush_all_pages(cpu, driver, domain)
        if not frees_first:
            await free_table(cpu, domain, entry.address)


def first_frame(domain: Domain, dfn: Dfn, mfn: Mfn, level: int) -> Maddr:
    """Return the first frame of the block to which a page belongs, if its frames follow one another."""
    return frame_address(Mfn(mfn - (dfn - domain.format.base(dfn, level))))


async def entry_at(cpu: Cpu, domain: Domain, dfn: Dfn, target: int) -> Maddr:
    """Return the address of a dfn's entry of a level; the tables that lead to it are there."""
    table, level = domain.pgd, domain.levels
    while level > target:
        address = domain.format.entry_address(table, dfn, level)
        entry = domain.format.decode(await load_pte(cpu, domain, dfn, address, level), level)
        if entry is not None:
            table = entry.address
        level -= 1
    return domain.format.entry_address(table, dfn, target)


async def is_complete(
    cpu: Cpu, domain: Domain, dfn: Dfn, mfn: Mfn, level: int, address: Maddr, word: int, entry: Entry
) -> bool:
    """Count a store below an entry; return whether all were counted (Xen: amd/iommu_map.c, iommu_update_pde_count)."""
    below = await load_pte(cpu, domain, dfn, entry.address, level - 1)
    counted = count_store(domain, dfn, mfn, level, word, below)
    if counted is None:
        return True
    await write_pte(cpu, domain, dfn, address, counted, level)
    return False


def count_store(domain: Domain, dfn: Dfn, mfn: Mfn, level: int, word: int, below: int) -> int | None:
    """Return an entry of a level with one more store counted, or none if it does not fit; None if all were counted.

    Args:
        below: the first word of the table to which the entry leads.
    """
    format_ = domain.format
    found = format_.decode(below, level - 1)
    first, block = first_frame(domain, dfn, mfn, level), 1 << format_.orders[level] + PAGE_SHIFT
    count = (word >> 1 & 0xFF) | word >> 63 << 8
    fits = found is not None and found.address == first and first % block == 0
    if fits and count == (1 << format_.index_bits[level - 2]) - 1:
        return None
    count = count + 1 if fits else 0
    return word & ~COUNT | (count & 0xFF) << 1 | count >> 8 << 63


def count_before_first_step(memory: Memory, domain: Domain, dfn: Dfn, mfn: Mfn, reads: Sequence[TableRead]) -> None:
    """Count a leaf that is mapped before the first step, as the call that mapped it would have."""
    if len(reads) > 1:
        entry, leaf = reads[-2:]
        table = frame_address(address_frame(Maddr(leaf.address)))
        counted = count_store(domain, dfn, mfn, entry.level, memory.peek(entry.address), memory.peek(table))
        if counted is not None:
            memory.put(entry.address, counted)


async def free_table(cpu: Cpu, domain: Domain, table: Maddr) -> None:
    """Free a table that no entry leads to, or soon none will (Xen: amd/iommu_map.c, in iommu_merge_pages)."""
    if await TakeTable(domain, address_frame(table)):
        await domain.frames.put(cpu, address_frame(table))
