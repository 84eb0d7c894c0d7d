"""A unit that finds tables by devices' own entries, and translations by the tag that the entry names.

The comments number the steps of a walk.
"""

from collections.abc import Awaitable, Iterator
from functools import partial
from math import inf
from typing import Any

from emu.engine import Access, Kind, Space, Trace
from emu.engine.atomic import AtomicBlock
from emu.iommus.counters import Counters
from emu.iommus.device_entries import (
    CachedEntry,
    DeviceFill,
    DeviceLookup,
    EntryTable,
    TaggedEntry,
    is_void,
)
from emu.iommus.formats import TableFormat
from emu.iommus.iotlb import Iotlb, IotlbEntry, LookupByTag
from emu.iommus.ledger import Ledger
from emu.iommus.pass_through import PassThrough
from emu.iommus.paths import Tables
from emu.iommus.requests import Request, Requests, TableRead
from emu.iommus.walk import walk_tables, words_walked
from emu.iommus.walk_cache import ReachedTable, WalkCache, choose_start
from emu.memory import Memory
from emu.units import Maddr


class UnitByEntry:
    """What such units have in common. `Unit` documents their methods.

    Attributes:
        settings: those of the vendor's units. With `walk_at_once` a lookup and a walk are one step each.
    """

    name: str
    settings: Any
    format: TableFormat
    sources: list[int]
    memory: Memory
    trace: Trace
    ledger: Ledger
    device_table: EntryTable[Any]
    iotlb: Iotlb
    requests: Requests
    walk_cache: WalkCache | None
    counters: Counters

    def read_entry(self, source_id: int) -> Awaitable[CachedEntry[Any]]:
        """Read a device's entry from the table; return it with the reads.

        Raises:
            NotImplementedError: if a subclass leaves it out.
        """
        raise NotImplementedError

    async def look_up(self, request: Request) -> IotlbEntry | None:
        """Look a request's page up, by the tag that the device's entry says."""
        if self.settings.walk_at_once:
            return await AtomicBlock(
                "look_up", lambda: self.find(request), lambda: self.find_accesses(request), self.trace
            )
        return await self.find(request)

    async def walk(self, request: Request) -> IotlbEntry | None:
        """Find a request's translation in the tables; None if the request faults and the fault is not cached.

        The start of a walk that is one step is chosen in steps before it.
        """
        start = None if request.tables is None else await choose_start(self.walk_cache, request)
        if self.settings.walk_at_once:
            return await AtomicBlock(
                "walk", lambda: self.descend(request, start), lambda: self.walk_accesses(request, start), self.trace
            )
        return await self.descend(request, start)

    async def find_entry(self, request: Request) -> TaggedEntry:
        """Return the entry of a request's device, from the cache or the table."""
        source_id = request.source_id
        while True:
            # 1. The cache of devices' entries is looked up by device id.
            cached = await DeviceLookup(self, source_id)
            if cached is not None:
                found, reads = cached
                break
            # 2. The device id selects an entry, which is read.
            found, reads = await self.read_entry(source_id)
            # 3. The entry may be cached, unless it was invalidated meanwhile.
            if await DeviceFill(self, source_id, found, reads):
                break
        request.reads.extend(reads)
        entry: TaggedEntry = found
        return entry

    async def find(self, request: Request) -> IotlbEntry | None:
        """Find the tables of a request's device, and the cached translation; None if there is none, or no table.

        The tables are left in `request.tables`.
        """
        while True:
            request.begin_walk(self.trace.step)
            # Steps 1 to 3 find the device's entry.
            request.tables = self.device_table.tables_of(await self.find_entry(request))
            if request.tables is None:
                return None
            if not request.tables.levels:
                # 4. Without translation the address is that of the memory.
                request.user = request.source_id
                passed = await PassThrough(self.iotlb, request, request.tables, partial(is_void, self))
                if passed is not None:
                    return passed
                continue
            # 5. The cached translations are looked up by the entry's tag and the address.
            request.user = request.tag = request.tables.tag
            lookup = LookupByTag(self.iotlb, request, partial(is_void, self))
            await lookup
            if not lookup.was_void:
                return lookup.entry

    async def descend(self, request: Request, start: ReachedTable | None) -> IotlbEntry | None:
        """Walk the tables for a request; return the entry that may be cached, None for a fault that may not.

        Args:
            start: the cached table entry at which the walk starts; None if it starts at the root table.
        """
        tables = request.tables
        # 6. The address must lie within the reach of the tables.
        if tables is None or not 0 <= request.dfn < self.format.reach(tables.levels):
            return None
        if start is not None:
            start.go_on(request)
        # 7. One word a level is read, from the table that the device's entry names, or a cached entry.
        caches, cache = self.ledger.caches_non_present, self.walk_cache
        return await walk_tables(
            self.memory, self.format, request, start or tables, caches_non_present=caches, walk_cache=cache
        )

    def find_accesses(self, request: Request) -> Iterator[Access]:
        """Yield the accesses of a lookup that would be made now."""
        source_id, table = request.source_id, self.device_table
        yield table.access(Kind.WRITE, source_id, source_id)
        yield from table.word_reads(source_id)
        yield Access.to(self.iotlb.walk_space(self.format.device_level), 0, Kind.READ)
        cached = table.entries.get(source_id)
        tables = table.tables_of(cached[0] if cached else table.entry_seen(source_id))
        if tables is not None:
            user = tables.tag if tables.levels else source_id
            yield self.iotlb.access(request.dfn, request.dfn, Kind.READ, user)

    def walk_accesses(self, request: Request, start: ReachedTable | None) -> Iterator[Access]:
        """Yield the accesses of a walk that would be made now."""
        tables = request.tables if start is None else start.tables
        if tables is not None:
            if self.walk_cache is not None:
                yield from self.walk_cache.block_accesses(request, start)
                # What it caches it caches only if the device's entry, which an earlier step has read, is not dropped.
                yield from self.iotlb.walk_accesses(request.dfn, request.reads)
            yield from words_walked(self.memory, self.format, tables, request.dfn)

    def is_void(self, request: Request) -> bool:
        """Whether a walk may not fill the IOTLB any more: an invalidation has dropped a word that it had read."""
        if self.device_table.is_void(request, self.format.device_level):
            return True
        if self.requests.has_dropped_start(request) and self.is_from_another_root(request):
            return True
        return self.requests.is_void(request, self.was_replaced)

    def is_from_another_root(self, request: Request) -> bool:
        """Whether a walk started at a cached entry below another root than the device's own entry names.

        Devices find what is cached under one tag, whatever the roots are. So once the entry has been dropped, a new
        walk need not find the same, though no word was replaced.
        """
        tables, highest = request.tables, next(self.table_reads(request), None)
        if tables is None or highest is None:
            return False
        return self.format.table_of(highest.address, request.dfn, highest.level) != tables.root

    def table_reads(self, request: Request) -> Iterator[TableRead]:
        """Yield the words of page tables that a walk has read, the highest first."""
        return (read for read in request.reads if read.level != self.format.device_level)

    def was_replaced(self, request: Request, read: TableRead, step: int) -> bool:
        """Whether a newer value of a page table's word was visible up to a step.

        An invalidation of pages does not void a walk by the device's own entry.
        """
        return read.level != self.format.device_level and read.was_replaced(self.memory, step)

    def tables_ever(self, source_id: int) -> list[Tables]:
        """Return the tables that have ever translated for a device, with their lifetimes, newest first."""
        found = []
        for entry, since, until in self.device_table.lifetimes(source_id):
            tables = self.device_table.tables_of(entry)
            if tables is not None:
                found.append(tables._replace(since=since, until=until))
        return found

    def tables_found(self, source_id: int) -> list[Tables]:
        """Return the tables that have ever translated for any device: devices with one tag find the same."""
        return [tables for one in dict.fromkeys((source_id, *self.sources)) for tables in self.tables_ever(one)]

    def tables_at(self, root: Maddr) -> list[Tables]:
        """Return the tables with this root that have ever translated here for any device, with tags and lifetimes.

        Tables whose tag no device's entry says any more are left out: nobody finds what is cached under it. Records as
        read the devices' entries that decide it.
        """
        ever: dict[Tables, None] = {}
        for source_id in self.sources:
            self.device_table.record_reads(source_id, self.ledger.recorder)
            ever |= dict.fromkeys(self.tables_ever(source_id))
        in_use = {tables.tag for tables in ever if tables.until == inf}
        return [tables for tables in ever if tables.levels and tables.root == root and tables.tag in in_use]

    def device_reads(self, source_id: int) -> list[tuple[Space, int]]:
        """Return the objects that decide which tables translate for a device: the words of its entry."""
        return self.device_table.reads(source_id)

    def lets_through(self, source_id: int) -> bool:
        """Whether requests may pass untranslated, by an entry that says so."""
        return any(tables.levels == 0 and tables.until == inf for tables in self.tables_ever(source_id))

    def may_refuse(self, source_id: int) -> bool:
        """Whether the unit may refuse a device's requests by a cached entry that aborts and has been replaced."""
        _, *replaced = self.device_table.lifetimes(source_id)
        return any(self.device_table.tables_of(entry) is None and until == inf for entry, _, until in replaced)
