"""Splitting a block of a p2m (Xen: arch/arm/p2m.c, p2m_split_superpage)."""

from emu.hypervisor.entries import StoreEntry, load_pte, read_pte
from emu.hypervisor.smmu.entries import (
    clean,
    is_lpae_valid,
    next_table,
    p2m_remove_pte,
    p2m_word,
    p2m_write_pte,
    table_word,
    type_of,
)
from emu.hypervisor.smmu.p2m_lock import P2mWrite, p2m_force_tlb_flush_sync
from emu.hypervisor.smmu.tables import allocate_table
from emu.iommus.smmu.formats import VALID
from emu.memory import LINE_BYTES
from emu.units import WORD_BYTES, Dfn, Maddr, Mfn, address_frame


async def p2m_break_superpage(p2m: P2mWrite, gfn: Dfn, address: Maddr, level: int, target: int) -> Maddr | None:
    """Put a table with the leaves of a block in its place, so that a gfn has an entry of the target level.

    For the CPUs the block is cleared, and their TLBs flushed, before the table takes its place. The SMMUs are not
    flushed between (Xen: arch/arm/p2m.c, in __p2m_set_entry).

    Returns:
        The address of the gfn's entry; None if there is no memory.
    """
    cpu, domain = p2m.cpu, p2m.domain
    word = await read_pte(cpu, domain, gfn, address, level)
    split = await p2m_split_superpage(p2m, gfn, word, level, target)
    if split is None:
        return None
    await p2m_remove_pte(cpu, domain, gfn, address, level)
    await p2m_force_tlb_flush_sync(p2m)
    await p2m_write_pte(cpu, domain, gfn, address, split, level)
    table = next_table(split)
    while level - 1 > target:
        level -= 1
        table = next_table(await load_pte(cpu, domain, gfn, domain.format.entry_address(table, gfn, level), level))
    return domain.format.entry_address(table, gfn, target)


async def p2m_split_superpage(p2m: P2mWrite, gfn: Dfn, word: int, level: int, target: int) -> int | None:
    """Return the word that leads to a table with the leaves of a block; the block itself stays as it is.

    If the leaves are still above the target, the one of the gfn is split first. The table is written back once, when it
    is complete.

    Returns:
        The word of the table; None if there is no memory.
    """
    cpu, domain, format_ = p2m.cpu, p2m.domain, p2m.domain.format
    table = await allocate_table(p2m, gfn)
    if table is None:
        return None
    below, first = level - 1, format_.base(gfn, level)
    entries = 1 << format_.index_bits[below - 1]
    for index in range(entries):
        step = index * format_.span(below)
        leaf = p2m_word(domain, Mfn(address_frame(next_table(word)) + step), type_of(word), below)
        leaf = leaf if is_lpae_valid(word) else leaf & ~VALID
        page = Dfn(first + step)
        if below > target and page == format_.base(gfn, below):
            split = await p2m_split_superpage(p2m, gfn, leaf, below, target)
            if split is None:
                return None
            leaf = split
        await StoreEntry(cpu, domain, page, below, Maddr(table + WORD_BYTES * index), leaf)
    for line in range(table, table + WORD_BYTES * entries, LINE_BYTES):
        await clean(cpu, Maddr(line))
    return table_word(table)
