"""The walk of an AMD-Vi unit: device table entry, cached translation, page tables (sections 2.2.2 and 2.2.3).

Cached translations are found by domain id and address, so the device's entry comes first. The comments number the
steps of a walk.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from emu.engine import Access, Kind, Operation
from emu.iommus.amd.device_table import ABORT, ENTRY_WORDS, CachedEntry
from emu.iommus.amd.formats import DeviceTableEntry, decode_device_entry
from emu.iommus.amd.state import AmdState
from emu.iommus.iotlb import IotlbEntry, Lookup
from emu.iommus.pass_through import PassThrough
from emu.iommus.paths import UNTRANSLATED, Tables
from emu.iommus.requests import Request, TableRead
from emu.iommus.walk import walk_tables, words_walked
from emu.iommus.walk_cache import ReachedTable
from emu.memory import WORDS, word_number
from emu.units import Maddr


def tables_of(entry: DeviceTableEntry) -> Tables | None:
    """Return the tables that a device's entry names; none of a level where requests pass through, None for an abort."""
    if not entry.is_valid:
        return Tables(UNTRANSLATED, Maddr(0), 0)
    if not entry.translates:
        return None
    tag, root = (entry.domain_id, entry.root) if entry.mode else (UNTRANSLATED, Maddr(0))
    return Tables(tag, root, entry.mode, read=entry.read, write=entry.write)


class DeviceLookup(Operation[CachedEntry | None]):
    """Look the device's entry up in the cache of device table entries."""

    __slots__ = ("found", "source_id", "unit")

    def __init__(self, unit: AmdState, source_id: int) -> None:
        self.unit = unit
        self.source_id = source_id
        self.found: CachedEntry | None = None

    def accesses(self) -> Iterable[Access]:
        return (self.unit.device_table.access(Kind.READ, self.source_id, self.source_id),)

    def perform(self, step: int) -> CachedEntry | None:
        self.found = self.unit.device_table.entries.get(self.source_id)
        return self.found

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        hit = "device_entry.miss" if self.found is None else "device_entry.hit"
        return hit, {"iommu": self.unit.name, "source_id": self.source_id}


class ReadDeviceEntry(Operation[int]):
    """Read the 256 bits of a device's entry.

    Translation depends on the first 128 bits only, so a unit that reads the entry in two halves shows the same.
    """

    __slots__ = ("source_id", "unit", "value")

    event = "walk.device_entry"

    def __init__(self, unit: AmdState, source_id: int) -> None:
        self.unit = unit
        self.source_id = source_id
        self.value = 0

    def accesses(self) -> Iterable[Access]:
        first = word_number(self.unit.device_table.address(self.source_id))
        return (Access(WORDS, first, first + ENTRY_WORDS - 1, Kind.READ),)

    def perform(self, step: int) -> int:
        self.value = self.unit.device_table.seen(self.source_id)
        return self.value

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        address = self.unit.device_table.address(self.source_id)
        return self.event, {"source_id": self.source_id, "address": address, "value": f"{self.value:#066x}"}


class DeviceFill(Operation[bool]):
    """Cache a device's entry, unless an invalidation has completed that began after the entry was replaced."""

    __slots__ = ("entry", "reads", "source_id", "unit", "was_filled")

    def __init__(self, unit: AmdState, source_id: int, entry: DeviceTableEntry, reads: tuple[TableRead, ...]) -> None:
        self.unit = unit
        self.source_id = source_id
        self.entry = entry
        self.reads = reads
        self.was_filled = False

    def accesses(self) -> Iterable[Access]:
        return (self.unit.device_table.access(Kind.WRITE, self.source_id, self.source_id),)

    def perform(self, step: int) -> bool:
        table = self.unit.device_table
        since = table.since(self.source_id)
        self.was_filled = not any(read.was_replaced(self.unit.memory, since) for read in self.reads)
        if self.was_filled:
            table.entries[self.source_id] = (self.entry, self.reads)
        return self.was_filled

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        keys = {"iommu": self.unit.name, "source_id": self.source_id, "tag": self.entry.domain_id}
        return "device_entry.fill" if self.was_filled else "device_entry.void", keys


