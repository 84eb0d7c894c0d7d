"""The walk of page tables, one word a level, whatever the vendor. The vendor's own code finds the root table."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from emu.engine import Access, Kind, Operation
from emu.iommus.formats import FAULT, TableFormat, Translation
from emu.iommus.iotlb import IotlbEntry
from emu.iommus.paths import Tables
from emu.iommus.requests import Request, TableRead
from emu.iommus.walk_cache import FillTables, ReachedTable, WalkCache
from emu.memory import WORDS, Memory, word_number
from emu.units import Dfn, Maddr


class ReadTable(Operation[int]):
    """Read one word of a page table, for a request."""

    __slots__ = ("address", "format", "level", "memory", "request", "value")

    def __init__(self, memory: Memory, format_: TableFormat, request: Request, address: Maddr, level: int) -> None:
        self.memory = memory
        self.format = format_
        self.request = request
        self.address = address
        self.level = level
        self.value = 0

    def accesses(self) -> Iterable[Access]:
        return (Access.to(WORDS, word_number(self.address), Kind.READ),)

    def perform(self, step: int) -> int:
        self.value = self.memory.seen(self.address)
        entry = self.format.read(self.value, self.level, self.request.dfn)
        is_leaf = entry is None or entry.is_leaf
        order = self.format.orders[self.level]
        self.request.reads.append(TableRead(self.level, order, self.address, step, is_leaf))
        return self.value

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        keys = {"dfn": self.request.dfn, "table_level": self.level, "address": self.address, "value": self.value}
        return "walk.read", keys


async def walk_tables(
    memory: Memory,
    format_: TableFormat,
    request: Request,
    start: Tables | ReachedTable,
    *,
    caches_non_present: bool,
    walk_cache: WalkCache | None = None,
) -> IotlbEntry | None:
    """Walk tables for a request; return the entry that may be cached, None for a fault that may not.

    The entry has the permissions that every word of the walk grants.

    Args:
        start: the tables, if the walk starts at their root; else the table to which a cached entry leads.
        walk_cache: caches the table entries that the walk reads; None if the unit caches none.
    """
    table = ReachedTable.root(format_, request.user, start) if isinstance(start, Tables) else start
    reached: list[ReachedTable] = []
    while True:
        level = table.tables.levels
        address = format_.entry_address(table.tables.root, request.dfn, level)
        word = await ReadTable(memory, format_, request, address, level)
        entry = format_.read(word, level, request.dfn)
        if entry is None or entry.is_leaf:
            break
        table = table.below(format_, request.dfn, entry, tuple(request.reads))
        reached.append(table)
    if walk_cache is not None and reached:
        await FillTables(walk_cache, request, reached)
    tag, reads = table.tables.tag, tuple(request.reads)
    if entry is None:
        non_present = IotlbEntry(request.user, tag, request.dfn, FAULT, reads)
        return non_present if caches_non_present else None
    read, write = table.read and entry.read, table.write and entry.write
    translation = Translation(word, entry.order, read, write, entry.address)
    return IotlbEntry(request.user, tag, request.dfn, translation, reads)


def words_walked(memory: Memory, format_: TableFormat, tables: Tables, dfn: Dfn) -> Iterator[Access]:
    """Yield the accesses to the words that a walk of tables for a dfn would read now."""
    table, level = tables.root, tables.levels
    while level:
        address = format_.entry_address(table, dfn, level)
        yield Access.to(WORDS, word_number(address), Kind.READ)
        entry = format_.read(memory.seen(address), level, dfn)
        if entry is None:
            return
        table, level = entry.address, entry.next_level
