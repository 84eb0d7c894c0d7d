"""A domain's p2m before the first step, whatever SMMU walks it. Takes no step."""

from emu.cpus.tlb import CpuTlb
from emu.hypervisor.domain import Domain
from emu.hypervisor.entries import enter_leaf
from emu.hypervisor.ops import MapFlags
from emu.hypervisor.p2m_types import P2mType
from emu.hypervisor.smmu.entries import next_table, p2m_word, table_word
from emu.iommus.requests import TableRead
from emu.iommus.smmu.formats import VALID, root_tables
from emu.memory import Memory
from emu.units import Dfn, Mfn, frame_address


def p2m_init(domain: Domain, ipa_bits: int) -> None:
    """Give a domain its p2m, of tables that follow one another at the top (Xen: arch/arm/p2m.c, p2m_alloc_table).

    Translation tables of CPUs and SMMUs are the same, so there is nothing to keep in step with another table.
    """
    domain.levels = domain.most_levels = domain.format.depths[0]
    span, count = 1 << domain.format.orders[domain.levels + 1], root_tables(ipa_bits)
    first, *_ = [domain.frames.add_table(domain, Dfn(span // count * number)) for number in range(count)]
    domain.enter_root(frame_address(first))
    domain.cpu_tlb, domain.tracked_bit = CpuTlb(domain.number), VALID


def enter_page(
    memory: Memory, domain: Domain, dfn: Dfn, mfn: Mfn, flags: MapFlags, page_order: int
) -> tuple[int, tuple[TableRead, ...]]:
    """Map 2^page_order pages by one leaf; return the leaf, and the reads of a walk to it.

    A frame that belongs to another domain is entered as a foreign page.
    """
    level, kinds = domain.format.leaf_level(page_order), (P2mType.RAM_RO, P2mType.RAM_RW)
    if domain.frames.enter_foreign(mfn, domain):
        kinds = (P2mType.MAP_FOREIGN_RO, P2mType.MAP_FOREIGN_RW)
    leaf = p2m_word(domain, mfn, kinds[MapFlags.WRITABLE in flags], level)
    *above, _ = reads = enter_leaf(memory, domain, dfn, leaf, level)
    for read in above:
        memory.put(read.address, table_word(next_table(memory.peek(read.address))))
    return leaf, reads
