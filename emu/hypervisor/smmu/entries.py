"""Entries of a p2m: their words, and storing them (Xen: arch/arm/p2m.c; asm-arm/lpae.h, lpae_p2m_t).

The page type stands in bits that hardware ignores. So an entry may be valid for Xen (it has a type) and invalid for
hardware (bit 0 is clear).
"""

from emu.cpus import Cpu
from emu.hypervisor.domain import Domain
from emu.hypervisor.entries import StoreEntry
from emu.hypervisor.ops import MapFlags
from emu.hypervisor.p2m_types import P2mType
from emu.iommus.smmu.formats import ADDRESS, EXECUTE_NEVER, IGNORED_BITS, IGNORED_SHIFT, TABLE, VALID, encode_table
from emu.memory import WriteBack
from emu.units import Dfn, Maddr, Mfn, frame_address


def p2m_word(domain: Domain, mfn: Mfn, p2m_type: P2mType, level: int = 1) -> int:
    """Return the word of a page or a block (Xen: arch/arm/p2m.c, mfn_to_p2m_entry)."""
    flags = p2m_type.flags
    read, write = MapFlags.READABLE in flags, MapFlags.WRITABLE in flags
    leaf = domain.format.encode_leaf(frame_address(mfn), read=read, write=write, level=level)
    return leaf | p2m_type << IGNORED_SHIFT | (0 if p2m_type.is_executable else EXECUTE_NEVER)


def table_word(table: Maddr) -> int:
    """Return the word that leads to a table (Xen: arch/arm/p2m.c, in p2m_create_table)."""
    return encode_table(table) | P2mType.RAM_RW << IGNORED_SHIFT


def type_of(word: int) -> P2mType:
    """Return the page type of an entry; INVALID too for a number that stands for none."""
    number = word >> IGNORED_SHIFT & (1 << IGNORED_BITS) - 1
    return P2mType(number) if number <= max(P2mType) else P2mType.INVALID


def is_p2m_valid(word: int) -> bool:
    """Whether an entry is valid for Xen (Xen: arch/arm/p2m.c, p2m_is_valid)."""
    return type_of(word) is not P2mType.INVALID


def is_lpae_valid(word: int) -> bool:
    """Whether an entry is valid for hardware (Xen: asm-arm/lpae.h, lpae_is_valid)."""
    return bool(word & VALID)


def is_table(word: int, level: int) -> bool:
    """Whether an entry leads to a table, be it valid for hardware or not (Xen: asm-arm/lpae.h, lpae_is_table)."""
    return level > 1 and bool(word & TABLE)


def next_table(word: int) -> Maddr:
    """Return the table to which an entry leads."""
    return Maddr(word & ADDRESS)


async def clean(cpu: Cpu, address: Maddr) -> None:
    """Write an entry's line back if the walks of some SMMU do not snoop (Xen: arch/arm/p2m.c, clean_pte)."""
    if not cpu.memory.is_coherent:
        await WriteBack(cpu.memory, address)


async def p2m_write_pte(cpu: Cpu, domain: Domain, gfn: Dfn, address: Maddr, word: int, level: int = 1) -> None:
    """Store an entry in one step, and write its line back if that is needed (Xen: arch/arm/p2m.c, p2m_write_pte)."""
    await StoreEntry(cpu, domain, gfn, level, address, word)
    await clean(cpu, address)


async def p2m_remove_pte(cpu: Cpu, domain: Domain, gfn: Dfn, address: Maddr, level: int = 1) -> None:
    """Clear an entry (Xen: arch/arm/p2m.c, p2m_remove_pte)."""
    await p2m_write_pte(cpu, domain, gfn, address, 0, level)
