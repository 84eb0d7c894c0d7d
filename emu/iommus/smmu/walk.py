"""The walk of an SMMUv2: stream mapping and context bank, cached translation, page tables (IHI 0062, chapters 2 and 3).

Cached translations are found by VMID and address, so the stream's context comes first. The comments number the steps of
a walk.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from emu.engine import Access, Kind, Operation
from emu.iommus.iotlb import IotlbEntry, LookupByTag
from emu.iommus.pass_through import PassThrough
from emu.iommus.paths import Tables
from emu.iommus.requests import Request, TableRead
from emu.iommus.smmu.state import SmmuState
from emu.iommus.walk import walk_tables, words_walked
from emu.iommus.walk_cache import ReachedTable


class MatchStream(Operation[Tables | None]):
    """Read the registers that say which tables translate for a request; None if the request faults by them."""

    __slots__ = ("request", "tables", "unit")

    event = "stream.match"

    def __init__(self, unit: SmmuState, request: Request) -> None:
        self.unit = unit
        self.request = request
        self.tables: Tables | None = None

    def accesses(self) -> Iterable[Access]:
        return (self.unit.registers.access(Kind.READ),)

    def perform(self, step: int) -> Tables | None:
        unit, level = self.unit, self.unit.format.device_level
        self.tables, read = unit.registers.snapshot(self.request.source_id, unit.registers.value)
        order = unit.format.orders[level]
        self.request.reads += [TableRead(level, order, address, step, is_leaf=False) for address in read]
        return self.tables

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        keys: dict[str, Any] = {"iommu": self.unit.name, "source_id": self.request.source_id}
        if self.tables is None:
            return "stream.fault", keys
        return self.event, {**keys, "tag": self.tables.tag} if self.tables.levels else keys


async def look_up(unit: SmmuState, request: Request) -> IotlbEntry | None:
    """Find the tables of a request's stream, and the cached translation; None if there is none, or the stream faults.

    The tables are left in `request.tables`.
    """
    while True:
        request.begin_walk(unit.trace.step)
        # 1. The stream id selects a stream match register, its S2CR a context bank, and the bank the tables.
        request.tables = await MatchStream(unit, request)
        if request.tables is None:
            return None
        if not request.tables.levels:
            # 2. Without translation the address is that of the memory.
            request.user = request.source_id
            passed = await PassThrough(unit.iotlb, request, request.tables, unit.is_void)
            if passed is not None:
                return passed
            continue
        # 3. The cached translations are looked up by the bank's VMID and the address.
        request.user = request.tag = request.tables.tag
        lookup = LookupByTag(unit.iotlb, request, unit.is_void)
        await lookup
        if not lookup.was_void:
            return lookup.entry


async def walk(unit: SmmuState, request: Request, start: ReachedTable | None) -> IotlbEntry | None:
    """Walk the tables for a request; return the entry that may be cached, None for a fault.

    Args:
        start: the cached descriptor at which the walk starts; None if it starts at the highest table.
    """
    tables = request.tables
    # 4. The address must lie within the reach of the tables.
    if tables is None or not 0 <= request.dfn < unit.format.reach(tables.levels):
        return None
    if start is not None:
        start.go_on(request)
    # 5. One word a level is read, from the table that TTBR0 names, or from a cached descriptor.
    return await walk_tables(
        unit.memory, unit.format, request, start or tables, caches_non_present=False, walk_cache=unit.walk_cache
    )


def look_up_accesses(unit: SmmuState, request: Request) -> Iterator[Access]:
    """Yield the accesses of a lookup that would be made now."""
    yield unit.registers.access(Kind.READ)
    tables, _ = unit.registers.snapshot(request.source_id, unit.registers.value)
    yield Access.to(unit.iotlb.walk_space(unit.format.device_level), 0, Kind.READ)
    if tables is not None:
        user = tables.tag if tables.levels else request.source_id
        yield unit.iotlb.access(request.dfn, request.dfn, Kind.READ, user)


def walk_accesses(unit: SmmuState, request: Request, start: ReachedTable | None) -> Iterator[Access]:
    """Yield the accesses of a walk that would be made now."""
    tables = request.tables if start is None else start.tables
    if tables is not None:
        if unit.walk_cache is not None:
            yield from unit.walk_cache.block_accesses(request, start)
            # What it caches it caches only if its VMID was not invalidated since the registers were read.
            yield from unit.iotlb.walk_accesses(request.dfn, request.reads)
        yield from words_walked(unit.memory, unit.format, tables, request.dfn)
