"""The walk of a VT-d unit: context cache or root and context entry, then one table word a level (section 3.6)."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from emu.engine import Access, Kind, Operation
from emu.iommus.iotlb import IotlbEntry
from emu.iommus.requests import Request, TableRead, was_replaced
from emu.iommus.translation import Translation, entry_address, translated_frame
from emu.iommus.vtd.contexts import context_entry_address, root_entry_address
from emu.iommus.vtd.formats import ContextEntry, decode_context_entry, decode_pte, decode_root_entry
from emu.memory import WORDS, Memory, word_number
from emu.units import WORD_BYTES, Maddr

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
        low, high = self.memory.peek(self.address), self.memory.peek(self.address + WORD_BYTES)
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
        self.value = self.memory.peek(self.address)
        entry = decode_pte(self.value, self.level)
        is_leaf = entry is not None and entry.is_leaf
        self.request.reads.append(TableRead(self.level, self.address, step, is_leaf))
        return self.value

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        keys = {"dfn": self.request.dfn, "table_level": self.level, "address": self.address, "value": self.value}
        return "walk.read", keys


class ContextLookup(Operation[ContextEntry | None]):
    """Look the device up in the context cache."""

    __slots__ = ("found", "source_id", "unit")

    def __init__(self, unit: "VtdUnit", source_id: int) -> None:
        self.unit = unit
        self.source_id = source_id
        self.found: ContextEntry | None = None

    def accesses(self) -> Iterable[Access]:
        return (self.unit.contexts.access(Kind.READ, self.source_id, self.source_id),)

    def perform(self, step: int) -> ContextEntry | None:
        self.found = self.unit.contexts.entries.get(self.source_id)
        return self.found

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        hit = "context.miss" if self.found is None else "context.hit"
        return hit, {"iommu": self.unit.name, "source_id": self.source_id}


class ContextFill(Operation[None]):
    """Cache a context entry, unless it was replaced before a context invalidation that has completed since."""

    __slots__ = ("entry", "reads", "source_id", "unit", "was_filled")

    def __init__(
        self, unit: "VtdUnit", source_id: int, entry: ContextEntry, reads: tuple[tuple[int, int], ...]
    ) -> None:
        self.unit = unit
        self.source_id = source_id
        self.entry = entry
        self.reads = reads
        self.was_filled = False

    def accesses(self) -> Iterable[Access]:
        return (self.unit.contexts.access(Kind.WRITE, self.source_id, self.source_id),)

    def perform(self, step: int) -> None:
        since = self.unit.contexts.since(self.source_id, self.entry.did)
        self.was_filled = not any(was_replaced(self.unit.memory, word, read, since) for word, read in self.reads)
        if self.was_filled:
            self.unit.contexts.entries[self.source_id] = self.entry

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        keys = {"iommu": self.unit.name, "source_id": self.source_id, "tag": self.entry.did}
        return "context.fill" if self.was_filled else "context.void", keys


async def walk_context(unit: "VtdUnit", source_id: int) -> ContextEntry | None:
    """Return the context entry of a device, from the cache or the tables; None where the device has none."""
    entry = await ContextLookup(unit, source_id)
    if entry is not None:
        return entry
    address = root_entry_address(unit.contexts.root_table, source_id)
    root = ReadEntry(unit.memory, address, "walk.root", source_id)
    table = decode_root_entry(await root)
    reads: list[tuple[int, int]] = [(address, unit.trace.step)]
    if table is None:
        return None
    address = context_entry_address(table, source_id)
    entry = decode_context_entry(await ReadEntry(unit.memory, address, "walk.context", source_id))
    if entry is not None:
        reads += [(address, unit.trace.step), (address + WORD_BYTES, unit.trace.step)]
        await ContextFill(unit, source_id, entry, tuple(reads))
    return entry


async def walk(unit: "VtdUnit", request: Request) -> IotlbEntry | None:
    """Walk the tables for a request; return the entry that may be cached, None where the request faults."""
    request.begin_walk()
    context = await walk_context(unit, request.source_id)
    if context is None:
        return None
    request.tag = context.did
    table, read, write = context.root, True, True
    for level in range(context.levels, 0, -1):
        word = await ReadTable(unit.memory, request, entry_address(table, request.dfn, level), level)
        entry = decode_pte(word, level)
        if entry is None:
            return None
        read, write = read and entry.read, write and entry.write
        if entry.is_leaf:
            translation = Translation(word, level, read, write)
            mfn = translated_frame(entry, request.dfn, level)
            reads = tuple(request.reads)
            return IotlbEntry(request.source_id, context.did, request.dfn, mfn, translation, reads)
        table = entry.address
    return None
