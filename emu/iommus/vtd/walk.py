"""The walk of a VT-d unit: context cache or root and context entry, then page tables (sections 3.4.2 and 3.7).

The comments number the steps of a walk in the order of these sections.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from emu.engine import Access, Kind, Operation
from emu.iommus.iotlb import IotlbEntry
from emu.iommus.paths import Tables
from emu.iommus.requests import Request, TableRead
from emu.iommus.vtd.contexts import CachedContext, context_entry_address, did_of, root_entry_address
from emu.iommus.vtd.formats import ContextEntry, decode_context_entry, decode_root_entry
from emu.iommus.vtd.state import VtdState
from emu.iommus.walk import walk_tables, words_walked
from emu.iommus.walk_cache import ReachedTable
from emu.memory import WORDS, Memory, word_number
from emu.units import WORD_BYTES, Maddr


class ReadEntry(Operation[int]):
    """Read a 128-bit root or context entry."""

    __slots__ = ("address", "label", "memory", "source_id", "value")

    def __init__(self, memory: Memory, address: Maddr, label: str, source_id: int) -> None:
        self.memory = memory
        self.address = address
        self.label = label
        self.source_id = source_id
        self.value = 0

    def accesses(self) -> Iterable[Access]:
        first = word_number(self.address)
        return (Access(WORDS, first, first + 1, Kind.READ),)

    def perform(self, step: int) -> int:
        low, high = self.memory.seen(self.address), self.memory.seen(self.address + WORD_BYTES)
        self.value = low | high << 64
        return self.value

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.label, {"source_id": self.source_id, "address": self.address, "value": f"{self.value:#034x}"}


class ContextLookup(Operation[CachedContext | None]):
    """Look the device up in the context cache."""

    __slots__ = ("found", "source_id", "unit")

    def __init__(self, unit: VtdState, source_id: int) -> None:
        self.unit = unit
        self.source_id = source_id
        self.found: CachedContext | None = None

    def accesses(self) -> Iterable[Access]:
        return (self.unit.contexts.access(Kind.READ, self.source_id, self.source_id),)

    def perform(self, step: int) -> CachedContext | None:
        self.found = self.unit.contexts.entries.get(self.source_id)
        return self.found

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        hit = "context.miss" if self.found is None else "context.hit"
        return hit, {"iommu": self.unit.name, "source_id": self.source_id}


class ContextFill(Operation[bool]):
    """Cache a context entry, unless an invalidation has completed that began after the entry was replaced."""

    __slots__ = ("entry", "reads", "source_id", "unit", "was_filled")

    def __init__(
        self, unit: VtdState, source_id: int, entry: ContextEntry | None, reads: tuple[TableRead, ...]
    ) -> None:
        self.unit = unit
        self.source_id = source_id
        self.entry = entry
        self.reads = reads
        self.was_filled = False

    def accesses(self) -> Iterable[Access]:
        return (self.unit.contexts.access(Kind.WRITE, self.source_id, self.source_id),)

    def perform(self, step: int) -> bool:
        since = self.unit.contexts.since(self.source_id, did_of(self.entry))
        self.was_filled = not any(read.was_replaced(self.unit.memory, since) for read in self.reads)
        if self.was_filled:
            self.unit.contexts.entries[self.source_id] = (self.entry, self.reads)
        return self.was_filled

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        keys = {"iommu": self.unit.name, "source_id": self.source_id, "tag": did_of(self.entry)}
        return "context.fill" if self.was_filled else "context.void", keys


async def walk_context(unit: VtdState, request: Request) -> ContextEntry | None:
    """Return the context entry of a request's device, from the cache or the tables; None if it has none."""
    source_id, level = request.source_id, unit.format.device_level
    order = unit.format.orders[level]
    while True:
        # 1. The context cache is looked up by source-id (section 6.2.2).
        cached = await ContextLookup(unit, source_id)
        if cached is not None:
            entry, reads = cached
            request.reads.extend(reads)
            return entry
        # 2. The bus selects a root entry; one that is not present blocks the request (sections 3.4.2, 9.1).
        address = root_entry_address(unit.contexts.root_table, source_id)
        table = decode_root_entry(await ReadEntry(unit.memory, address, "walk.root", source_id))
        found, decoded = [TableRead(level, order, address, unit.trace.step, is_leaf=False)], None
        if table is not None:
            # 3. Device and function select a context entry of that table (sections 3.4.2, 9.3).
            address = context_entry_address(table, source_id)
            decoded = decode_context_entry(await ReadEntry(unit.memory, address, "walk.context", source_id))
            words = (address, address + WORD_BYTES)
            found += [TableRead(level, order, word, unit.trace.step, is_leaf=False) for word in words]
        if decoded is None and not unit.contexts.caches_non_present:
            return None
        # 4. The entry may be cached, under its domain id, unless it was invalidated meanwhile (section 6.2.2).
        if await ContextFill(unit, source_id, decoded, tuple(found)):
            request.reads.extend(found)
            return decoded


async def walk(unit: VtdState, request: Request, start: ReachedTable | None) -> IotlbEntry | None:
    """Walk the tables for a request; return the entry that may be cached, None for a fault that may not.

    Args:
        start: the cached table entry at which the walk starts; None if it starts at the device's context entry.
    """
    request.begin_walk(unit.trace.step)
    if start is not None:
        # A cached table entry stands for all that was read before it (section 6.2.5).
        start.go_on(request)
        return await walk_below(unit, request, start)
    # Steps 1 to 4 find the context entry.
    context = await walk_context(unit, request)
    if context is None:
        return None
    # 5. The address must lie within the width that AW gives (section 3.6).
    if not 0 <= request.dfn < unit.format.reach(context.levels):
        return None
    # 6. One word a level is read, from the second-level table that the context entry names (section 3.7).
    request.tag = context.did
    return await walk_below(unit, request, tables_of(context))


async def walk_below(unit: VtdState, request: Request, start: Tables | ReachedTable) -> IotlbEntry | None:
    """Walk the tables from a table on."""
    caches = unit.settings.caching_mode
    return await walk_tables(
        unit.memory, unit.format, request, start, caches_non_present=caches, walk_cache=unit.walk_cache
    )


def tables_of(context: ContextEntry) -> Tables:
    """Return the tables that a context entry names, with its domain id as the tag."""
    return Tables(context.did, context.root, context.levels)


def walk_accesses(unit: VtdState, request: Request, start: ReachedTable | None) -> Iterator[Access]:
    """Yield the accesses of a walk that would be made now."""
    if unit.walk_cache is not None:
        yield from unit.walk_cache.block_accesses(request, start)
    if start is not None:
        yield from words_walked(unit.memory, unit.format, start.tables, request.dfn)
        return
    source_id, memory, contexts = request.source_id, unit.memory, unit.contexts
    yield contexts.access(Kind.WRITE, source_id, source_id)
    cached = contexts.entries.get(source_id)
    address = root_entry_address(contexts.root_table, source_id)
    yield from ReadEntry(memory, address, "", source_id).accesses()
    table = decode_root_entry(memory.seen(address))
    if table is not None:
        address = context_entry_address(table, source_id)
        yield from ReadEntry(memory, address, "", source_id).accesses()
        context = decode_context_entry(memory.seen(address) | memory.seen(address + WORD_BYTES) << 64)
        context = cached[0] if cached else context
        if context is not None:
            yield from words_walked(memory, unit.format, tables_of(context), request.dfn)