class LookupByTag(Lookup):
    """Look a request's page up by domain id, unless the device's entry that said the id has been dropped since.

    Attributes:
        is_void: the entry has been dropped.
    """

    __slots__ = ("is_void", "unit")

    saved_as = Lookup.__name__

    def __init__(self, unit: AmdState, request: Request) -> None:
        super().__init__(unit.iotlb, request)
        self.unit = unit
        self.is_void = False

    def accesses(self) -> Iterable[Access]:
        yield from super().accesses()
        yield from self.iotlb.walk_accesses(self.request.dfn, self.request.reads)

    def perform(self, step: int) -> IotlbEntry | None:
        self.is_void = is_void(self.unit, self.request)
        return None if self.is_void else super().perform(step)

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        event, keys = super().describe()
        return ("walk.void" if self.is_void else event), keys


def is_void(unit: AmdState, request: Request) -> bool:
    """Whether the device's entry that a request has read was dropped since."""
    return unit.device_table.is_void(request, unit.format.device_level)


async def find_device_entry(unit: AmdState, request: Request) -> DeviceTableEntry:
    """Return the entry of a request's device, from the cache or the table; what is not legal aborts the request."""
    source_id, level = request.source_id, unit.format.device_level
    order = unit.format.orders[level]
    while True:
        # 1. The cache of device table entries is looked up by device id (section 2.2.2).
        cached = await DeviceLookup(unit, source_id)
        if cached is not None:
            entry, reads = cached
            request.reads.extend(reads)
            return entry
        # 2. The device id selects an entry, which is read whole.
        entry = decode_device_entry(await ReadDeviceEntry(unit, source_id)) or ABORT
        words = unit.device_table.words(source_id)
        found = tuple(TableRead(level, order, word, unit.trace.step, is_leaf=False) for word in words)
        # 3. The entry may be cached, unless it was invalidated meanwhile (section 2.4.2).
        if await DeviceFill(unit, source_id, entry, found):
            request.reads.extend(found)
            return entry


async def look_up(unit: AmdState, request: Request) -> IotlbEntry | None:
    """Find the tables of a request's device, and the cached translation; None if there is none, or the device has none.

    The tables are left in `request.tables`.
    """
    while True:
        request.begin_walk(unit.trace.step)
        # Steps 1 to 3 find the device's entry.
        request.tables = tables_of(await find_device_entry(unit, request))
        if request.tables is None:
            return None
        if not request.tables.levels:
            # 4. Without translation the address is that of the memory.
            request.user = request.source_id
            passed = await PassThrough(unit.iotlb, request, request.tables, partial(is_void, unit))
            if passed is not None:
                return passed
            continue
        # 5. The cached translations are looked up by the entry's domain id and the address.
        request.user = request.tag = request.tables.tag
        lookup = LookupByTag(unit, request)
        await lookup
        if not lookup.is_void:
            return lookup.entry


async def walk(unit: AmdState, request: Request, start: ReachedTable | None) -> IotlbEntry | None:
    """Walk the tables for a request; return the entry that may be cached, None for a fault that may not.

    Args:
        start: the cached table entry at which the walk starts; None if it starts at the root table.
    """
    tables = request.tables
    # 6. The address must lie within the reach of the mode.
    if tables is None or not 0 <= request.dfn < unit.format.reach(tables.levels):
        return None
    if start is not None:
        start.go_on(request)
    # 7. One word a level is read, from the table that the device's entry names, or a cached entry (section 2.2.3).
    caches, cache = unit.settings.np_cache, unit.walk_cache
    return await walk_tables(
        unit.memory, unit.format, request, start or tables, caches_non_present=caches, walk_cache=cache
    )


def look_up_accesses(unit: AmdState, request: Request) -> Iterator[Access]:
    """Yield the accesses of a lookup that would be made now."""
    source_id, table = request.source_id, unit.device_table
    yield table.access(Kind.WRITE, source_id, source_id)
    yield from ReadDeviceEntry(unit, source_id).accesses()
    yield Access.to(unit.iotlb.walk_space(unit.format.device_level), 0, Kind.READ)
    cached = table.entries.get(source_id)
    tables = tables_of(cached[0] if cached else (decode_device_entry(table.seen(source_id)) or ABORT))
    if tables is not None:
        yield unit.iotlb.access(request.dfn, request.dfn, Kind.READ, tables.tag if tables.levels else source_id)


def walk_accesses(unit: AmdState, request: Request, start: ReachedTable | None) -> Iterator[Access]:
    """Yield the accesses of a walk that would be made now."""
    tables = request.tables if start is None else start.tables
    if tables is not None:
        if unit.walk_cache is not None:
            yield from unit.walk_cache.block_accesses(request, start)
            # What it caches it caches only if the device's entry, which an earlier step has read, is not dropped.
            yield from unit.iotlb.walk_accesses(request.dfn, request.reads)
        yield from words_walked(unit.memory, unit.format, tables, request.dfn)
