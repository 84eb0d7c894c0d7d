"""The p2m of Arm (Xen: arch/arm/p2m.c and arch/arm/mmu/p2m.c), by which CPUs and SMMUs translate.

Not modelled: the references of a block of foreign pages, which are dropped today when the block is replaced.
"""

from emu.cpus import Cpu
from emu.hypervisor.domain import Domain
from emu.hypervisor.ops import EILSEQ, ENOENT, ENOMEM, OK, FlushType
from emu.hypervisor.p2m_types import RAM, P2mType
from emu.hypervisor.smmu import (
    P2mWrite,
    chunk_order,
    find_entry,
    is_lpae_valid,
    p2m_break_superpage,
    p2m_force_tlb_flush_sync,
    p2m_free_entry,
    p2m_get_entry,
    p2m_remove_pte,
    p2m_word,
    p2m_write_lock,
    p2m_write_pte,
    read_pte,
    replaces_frame,
)
from emu.units import Dfn, Mfn, offset, page_count

from .iommu import iommu_iotlb_flush


async def p2m_set_leaf(p2m: P2mWrite, gfn: Dfn, page_order: int, mfn: Mfn | None, p2m_type: P2mType) -> int:
    """Set the entry of one leaf, or clear it (Xen: arch/arm/mmu/p2m.c, __p2m_set_entry).

    For the CPUs an entry is cleared, and their TLBs flushed, before another one takes its place. The SMMUs are flushed
    once, at the end, before what the entry held is freed. An entry that is invalid for hardware is removed by leaving
    it as it is.
    """
    cpu, domain = p2m.cpu, p2m.domain
    target = domain.format.leaf_level(page_order)
    found = await find_entry(p2m, gfn, target, alloc=mfn is not None)
    if found is None:
        return OK if mfn is None else ENOENT
    address, level = found
    if level > target:
        split = await p2m_break_superpage(p2m, gfn, address, level, target)
        if split is None:
            return ENOMEM
        address = split
    original = await read_pte(cpu, domain, gfn, address, target)
    if is_lpae_valid(original):
        await p2m_remove_pte(cpu, domain, gfn, address, target)
        p2m.need_flush = True
    if mfn is not None:
        if is_lpae_valid(original):
            await p2m_force_tlb_flush_sync(p2m)
        await p2m_write_pte(cpu, domain, gfn, address, p2m_word(domain, mfn, p2m_type, target), target)
    result = OK
    if domain.has_iommu and (is_lpae_valid(original) or mfn is not None):
        flush_type = FlushType.MODIFIED if is_lpae_valid(original) else FlushType.ADDED
        result = await iommu_iotlb_flush(cpu, domain, gfn, page_count(page_order), flush_type)
    if replaces_frame(original, mfn):
        await p2m_free_entry(p2m, gfn, original, target)
    return result


async def p2m_set_entry(p2m: P2mWrite, gfn: Dfn, pages: int, mfn: Mfn | None, p2m_type: P2mType) -> int:
    """Set or clear a range, in leaves that are as large as they can be; stop at the first error, and undo nothing.

    The p2m of a dying domain is not changed any more.

    (Xen: arch/arm/mmu/p2m.c, p2m_set_entry)
    """
    if await p2m.domain.is_dying.read():
        return ENOMEM
    done = 0
    while done < pages:
        frame = None if mfn is None else Mfn(mfn + done)
        order = chunk_order(p2m.domain, offset(gfn, done), frame, pages - done)
        result = await p2m_set_leaf(p2m, offset(gfn, done), order, frame, p2m_type)
        if result != OK:
            return result
        done += page_count(order)
    return OK


async def guest_physmap_add_entry(
    cpu: Cpu, domain: Domain, gfn: Dfn, mfn: Mfn, page_order: int, p2m_type: P2mType
) -> int:
    """Map 2^page_order pages (Xen: arch/arm/p2m.c, guest_physmap_add_entry)."""
    async with p2m_write_lock(cpu, domain) as p2m:
        return await p2m_set_entry(p2m, gfn, page_count(page_order), mfn, p2m_type)


async def guest_physmap_remove_page(cpu: Cpu, domain: Domain, gfn: Dfn, mfn: Mfn, page_order: int) -> int:
    """Unmap 2^page_order pages, if what is mapped there are the frames that the caller has found.

    Since 5a4a2cef08 (2022); what is no memory of a guest is unmapped whatever it is.

    (Xen: arch/arm/p2m.c, guest_physmap_remove_page and p2m_remove_mapping)
    """
    done, pages = 0, page_count(page_order)
    async with p2m_write_lock(cpu, domain) as p2m:
        while done < pages:
            p2m_type, frame, order = await p2m_get_entry(p2m, offset(gfn, done))
            if p2m_type in RAM and frame != mfn + done:
                return EILSEQ
            done += page_count(order) - ((gfn + done) & page_count(order) - 1)
        return await p2m_set_entry(p2m, gfn, pages, None, P2mType.INVALID)
