"""Finding, making and freeing the tables of a p2m (Xen: arch/arm/p2m.c). The caller holds the write lock."""

from emu.hypervisor.charging import charge_read
from emu.hypervisor.domain import Domain
from emu.hypervisor.entries import load_pte
from emu.hypervisor.faults import Fault
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import ENOMEM
from emu.hypervisor.p2m_types import P2mType
from emu.hypervisor.smmu.entries import (
    is_lpae_valid,
    is_p2m_valid,
    is_table,
    next_table,
    p2m_write_pte,
    table_word,
    type_of,
)
from emu.hypervisor.smmu.p2m_lock import P2mWrite, p2m_tlb_flush_sync
from emu.hypervisor.tables import AllocateTable, TakeTable
from emu.units import WORD_BYTES, Dfn, Maddr, Mfn, address_frame, frame_address


async def find_entry(p2m: P2mWrite, gfn: Dfn, target: int, *, alloc: bool) -> tuple[Maddr, int] | None:
    """Return the address and the level of the entry of a gfn: of the target level, or of a block above it.

    (Xen: arch/arm/p2m.c, p2m_next_level and in __p2m_set_entry)

    Args:
        target: the level wanted.
        alloc: make tables that are missing.

    Returns:
        The address and the level; None if a table is missing and was not made.
    """
    cpu, domain = p2m.cpu, p2m.domain
    table, level = domain.pgd, domain.levels
    while level > target:
        address = domain.format.entry_address(table, gfn, level)
        word = await load_pte(cpu, domain, gfn, address, level)
        if is_p2m_valid(word) and not is_table(word, level):
            return address, level
        if is_p2m_valid(word):
            table = next_table(word)
        elif alloc:
            made = await p2m_create_table(p2m, gfn, address, level)
            if made is None:
                return None
            table = made
        else:
            charge_read(cpu, domain, gfn, target, address, 0)
            return None
        level -= 1
    return domain.format.entry_address(table, gfn, target), target


async def p2m_get_entry(p2m: P2mWrite, gfn: Dfn) -> tuple[P2mType, Mfn | None, int]:
    """Return the type of a page, its frame, and the order of its leaf.

    (Xen: arch/arm/p2m.c, p2m_get_entry)

    The frame is None where the page is not mapped.
    """
    cpu, domain = p2m.cpu, p2m.domain
    table, level = domain.pgd, domain.levels
    while True:
        word = await load_pte(cpu, domain, gfn, domain.format.entry_address(table, gfn, level), level)
        if not is_p2m_valid(word):
            return P2mType.INVALID, None, domain.format.orders[level]
        if not is_table(word, level):
            break
        table, level = next_table(word), level - 1
    first = address_frame(next_table(word))
    return type_of(word), Mfn(first + (gfn & domain.format.span(level) - 1)), domain.format.orders[level]


async def allocate_table(p2m: P2mWrite, gfn: Dfn) -> Maddr | None:
    """Return an empty table; None if there is no memory (Xen: arch/arm/p2m.c, in p2m_create_table)."""
    if await p2m.domain.ops.faults.strike(p2m.cpu, Fault.ALLOCATION):
        p2m.cpu.note("fault.inject", dfn=gfn, result=ENOMEM)
        return None
    return frame_address(await AllocateTable(p2m.domain, gfn))


async def p2m_create_table(p2m: P2mWrite, gfn: Dfn, address: Maddr, level: int) -> Maddr | None:
    """Make a table and enter it; None if there is no memory (Xen: arch/arm/p2m.c, p2m_create_table)."""
    table = await allocate_table(p2m, gfn)
    if table is not None:
        await p2m_write_pte(p2m.cpu, p2m.domain, gfn, address, table_word(table), level)
    return table


async def p2m_free_entry(p2m: P2mWrite, gfn: Dfn, word: int, level: int) -> None:
    """Free what an entry held that was replaced: the reference of a foreign page, or a table and all below it.

    (Xen: arch/arm/p2m.c, p2m_free_entry)

    A block holds nothing, nor does a page of the domain's own: its reference is the caller's.
    """
    cpu, domain = p2m.cpu, p2m.domain
    if not is_p2m_valid(word):
        return
    if not is_table(word, level):
        if level == 1 and type_of(word).is_foreign:
            await domain.frames.put(cpu, address_frame(next_table(word)))
        return
    table, below = next_table(word), level - 1
    first = domain.format.base(gfn, level)
    for index in range(1 << domain.format.index_bits[below - 1]):
        page = Dfn(first + index * domain.format.span(below))
        entry = await load_pte(cpu, domain, page, Maddr(table + WORD_BYTES * index), below)
        await p2m_free_entry(p2m, page, entry, below)
    await p2m_tlb_flush_sync(p2m)
    if await TakeTable(domain, address_frame(table)):
        await domain.frames.put(cpu, address_frame(table))


def replaces_frame(word: int, mfn: Mfn | None) -> bool:
    """Whether an entry that Xen knows of is replaced by one with another address, or cleared.

    (Xen: arch/arm/p2m.c, in __p2m_set_entry)

    Args:
        mfn: the frame of the new entry; None if the entry is removed.
    """
    if mfn is None:
        return is_p2m_valid(word) and is_lpae_valid(word)
    return is_p2m_valid(word) and next_table(word) != frame_address(mfn)


def need_iommu_flush(domain: Domain) -> bool:
    """Whether the p2m flushes the SMMUs of a domain.

    Since 91d4eca7ad Xen asked here whether the IOMMU has tables of its own that must be kept in step, which it never
    has on Arm (B30). Since 9ed527dc95 it asks whether the domain has an IOMMU.
    """
    return domain.has_iommu if Fix.HAS_IOMMU in domain.ops.fixes else domain.need_sync


def chunk_order(domain: Domain, gfn: Dfn, mfn: Mfn | None, pages: int) -> int:
    """Return the order of the largest leaf with which a range may begin (Xen: arch/arm/p2m.c, in p2m_set_entry)."""
    mask = gfn | (mfn or 0) | pages
    fitting = (order for order in reversed(domain.format.leaf_orders) if not mask & (1 << order) - 1)
    return next(fitting)
