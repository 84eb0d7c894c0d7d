"""A unit that finds tables by devices' own entries, which it caches.

The comments number the parts of the first step of a walk.
"""

from collections.abc import Awaitable, Iterator
from math import inf
from typing import Any

from emu.engine import Access, Kind, Space
from emu.iommus.device_entries import CachedEntry, DeviceFill, DeviceLookup, EntryTable, TaggedEntry, is_void
from emu.iommus.paths import Tables
from emu.iommus.requests import Request, TableRead
from emu.iommus.unit_by_tag import UnitByTag


class UnitByEntry(UnitByTag):
    """What such units have in common. `Unit` documents their methods.

    Attributes:
        device_table: the entries, and those that are cached.
    """

    device_table: EntryTable[Any]

    def read_entry(self, source_id: int) -> Awaitable[CachedEntry[Any]]:
        """Read a device's entry from the table; return it with the reads.

        Raises:
            NotImplementedError: if a subclass leaves it out.
        """
        raise NotImplementedError

    async def find_entry(self, request: Request) -> TaggedEntry:
        """Return the entry of a request's device, from the cache or the table."""
        source_id = request.source_id
        while True:
            # a. The cache of devices' entries is looked up by device id.
            cached = await DeviceLookup(self, source_id)
            if cached is not None:
                found, reads = cached
                break
            # b. The device id selects an entry, which is read.
            found, reads = await self.read_entry(source_id)
            # c. The entry may be cached, unless it was invalidated meanwhile.
            if await DeviceFill(self, source_id, found, reads):
                break
        request.reads.extend(reads)
        entry: TaggedEntry = found
        return entry

    async def find_tables(self, request: Request) -> Tables | None:
        """Find the tables of a request's device by its entry; None if the request faults by that."""
        return self.device_table.tables_of(await self.find_entry(request))

    def tables_accesses(self, source_id: int) -> Iterator[Access]:
        """Yield the accesses by which the tables of a device would be found now."""
        yield self.device_table.access(Kind.WRITE, source_id, source_id)
        yield from self.device_table.word_reads(source_id)

    def tables_now(self, source_id: int) -> Tables | None:
        """Return the tables that would be found now for a device, without a step."""
        cached = self.device_table.entries.get(source_id)
        return self.device_table.tables_of(cached[0] if cached else self.device_table.entry_seen(source_id))

    def has_lost_tables(self, request: Request) -> bool:
        """Whether the device's entry that a request has read was dropped since."""
        return is_void(self, request)

    def is_void(self, request: Request) -> bool:
        """Whether a walk may not fill the IOTLB any more: an invalidation has dropped a word that it had read."""
        if self.device_table.is_void(request, self.format.device_level):
            return True
        if self.requests.has_dropped_start(request) and self.is_from_another_root(request):
            return True
        return self.requests.is_void(request, self.was_replaced)

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

    def device_reads(self, source_id: int) -> list[tuple[Space, int]]:
        """Return the objects that decide which tables translate for a device: the words of its entry."""
        return self.device_table.reads(source_id)

    def may_refuse(self, source_id: int) -> bool:
        """Whether the unit may refuse a device's requests by a cached entry that aborts and has been replaced."""
        _, *replaced = self.device_table.lifetimes(source_id)
        return any(self.device_table.tables_of(entry) is None and until == inf for entry, _, until in replaced)
