"""The walk of a VT-d unit: context cache or root and context entry, then one table word a level (section 3.6)."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from emu.engine import Access, Kind, Operation
from emu.iommus.formats import FAULT, LEVEL_BITS, Translation, entry_address, translated_frame
from emu.iommus.iotlb import IotlbEntry
from emu.iommus.requests import CONTEXT_LEVEL, Request, TableRead
from emu.iommus.vtd.contexts import context_entry_address, root_entry_address
from emu.iommus.vtd.formats import ContextEntry, decode_context_entry, decode_pte, decode_root_entry
from emu.memory import WORDS, Memory, word_number
from emu.units import WORD_BYTES, Dfn, Maddr, Mfn

if TYPE_CHECKING:
    from emu.iommus.vtd.unit import VtdUnit


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


class ReadTable(Operation[int]):
    """Read one word of a second-level table, for a request."""

    __slots__ = ("address", "level", "memory", "request", "value")

    def __init__(self, memory: Memory, request: Request, address: Maddr, level: int) -> None:
        self.memory = memory
        self.request = request
        self.address = address
        self.level = level
        self.value = 0

    def accesses(self) -> Iterable[Access]:
        return (Access.to(WORDS, word_number(self.address), Kind.READ),)

    def perform(self, step: int) -> int:
        self.value = self.memory.seen(self.address)
        entry = decode_pte(self.value, self.level)
        is_leaf = entry is None or entry.is_leaf
        self.request.reads.append(TableRead(self.level, self.address, step, is_leaf))
        return self.value

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        keys = {"dfn": self.request.dfn, "table_level": self.level, "address": self.address, "value": self.value}
        return "walk.read", keys


class ContextLookup(Operation[tuple[ContextEntry, tuple[TableRead, ...]] | None]):
    """Look the device up in the context cache."""

    __slots__ = ("found", "source_id", "unit")

    def __init__(self, unit: "VtdUnit", source_id: int) -> None:
        self.unit = unit
        self.source_id = source_id
        self.found: tuple[ContextEntry, tuple[TableRead, ...]] | None = None

    def accesses(self) -> Iterable[Access]:
        return (self.unit.contexts.access(Kind.READ, self.source_id, self.source_id),)

    def perform(self, step: int) -> tuple[ContextEntry, tuple[TableRead, ...]] | None:
        self.found = self.unit.contexts.entries.get(self.source_id)
        return self.found

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        hit = "context.miss" if self.found is None else "context.hit"
        return hit, {"iommu": self.unit.name, "source_id": self.source_id}


class ContextFill(Operation[bool]):
    """Cache a context entry, unless it was replaced before a context invalidation that has completed since."""

    __slots__ = ("entry", "reads", "source_id", "unit", "was_filled")

    def __init__(self, unit: "VtdUnit", source_id: int, entry: ContextEntry, reads: tuple[TableRead, ...]) -> None:
        self.unit = unit
        self.source_id = source_id
        self.entry = entry
        self.reads = reads
        self.was_filled = False

    def accesses(self) -> Iterable[Access]:
        return (self.unit.contexts.access(Kind.WRITE, self.source_id, self.source_id),)

    def perform(self, step: int) -> bool:
        since = self.unit.contexts.since(self.source_id, self.entry.did)
        self.was_filled = not any(read.was_replaced(self.unit.memory, since) for read in self.reads)
        if self.was_filled:
            self.unit.contexts.entries[self.source_id] = (self.entry, self.reads)
        return self.was_filled

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        keys = {"iommu": self.unit.name, "source_id": self.source_id, "tag": self.entry.did}
        return "context.fill" if self.was_filled else "context.void", keys


async def walk_context(unit: "VtdUnit", request: Request) -> ContextEntry | None:
    """Return the context entry of a request's device, from the cache or the tables; None where it has none."""
    source_id = request.source_id
    while True:
        cached = await ContextLookup(unit, source_id)
        if cached is not None:
            entry, reads = cached
            request.reads.extend(reads)
            return entry
        address = root_entry_address(unit.contexts.root_table, source_id)
        table = decode_root_entry(await ReadEntry(unit.memory, address, "walk.root", source_id))
        found = [TableRead(CONTEXT_LEVEL, address, unit.trace.step, is_leaf=False)]
        if table is None:
            return None
        address = context_entry_address(table, source_id)
        decoded = decode_context_entry(await ReadEntry(unit.memory, address, "walk.context", source_id))
        if decoded is None:
            return None
        words = (address, address + WORD_BYTES)
        found += [TableRead(CONTEXT_LEVEL, word, unit.trace.step, is_leaf=False) for word in words]
        if await ContextFill(unit, source_id, decoded, tuple(found)):
            request.reads.extend(found)
            return decoded


def walk_accesses(unit: "VtdUnit", request: Request) -> Iterator[Access]:
    """Yield all that a walk made now may touch."""
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
            for level, address in path_of(memory, context, request.dfn):
                yield from ReadTable(memory, request, address, level).accesses()


def path_of(memory: Memory, context: ContextEntry, dfn: Dfn) -> Iterator[tuple[int, Maddr]]:
    """Yield the words that a walk of a context's tables reads now, each with its level."""
    table = context.root
    for level in range(context.levels, 0, -1):
        address = entry_address(table, dfn, level)
        yield level, address
        entry = decode_pte(memory.seen(address), level)
        if entry is None or entry.is_leaf:
            return
        table = entry.address


async def walk(unit: "VtdUnit", request: Request) -> IotlbEntry | None:
    """Walk the tables for a request; return the entry that may be cached, None where it faults and that may not be."""
    request.begin_walk(unit.trace.step)
    context = await walk_context(unit, request)
    if context is None:
        return None
    if not 0 <= request.dfn < 1 << LEVEL_BITS * context.levels:
        return None  # beyond what the tables reach (section 3.6)
    request.tag = context.did
    table, read, write = context.root, True, True
    for level in range(context.levels, 0, -1):
        word = await ReadTable(unit.memory, request, entry_address(table, request.dfn, level), level)
        entry = decode_pte(word, level)
        reads = tuple(request.reads)
        if entry is None:
            if not unit.settings.caching_mode:
                return None
            return IotlbEntry(request.source_id, context.did, request.dfn, Mfn(0), FAULT, reads)
        read, write = read and entry.read, write and entry.write
        if entry.is_leaf:
            translation = Translation(word, level, read, write)
            mfn = translated_frame(entry, request.dfn, level)
            return IotlbEntry(request.source_id, context.did, request.dfn, mfn, translation, reads)
        table = entry.address
    return None
