"""Entries that are invalid for hardware and valid for Xen, which uses them to see what a guest touches.

A guest that flushes its caches by set and way makes Xen clear the valid bits of all entries at the top of its p2m. Each
fault that follows makes one entry valid again, and clears the valid bits in the table to which it leads: so they move
a level down with each fault. The SMMU faults meanwhile. Since 2b45ff6030 (2021) Xen does not do this for a domain whose
devices are behind an SMMU.

Sources: Xen: arch/arm/p2m.c, p2m_invalidate_root and p2m_resolve_translation_fault; 2148a125b7 (2018).
"""

from emu.cpus import Cpu
from emu.hypervisor.domain import Domain
from emu.hypervisor.entries import load_pte
from emu.hypervisor.smmu.entries import clean, is_lpae_valid, is_table, next_table
from emu.hypervisor.smmu.p2m_lock import P2mWrite, p2m_write_lock
from emu.iommus.smmu.formats import VALID
from emu.units import WORD_BYTES, Dfn, Maddr, offset


async def store_valid_bit(cpu: Cpu, domain: Domain, gfn: Dfn, address: Maddr, word: int, level: int) -> None:
    """Store an entry of which only the valid bit has changed.

    No call is charged with it: the mapping stays as Xen knows it.
    """
    await cpu.store64(address, word, "pte.track", domain=domain.number, dfn=gfn, table_level=level)
    await clean(cpu, address)


async def p2m_invalidate_table(p2m: P2mWrite, first: Dfn, table: Maddr, level: int) -> None:
    """Clear the valid bits in a table, which begins with a gfn (Xen: arch/arm/p2m.c, p2m_invalidate_table).

    The CPUs' TLBs are flushed before the lock is dropped.
    """
    cpu, domain = p2m.cpu, p2m.domain
    p2m.need_flush = True
    for index in range(1 << domain.format.index_bits[level - 1]):
        gfn, address = offset(first, index * domain.format.span(level)), Maddr(table + WORD_BYTES * index)
        word = await load_pte(cpu, domain, gfn, address, level)
        if is_lpae_valid(word):
            await store_valid_bit(cpu, domain, gfn, address, word & ~VALID, level)


async def p2m_invalidate_root(cpu: Cpu, domain: Domain) -> None:
    """Clear the valid bits at the top (Xen: arch/arm/p2m.c, p2m_invalidate_root)."""
    async with p2m_write_lock(cpu, domain) as p2m:
        await p2m_invalidate_table(p2m, Dfn(0), domain.pgd, domain.levels)


async def p2m_resolve_translation_fault(cpu: Cpu, domain: Domain, gfn: Dfn) -> bool:
    """Make the first entry on a gfn's way valid again that is not; return whether one was made so.

    (Xen: arch/arm/p2m.c, p2m_resolve_translation_fault)
    """
    async with p2m_write_lock(cpu, domain) as p2m:
        table, level = domain.pgd, domain.levels
        while level:
            address = domain.format.entry_address(table, gfn, level)
            word = await load_pte(cpu, domain, gfn, address, level)
            if not word:
                return False
            if not is_lpae_valid(word):
                if is_table(word, level):
                    await p2m_invalidate_table(p2m, domain.format.base(gfn, level), next_table(word), level - 1)
                await store_valid_bit(cpu, domain, gfn, address, word | VALID, level)
                return True
            if not is_table(word, level):
                return False
            table, level = next_table(word), level - 1
        return False
