"""Entries of page tables: reading a leaf, storing an entry, and the accesses of a section that changes a leaf.

The format is the domain's, so these are the same for every vendor.
"""

from collections.abc import Iterable

from emu.cpus import Cpu
from emu.engine import Access, Kind
from emu.hypervisor.domain import INSTALLED, Domain
from emu.hypervisor.ops import READ_WRITE, MapFlags
from emu.hypervisor.pages import PAGES
from emu.hypervisor.records import record_update
from emu.iommus.formats import Entry
from emu.iommus.requests import TableRead
from emu.memory import WORDS, Memory, Store, word_number
from emu.units import WORD_BYTES, Dfn, Maddr, Mfn, address_frame, frame_address


class StoreEntry(Store):
    """Store an entry of a page table for a dfn. A leaf maps its frame at one more dfn.

    The checks judge whether the table's frame still belongs to the domain, and whether it may map what a leaf maps.
    """

    __slots__ = ("cpu", "dfn", "domain", "level")

    def __init__(self, cpu: Cpu, domain: Domain, dfn: Dfn, level: int, address: Maddr, word: int) -> None:
        details = {"domain": domain.number, "dfn": dfn, "table_level": level}
        super().__init__(cpu.memory, address, word, 8 * WORD_BYTES, "pte.write" if word else "pte.clear", details)
        self.cpu = cpu
        self.domain = domain
        self.dfn = dfn
        self.level = level

    def accesses(self) -> Iterable[Access]:
        yield from super().accesses()
        yield Access.to(PAGES, address_frame(Maddr(self.address)), Kind.READ)
        leaf = self.leaf
        if leaf is not None:
            mfn = address_frame(leaf.address)
            yield Access.to(INSTALLED, mfn, Kind.COMMUTE)
            yield from self.domain.frames.leaf_reads(mfn, self.domain, permissions(leaf))

    def perform(self, step: int) -> int:
        frame, frames, leaf = address_frame(Maddr(self.address)), self.domain.frames, self.leaf
        frames.entry_stored(frame, self.cpu, self.domain, self.dfn, step)
        if leaf is not None:
            mfn = address_frame(leaf.address)
            frames.leaf_stored(mfn, self.cpu, self.domain, self.dfn, permissions(leaf), step)
        return super().perform(step)

    @property
    def leaf(self) -> Entry | None:
        """The leaf that it stores; None if it stores none."""
        entry = self.domain.format.decode(self.value, self.level)
        return entry if entry is not None and entry.is_leaf else None


def permissions(entry: Entry) -> MapFlags:
    """Return what an entry permits."""
    allowed = MapFlags.READABLE if entry.read else MapFlags(0)
    return allowed | MapFlags.WRITABLE if entry.write else allowed


def leaf_section(cpu: Cpu, domain: Domain, dfn: Dfn, mfn: Mfn | None = None) -> tuple[Access, ...] | None:
    """Return the accesses of a mapping_lock section that only reads or stores one leaf.

    None if a table on the way to the leaf is missing: the section may then make one.

    Args:
        mfn: the frame that the section may map.
    """
    touched: list[Access] = []
    if mfn is not None:
        touched = [Access.to(INSTALLED, mfn, Kind.COMMUTE), *domain.frames.leaf_reads(mfn, domain, READ_WRITE)]
    table, level = domain.pgd, domain.levels
    while level > 1:
        address = domain.format.entry_address(table, dfn, level)
        touched.append(Access.to(WORDS, word_number(address), Kind.READ))
        entry = domain.format.read(cpu.memory.peek(address), level, dfn)
        if entry is None or entry.is_leaf:
            return None
        table, level = entry.address, entry.next_level
    touched.append(Access.to(PAGES, address_frame(table), Kind.READ))
    return (*touched, Access.to(WORDS, word_number(domain.format.entry_address(table, dfn, 1)), Kind.WRITE))


async def read_pte(cpu: Cpu, domain: Domain, dfn: Dfn, address: Maddr) -> int:
    """Return the leaf of a dfn. The caller holds the mapping_lock."""
    word = await cpu.load64(address, "pte.read", domain=domain.number, dfn=dfn, table_level=1)
    record_update(cpu, dfn, word, word)
    return word


async def write_pte(cpu: Cpu, domain: Domain, dfn: Dfn, address: Maddr, word: int) -> None:
    """Store the leaf of a dfn in one step. The caller holds the mapping_lock."""
    old = await StoreEntry(cpu, domain, dfn, 1, address, word)
    entered = domain.format.decode(word, 1)
    if entered is not None:
        domain.note_leaf(dfn, address_frame(entered.address))
    record_update(cpu, dfn, old, word)


def enter_leaf(memory: Memory, domain: Domain, dfn: Dfn, leaf: int) -> tuple[TableRead, ...]:
    """Store a 4 KiB leaf and the tables that lead to it, before the first step; return what a walk to it reads."""
    path: list[TableRead] = []
    format_, table, level = domain.format, domain.pgd, domain.levels
    while level > 1:
        address = format_.entry_address(table, dfn, level)
        path.append(TableRead(level, format_.orders[level], address, 0, is_leaf=False))
        entry = format_.read(memory.peek(address), level, dfn)
        if entry is None:
            level -= 1
            table = frame_address(domain.frames.add_table(domain, dfn))
            memory.put(address, format_.encode_table(table, level))
        else:
            table, level = entry.address, entry.next_level
    address = format_.entry_address(table, dfn, 1)
    memory.put(address, leaf)
    entered = format_.decode(leaf, 1)
    if entered is not None:
        domain.note_leaf(dfn, address_frame(entered.address))
    return (*path, TableRead(1, 0, address, 0, is_leaf=True))
