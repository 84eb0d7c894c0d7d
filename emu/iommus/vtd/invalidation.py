"""The steps of an invalidation: it begins, drops the entries in its range, and completes.

Each is a step of its own, and submitting is another, so a CPU that has submitted an invalidation cannot assume anything
yet. engine.py decides their order.
"""

from bisect import insort
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from emu.engine import Access, Kind, Operation
from emu.iommus.iotlb import DFN_MAX, IotlbEntry
from emu.iommus.requests import Removal, Request
from emu.iommus.vtd.contexts import sources_covered
from emu.iommus.vtd.formats import ContextInvalidation
from emu.iommus.vtd.state import VtdState
from emu.memory import TABLE_WORDS, WORDS, Memory
from emu.units import Dfn


@attrs.frozen
class Range:
    """The range of an invalidation: 2^order dfns of a tag, all dfns of a tag, or all dfns of all tags.

    Attributes:
        slot: the number of its descriptor.
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

    __slots__ = ("draining", "dropped", "range", "start", "unit")

    event = "iotlb.invalidate"

    def __init__(self, unit: VtdState, covered: Range, start: int) -> None:
        self.unit = unit
        self.range = covered
        self.start = start
        self.dropped: list[IotlbEntry] = []
        self.draining = 0

    def accesses(self) -> Iterable[Access]:
        iotlb, covered = self.unit.iotlb, self.range
        yield iotlb.access(covered.dfn, covered.last, Kind.COMMUTE)
        for _, order, first, _ in iotlb.matching(covered.tag, covered.dfn, covered.last):
            if order:
                yield iotlb.access(first, first + (1 << order) - 1, Kind.COMMUTE)
        yield from iotlb.room_access(Kind.COMMUTE)
        yield from iotlb.void_accesses(covered.dfn, covered.last)

    def perform(self, step: int) -> list[Request]:
        unit, covered = self.unit, self.range
        dfns = (covered.tag, covered.dfn, covered.last)
        self.dropped = unit.iotlb.invalidate(*dfns)
        insort(unit.requests.removals, Removal(self.start, *dfns, covered.leaf_only), key=lambda one: one.start)
        translated = unit.requests.translated(*dfns)
        self.draining = len(translated)
        return translated

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        memory = self.unit.memory
        valid = [
            entry for entry in self.dropped if not any(read.was_replaced(memory, self.start) for read in entry.reads)
        ]
        done = {"removed": len(self.dropped), "over_flushed": len(valid)}
        return self.event, {"iommu": self.unit.name, **self.range.keys(), **done, "draining": self.draining}


class Complete(Operation[None]):
    """Complete an IOTLB invalidation: from now on the ledger counts it, as of its start."""

    __slots__ = ("range", "start", "unit")

    event = "invalidate.complete"

    def __init__(self, unit: VtdState, covered: Range, start: int) -> None:
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


class RemoveContexts(Operation[None]):
    """Drop cached context entries, and count the invalidation as complete."""

    __slots__ = ("descriptor", "removed", "start", "unit")

    event = "context.invalidate"

    def __init__(self, unit: VtdState, descriptor: ContextInvalidation, start: int) -> None:
        self.unit = unit
        self.descriptor = descriptor
        self.start = start
        self.removed = 0

    def accesses(self) -> Iterable[Access]:
        contexts, sources = self.unit.contexts, sources_covered(self.descriptor)
        return contexts.access(Kind.COMMUTE, *sources), Access(contexts.completions, *sources, Kind.COMMUTE)

    def perform(self, step: int) -> None:
        self.removed = self.unit.contexts.invalidate(self.descriptor, self.start, step)

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"iommu": self.unit.name, "removed": self.removed, "began": self.start}
