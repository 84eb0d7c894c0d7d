"""Entries of page tables: reading a leaf, storing an entry, and the accesses of a section that changes a leaf.

The format is the domain's, so these are the same for every vendor.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from emu.cpus import Cpu
from emu.engine import Access, Kind
from emu.errors import ScenarioError
from emu.hypervisor.charging import charge, charge_read
from emu.hypervisor.domain import EVER_MAPPED, Domain
from emu.hypervisor.mappings import place_of, tables_below
from emu.hypervisor.ops import READ_WRITE, MapFlags
from emu.hypervisor.pages import PAGES
from emu.hypervisor.places import Half, Place, Stored
from emu.iommus.formats import Entry
from emu.iommus.requests import TableRead
from emu.memory import HALF_BYTES, HALF_MASK, WORDS, Load, Memory, Store, word_number
from emu.units import WORD_BYTES, Dfn, Maddr, Mfn, address_frame, frame_address, page_count


class StoreEntry(Store):
    """Store an entry of a page table for a dfn. A leaf maps its frames at more dfns.

    The checks judge whether the table's frame still belongs to the domain, and whether the domain may map a leaf's
    frames. The store's changes are charged to the call that is open on the CPU. They depend on the real place of the
    word, whatever dfn and level it is stored for, and above level 1 also on the tables below.

    A store reads whether the tables above belong to the domain. As long as they do, and their entries lead to the word,
    it need not read those entries: a store that cuts a table off reads the whole table.
    """

    __slots__ = ("before", "cpu", "dfn", "domain", "half", "level", "slot", "word")

    def __init__(
        self, cpu: Cpu, domain: Domain, dfn: Dfn, level: int, address: Maddr, word: int, *, half: Half | None = None
    ) -> None:
        """Prepare the store of a word, or of one of its halves."""
        details = {"domain": domain.number, "dfn": dfn, "table_level": level}
        label = "pte.write" if word else "pte.clear"
        if half is None:
            super().__init__(cpu.memory, address, word, 8 * WORD_BYTES, label, details)
        else:
            place, value = address + HALF_BYTES * half, word >> 32 * half & HALF_MASK
            super().__init__(cpu.memory, place, value, 8 * HALF_BYTES, label, details)
        self.cpu = cpu
        self.domain = domain
        self.dfn = dfn
        self.level = level
        self.half = half
        self.slot = address
        self.word = word
        self.before = 0

    def stored_word(self) -> int:
        """Return the whole word as it stands after the store."""
        if self.half is None:
            return self.word
        mask = HALF_MASK << 32 * self.half
        return (self.memory.peek(self.slot) & ~mask) | (self.word & mask)

    def accesses(self) -> Iterable[Access]:
        yield from super().accesses()
        yield Access.to(PAGES, address_frame(self.slot), Kind.READ)
        *_, place = places = self.places()
        for address in {address: None for one in places for address in one.above}:
            yield Access.to(PAGES, address_frame(address), Kind.READ)
            if not place.level or self.domain.frames.dfn_of_table(address_frame(address), self.domain) is None:
                yield Access.to(WORDS, word_number(address), Kind.READ)
        leaf = self.leaf_at(place)
        if leaf is not None:
            yield from maps(self.domain, address_frame(leaf.address), permissions(leaf), leaf.order)
        if place.level > 1:
            yield from tables_below(self.memory, self.domain, place, self.memory.peek(self.slot), self.stored_word())
        near = place if place.level else Place((), self.level, self.domain.format.base(self.dfn, self.level))
        yield from self.domain.frames.word_reads(self.domain, self.half, near)

    def places(self) -> list[Place]:
        """Return the word's place by a walk for the dfn; if that walk does not reach it, its real place follows."""
        named = place_of(self.memory, self.domain, self.dfn, self.slot)
        near = self.domain.frames.dfn_of_table(address_frame(self.slot), self.domain)
        if named.level or near is None or near == self.dfn:
            return [named]
        return [named, place_of(self.memory, self.domain, near, self.slot)]

    def leaf_at(self, place: Place) -> Entry | None:
        """Return the leaf that the store puts at a place; None if the word is no leaf."""
        entry = self.domain.format.decode(self.stored_word(), place.level or self.level)
        return entry if entry is not None and entry.is_leaf else None

    def perform(self, step: int) -> int:
        frame, domain = address_frame(self.slot), self.domain
        domain.frames.entry_stored(frame, self.cpu, domain, self.dfn, step)
        place = self.places()[-1]
        leaf = self.leaf_at(place)
        first = place.first if place.level else domain.format.base(self.dfn, self.level)
        if leaf is not None:
            mfn, flags = address_frame(leaf.address), permissions(leaf)
            domain.frames.leaf_stored(mfn, self.cpu, domain, first, flags, step, leaf.order)
        self.before = self.memory.peek(self.slot)
        self.word = self.stored_word()
        if place.level:
            stored = Stored(self.slot, self.before, self.word, self.half, step)
            domain.frames.word_stored(self.cpu, domain, place, stored)
        old = super().perform(step)
        if leaf is not None:
            domain.note_leaf(first, address_frame(leaf.address), leaf.order)
        if place.level:
            is_table = domain.frames.dfn_of_table(frame, domain) is not None
            charge(self.cpu, domain, place, self.before, self.word, step, is_table=is_table)
        return old

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        if self.half is None:
            return super().describe()
        whole = {"address": self.slot, "old": self.before, "value": self.word, "half": self.half.name.lower()}
        return self.label, {**self.details, **whole}


