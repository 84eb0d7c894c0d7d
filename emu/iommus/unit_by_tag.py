"""A unit that finds tables by what is a device's own, and cached translations by the tag that it names.

The comments number the steps of a walk.
"""

from collections.abc import Awaitable, Iterator
from math import inf
from typing import Any

from emu.engine import Access, Kind, Space, Trace
from emu.engine.atomic import AtomicBlock
from emu.iommus.counters import Counters
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


class UnitByTag:
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
    iotlb: Iotlb
    requests: Requests
    walk_cache: WalkCache | None
    counters: Counters

    def find_tables(self, request: Request) -> Awaitable[Tables | None]:
        """Find the tables of a request's device, and note what was read; None if the request faults by that.

        Raises:
            NotImplementedError: if a subclass leaves it out.
        """
        raise NotImplementedError

    def tables_accesses(self, source_id: int) -> Iterator[Access]:
        """Yield the accesses by which the tables of a device would be found now.

        Raises:
            NotImplementedError: if a subclass leaves it out.
        """
        raise NotImplementedError

    def tables_now(self, source_id: int) -> Tables | None:
        """Return the tables that would be found now for a device, without a step.

        Raises:
            NotImplementedError: if a subclass leaves it out.
        """
        raise NotImplementedError

    def has_lost_tables(self, request: Request) -> bool:
        """Whether what named the tables of a request has been dropped since it was read.

        Raises:
            NotImplementedError: if a subclass leaves it out.
        """
        raise NotImplementedError

    def tables_ever(self, source_id: int) -> list[Tables]:
        """Return the tables that have ever translated for a device, with their lifetimes, newest first.

        Raises:
            NotImplementedError: if a subclass leaves it out.
        """
        raise NotImplementedError

    def device_reads(self, source_id: int) -> list[tuple[Space, int]]:
        """Return the objects that decide which tables translate for a device.

        Raises:
            NotImplementedError: if a subclass leaves it out.
        """
        raise NotImplementedError

    async def look_up(self, request: Request) -> IotlbEntry | None:
        """Look a request's page up, by the tag of the device's tables."""
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

    async def find(self, request: Request) -> IotlbEntry | None:
        """Find the tables of a request's device, and the cached translation; None if there is none, or no table.

        The tables are left in `request.tables`.
        """
        while True:
            request.begin_walk(self.trace.step)
            # 1. What is the device's own names its tables.
            request.tables = await self.find_tables(request)
            if request.tables is None:
                return None
            if not request.tables.levels:
                # 2. Without translation the address is that of the memory.
                request.user = request.source_id
                passed = await PassThrough(self.iotlb, request, request.tables, self.has_lost_tables)
                if passed is not None:
                    return passed
                continue
            # 3. The cached translations are looked up by the tag of the tables and the address.
            request.user = request.tag = request.tables.tag
            lookup = LookupByTag(self.iotlb, request, self.has_lost_tables)
            await lookup
            if not lookup.was_void:
                return lookup.entry

    async def descend(self, request: Request, start: ReachedTable | None) -> IotlbEntry | None:
        """Walk the tables for a request; return the entry that may be cached, None for a fault that may not.

        Args:
            start: the cached table entry at which the walk starts; None if it starts at the root table.
        """
        tables = request.tables
        # 4. The address must lie within the reach of the tables.
        if tables is None or not 0 <= request.dfn < self.format.reach(tables.levels):
            return None
        if start is not None:
            start.go_on(request)
        # 5. One word a level is read, from the highest table, or from the one to which a cached entry leads.
        caches, cache = self.ledger.caches_non_present, self.walk_cache
        return await walk_tables(
            self.memory, self.format, request, start or tables, caches_non_present=caches, walk_cache=cache
        )

    def find_accesses(self, request: Request) -> Iterator[Access]:
        """Yield the accesses of a lookup that would be made now."""
        yield from self.tables_accesses(request.source_id)
        yield Access.to(self.iotlb.walk_space(self.format.device_level), 0, Kind.READ)
        tables = self.tables_now(request.source_id)
        if tables is not None:
            user = tables.tag if tables.levels else request.source_id
            yield self.iotlb.access(request.dfn, request.dfn, Kind.READ, user)

    def walk_accesses(self, request: Request, start: ReachedTable | None) -> Iterator[Access]:
        """Yield the accesses of a walk that would be made now."""
        tables = request.tables if start is None else start.tables
        if tables is not None:
            if self.walk_cache is not None:
                yield from self.walk_cache.block_accesses(request, start)
                # It caches nothing if what an earlier step has read to find the tables was dropped since.
                yield from self.iotlb.walk_accesses(request.dfn, request.reads)
            yield from words_walked(self.memory, self.format, tables, request.dfn)

    def is_from_another_root(self, request: Request) -> bool:
        """Whether a walk started at a cached entry below another root than the device's tables have.

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

    def tables_found(self, source_id: int) -> list[Tables]:
        """Return the tables that have ever translated for any device: devices with one tag find the same."""
        return [tables for one in dict.fromkeys((source_id, *self.sources)) for tables in self.tables_ever(one)]

    def tables_at(self, root: Maddr) -> list[Tables]:
        """Return the tables with this root that have ever translated here for any device, with tags and lifetimes.

        Tables whose tag no device has any more are left out: nobody finds what is cached under it. Records as read the
        objects that decide it.
        """
        ever: dict[Tables, None] = {}
        for source_id in self.sources:
            for space, number in self.device_reads(source_id) if self.ledger.recorder.is_on else ():
                self.ledger.recorder.read(space, number)
            ever |= dict.fromkeys(self.tables_ever(source_id))
        in_use = {tables.tag for tables in ever if tables.until == inf}
        return [tables for tables in ever if tables.levels and tables.root == root and tables.tag in in_use]

    def lets_through(self, source_id: int) -> bool:
        """Whether requests may pass untranslated, by what is the device's own."""
        return any(tables.levels == 0 and tables.until == inf for tables in self.tables_ever(source_id))
