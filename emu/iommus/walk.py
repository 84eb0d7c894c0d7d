"""The walk of page tables, one word a level, whatever the vendor. The vendor's own code finds the root table."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from emu.engine import Access, Kind, Operation
from emu.iommus.formats import FAULT, TableFormat, Translation
from emu.iommus.iotlb import IotlbEntry
from emu.iommus.paths import Tables
from emu.iommus.requests import Request, TableRead
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
    memory: Memory, format_: TableFormat, request: Request, tables: Tables, *, caches_non_present: bool
) -> IotlbEntry | None:
    """Walk tables for a request; return the entry that may be cached, None for a fault that may not.

    The entry has the permissions that every word of the walk grants.
    """
    table, level, read, write = tables.root, tables.levels, tables.read, tables.write
    while True:
        address = format_.entry_address(table, request.dfn, level)
        word = await ReadTable(memory, format_, request, address, level)
        entry = format_.read(word, level, request.dfn)
        reads = tuple(request.reads)
        if entry is None:
            non_present = IotlbEntry(request.user, tables.tag, request.dfn, FAULT, reads)
            return non_present if caches_non_present else None
        read, write = read and entry.read, write and entry.write
        if entry.is_leaf:
            translation = Translation(word, entry.order, read, write, entry.address)
            return IotlbEntry(request.user, tables.tag, request.dfn, translation, reads)
        table, level = entry.address, entry.next_level


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