def permissions(entry: Entry) -> MapFlags:
    """Return the permissions of an entry."""
    allowed = MapFlags.READABLE if entry.read else MapFlags(0)
    return allowed | MapFlags.WRITABLE if entry.write else allowed


def maps(domain: Domain, mfn: Mfn, flags: MapFlags, order: int) -> Iterator[Access]:
    """Yield the accesses of a step that maps 2^order frames, besides that to the leaf."""
    yield Access(EVER_MAPPED, mfn, mfn + page_count(order) - 1, Kind.COMMUTE)
    yield from domain.frames.leaf_reads(mfn, domain, flags, order)


def leaf_section(
    cpu: Cpu, domain: Domain, dfn: Dfn, mfn: Mfn | None = None, *, target: int = 1
) -> tuple[Access, ...] | None:
    """Return the accesses of a mapping_lock section that only reads or stores one leaf.

    None if a table on the way to the leaf is missing, or a table stands in the leaf's place: the section may then do
    more.

    Args:
        mfn: the first frame that the section may map.
        target: the level of the leaf.
    """
    format_ = domain.format
    touched: list[Access] = []
    if mfn is not None:
        touched = [*maps(domain, mfn, READ_WRITE, format_.orders[target])]
    table, level = domain.pgd, domain.levels
    while level > target:
        address = format_.entry_address(table, dfn, level)
        touched += [
            Access.to(WORDS, word_number(address), Kind.READ),
            Access.to(PAGES, address_frame(table), Kind.READ),
        ]
        entry = format_.read(cpu.memory.peek(address), level, dfn)
        if entry is None or entry.is_leaf:
            return None
        table, level = entry.address, entry.next_level
    address = format_.entry_address(table, dfn, target)
    entry = format_.decode(cpu.memory.peek(address), target)
    if level != target or (entry is not None and not entry.is_leaf):
        return None
    touched.append(Access.to(PAGES, address_frame(table), Kind.READ))
    return (*touched, Access.to(WORDS, word_number(address), Kind.WRITE))


def load_pte(cpu: Cpu, domain: Domain, dfn: Dfn, address: Maddr, level: int = 1) -> Load:
    """Return the load of an entry of a dfn that is not charged to a call, such as an entry above the leaf."""
    return cpu.load64(address, "pte.read", domain=domain.number, dfn=dfn, table_level=level)


async def read_pte(cpu: Cpu, domain: Domain, dfn: Dfn, address: Maddr, level: int = 1) -> int:
    """Return an entry of a dfn, its leaf unless a level is named. The caller holds the mapping_lock."""
    word = await load_pte(cpu, domain, dfn, address, level)
    charge_read(cpu, domain, dfn, level, address, word)
    return word


async def write_pte_halves(cpu: Cpu, domain: Domain, dfn: Dfn, address: Maddr, word: int, level: int = 1) -> None:
    """Store an entry of a dfn in two steps, the high half first, as a 32-bit driver does. Walks may read between."""
    for half in (Half.HIGH, Half.LOW):
        await StoreEntry(cpu, domain, dfn, level, address, word, half=half)


async def write_pte(cpu: Cpu, domain: Domain, dfn: Dfn, address: Maddr, word: int, level: int = 1) -> None:
    """Store an entry of a dfn in one step, its leaf unless a level is named. The caller holds the mapping_lock."""
    await StoreEntry(cpu, domain, dfn, level, address, word)


def enter_leaf(memory: Memory, domain: Domain, dfn: Dfn, leaf: int, target: int = 1) -> tuple[TableRead, ...]:
    """Store a leaf of a level, and the tables that lead to it, before the first step; return the reads of a walk to it.

    Raises:
        ScenarioError: if the tables have too few levels, or a leaf or a table of another size stands there already.
    """
    path: list[TableRead] = []
    format_, table, level = domain.format, domain.pgd, domain.levels
    if target > level:
        raise ScenarioError(f"{level} levels of tables have no leaf of level {target}: map smaller pages")
    while level > target:
        address = format_.entry_address(table, dfn, level)
        path.append(TableRead(level, format_.orders[level], address, 0, is_leaf=False))
        entry = format_.read(memory.peek(address), level, dfn)
        if entry is None:
            level -= 1
            table = frame_address(domain.frames.add_table(domain, dfn))
            memory.put(address, format_.encode_table(table, level))
        elif entry.next_level < target:
            raise stands_there(dfn, "a superpage" if entry.is_leaf else "a table")
        else:
            table, level = entry.address, entry.next_level
    address = format_.entry_address(table, dfn, target)
    before = format_.decode(memory.peek(address), target)
    if before is not None and not before.is_leaf:
        raise stands_there(dfn, "a table")
    memory.put(address, leaf)
    entered = format_.decode(leaf, target)
    if entered is not None:
        domain.note_leaf(dfn, address_frame(entered.address), entered.order)
    return (*path, TableRead(target, format_.orders[target], address, 0, is_leaf=True))


def stands_there(dfn: Dfn, what: str) -> ScenarioError:
    """Return the error for a leaf whose place is taken by something of another size."""
    return ScenarioError(f"dfn {dfn:#x} cannot be mapped: {what} stands there already; map each page once")
