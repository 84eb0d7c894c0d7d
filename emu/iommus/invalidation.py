"""The steps of an invalidation: it begins, drops the entries in its range, and completes.

Each is a step of its own, and submitting is another, so a CPU that has submitted an invalidation cannot assume anything
yet. The engine of the vendor's unit decides their order.
"""

from bisect import insort
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs

from emu.engine import Access, Kind, Operation, Wait
from emu.iommus.iotlb import DFN_MAX, IotlbEntry
from emu.iommus.requests import Removal, Request
from emu.iommus.unit import UnitState
from emu.iommus.walk_cache import WalkCache
from emu.memory import TABLE_WORDS, WORDS, Memory
from emu.units import Dfn


@attrs.frozen
class Range:
    """The range of an invalidation: 2^order dfns of a tag, all dfns of a tag, or all dfns of all tags.

    Attributes:
        slot: the number of its slot in the ring.
        leaf_only: cached table entries may stay.
    """

    slot: int
    tag: int | None
    dfn: Dfn
    order: int | None
    leaf_only: bool

    @property
    def last(self) -> Dfn:
        """The last dfn."""
        return Dfn(DFN_MAX) if self.order is None else Dfn(self.dfn + (1 << self.order) - 1)

    def keys(self) -> dict[str, Any]:
        """Return the range as keys of an event."""
        keys: dict[str, Any] = {"slot": self.slot, "tag": "all" if self.tag is None else self.tag}
        if self.leaf_only:
            keys["leaf_only"] = True
        return keys if self.order is None else {**keys, "dfn": self.dfn, "page_order": self.order}


class Begin(Operation[int]):
    """Begin an invalidation, which drops values replaced by stores that walkers could see before this step.

    The step drains the write buffer, as every invalidation does (section 6.8).
    """

    __slots__ = ("keys", "memory")

    event = "invalidate.begin"
    stores = False  # draining the buffer changes what walkers read, not what CPUs do

    def __init__(self, memory: Memory, keys: Mapping[str, Any]) -> None:
        self.memory = memory
        self.keys = keys

    def accesses(self) -> Iterable[Access]:
        return (Access(WORDS, *TABLE_WORDS, Kind.WRITE if self.memory.has_write_buffer else Kind.READ),)

    def perform(self, step: int) -> int:
        self.memory.drain(step)
        return step

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, self.keys


class Remove(Operation[list[Request]]):
    """Drop the entries in a range, void the walks that hold one, and return the requests to drain."""

    __slots__ = ("draining", "dropped", "over_flushed", "range", "start", "tables_dropped", "unit")

    event = "iotlb.invalidate"

    def __init__(self, unit: UnitState, covered: Range, start: int) -> None:
        self.unit = unit
        self.range = covered
        self.start = start
        self.dropped: list[IotlbEntry] = []
        self.over_flushed = 0
        self.tables_dropped = 0
        self.draining = 0

    @property
    def walk_cache(self) -> WalkCache | None:
        """The cache of table entries, if there is one and the invalidation drops them."""
        return None if self.range.leaf_only else self.unit.walk_cache

    def accesses(self) -> Iterable[Access]:
        iotlb, covered = self.unit.iotlb, self.range
        yield iotlb.access(covered.dfn, covered.last, Kind.COMMUTE)
        for _, order, first, _ in iotlb.matching(covered.tag, covered.dfn, covered.last):
            if order:
                yield iotlb.access(first, first + (1 << order) - 1, Kind.COMMUTE)
        yield from iotlb.room_access(Kind.COMMUTE)
        yield from iotlb.void_accesses(covered.dfn, covered.last)
        if self.walk_cache is not None:
            yield from self.walk_cache.drop_accesses(covered.dfn, covered.last)

    def perform(self, step: int) -> list[Request]:
        unit, covered = self.unit, self.range
        dfns = (covered.tag, covered.dfn, covered.last)
        self.dropped = dropped = unit.iotlb.invalidate(*dfns)
        valid = [one for one in dropped if not any(read.was_replaced(unit.memory, self.start) for read in one.reads)]
        self.over_flushed = len(valid)
        unit.iotlb.count_dropped(dropped, valid)
        if self.walk_cache is not None:
            self.tables_dropped = self.walk_cache.invalidate(*dfns)
        insort(unit.requests.removals, Removal(self.start, *dfns, covered.leaf_only, step), key=lambda one: one.start)
        translated = unit.requests.translated(*dfns)
        self.draining = len(translated)
        return translated

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        done = {"removed": len(self.dropped), "over_flushed": self.over_flushed}
        if self.unit.walk_cache is not None:
            done["tables_removed"] = self.tables_dropped
        return self.event, {"iommu": self.unit.name, **self.range.keys(), **done, "draining": self.draining}


class Complete(Operation[None]):
    """Complete an IOTLB invalidation: from now on the ledger counts it, as of its start."""

    __slots__ = ("range", "start", "unit")

    event = "invalidate.complete"

    def __init__(self, unit: UnitState, covered: Range, start: int) -> None:
        self.unit = unit
        self.range = covered
        self.start = start

    def accesses(self) -> Iterable[Access]:
        ledger, covered = self.unit.ledger, self.range
        yield ledger.access(covered.tag, covered.dfn, covered.last, Kind.COMMUTE)
        if not covered.leaf_only:
            yield from ledger.drop_accesses(covered.tag, covered.dfn, covered.last)

    def perform(self, step: int) -> None:
        covered = self.range
        self.unit.ledger.complete(self.start, covered.tag, covered.dfn, covered.order, leaf_only=covered.leaf_only)

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"iommu": self.unit.name, **self.range.keys(), "began": self.start}


@attrs.define
class Begun:
    """An invalidation of translations that has begun.

    Attributes:
        drains: whether the invalidation must drain a request before it completes.
        has_dropped: the entries in its range are dropped.
        to_drain: the requests that must be committed before it completes.
    """

    unit: UnitState
    range: Range
    start: int
    drains: Callable[[Request], bool]
    has_dropped: bool = False
    to_drain: list[Request] = attrs.field(factory=list)

    async def drop(self) -> None:
        """Drop the entries in its range, void the walks that could still fill with one, and find what to drain.

        A synchronous unit cannot wait: a request that had to be drained begins again instead.
        """
        self.has_dropped = True
        for request in await Remove(self.unit, self.range, self.start):
            if not self.drains(request):
                request.is_undrained = True
            elif self.unit.settings.synchronous:
                request.recall()
            else:
                self.to_drain.append(request)

    async def complete(self) -> None:
        """Complete the invalidation, after the requests that it must drain."""
        if not self.has_dropped:
            await self.drop()
        for request in self.to_drain:
            await Wait(request.committed)
        await Complete(self.unit, self.range, self.start)
