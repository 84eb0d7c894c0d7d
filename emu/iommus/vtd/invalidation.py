"""The invalidation engine (section 6.5.2): it takes descriptors from the queue and executes them.

Submitting, beginning, removing and completing are steps of their own, so a CPU that has submitted an invalidation
cannot assume anything yet. The engine executes descriptors in order and one at a time. The manual allows other orders
too (6.5.2.12); in this one every wait descriptor fences, whether it asks for that (FN) or not.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from emu.engine import Access, Kind, Operation, Wait
from emu.engine.atomic import InlineCoroutine
from emu.iommus.iotlb import DFN_MAX, IotlbEntry
from emu.iommus.requests import Removal, Request
from emu.iommus.vtd.contexts import sources_covered
from emu.iommus.vtd.formats import ContextInvalidation, Descriptor, Granularity, IotlbInvalidation, WaitDescriptor
from emu.iommus.vtd.queue import Fetch
from emu.iommus.vtd.state import VtdState
from emu.memory import TABLE_WORDS, WORDS, Memory, Store
from emu.units import Dfn


@attrs.frozen
class Range:
    """What an invalidation covers: 2^order dfns of a tag, all dfns of a tag, or all dfns of all tags.

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
        """Return how an event names it."""
        keys: dict[str, Any] = {"slot": self.slot, "tag": "all" if self.tag is None else self.tag}
        return keys if self.order is None else {**keys, "dfn": self.dfn, "page_order": self.order}


class Begin(Operation[int]):
    """Begin an invalidation. It removes what was replaced by stores that walkers could see before this step.

    It drains the write buffer, as every invalidation does (section 6.8).
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
        unit.requests.removals.append(Removal(self.start, *dfns, covered.leaf_only))
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


async def engine(unit: VtdState) -> None:
    """Execute descriptors for ever, in order; stop at one that is not valid (FSTS.IQE, section 6.5.2.14)."""
    slot = 0
    while True:
        fetch = Fetch(unit.queue, slot, unit.memory)
        await fetch
        match fetch.descriptor:
            case IotlbInvalidation() as descriptor:
                await invalidate_iotlb(unit, slot, descriptor)
            case ContextInvalidation() as descriptor:
                start = await Begin(unit.memory, {"iommu": unit.name, "slot": slot, "descriptor": "context"})
                await RemoveContexts(unit, descriptor, start)
            case WaitDescriptor() as descriptor:
                await complete_wait(unit, descriptor)
            case None:
                return
        slot += 1


class SynchronousEngine:
    """Executes descriptors in the step that posts them. Not architectural; it saves an agent."""

    def __init__(self, unit: VtdState) -> None:
        self.unit = unit
        self.inline: InlineCoroutine | None = None

    def accesses(self, slots: range) -> Iterable[Access]:
        """Return all that executing these slots may touch."""
        unit = self.unit
        for slot in slots:
            for operation in operations(unit, slot, unit.queue.descriptor(slot, unit.memory)):
                yield from operation.accesses()

    def execute(self, step: int) -> None:
        """Execute whatever is posted."""
        if self.inline is None:
            self.inline = InlineCoroutine(engine(self.unit), self.unit.trace)
        self.inline.perform(step)


def operations(unit: VtdState, slot: int, descriptor: Descriptor | None) -> Iterator[Operation[Any]]:
    """Yield the operations that execute a descriptor, as if they were begun at once."""
    match descriptor:
        case IotlbInvalidation():
            covered = covered_range(unit, slot, descriptor)
            yield Begin(unit.memory, {})
            yield Remove(unit, covered, 0)
            yield Complete(unit, covered, 0)
        case ContextInvalidation():
            yield Begin(unit.memory, {})
            yield RemoveContexts(unit, descriptor, 0)
        case WaitDescriptor():
            yield Store(unit.memory, descriptor.status_address, descriptor.status_data, 32, "queue.status", {})


async def invalidate_iotlb(unit: VtdState, slot: int, descriptor: IotlbInvalidation) -> None:
    """Execute one IOTLB invalidation (sections 6.5.2.3, 6.5.3.3 and 6.5.4)."""
    covered = covered_range(unit, slot, descriptor)
    # 1. It begins: it removes what was replaced by stores that walkers could see before this (section 6.5.3.6).
    start = await Begin(unit.memory, {"iommu": unit.name, **covered.keys()})
    # 2. Cached entries in its range are dropped, and walks that could still fill with one are void (section 6.5.3.3).
    for request in await Remove(unit, covered, start):
        # 3. Requests that were translated by such an entry are drained if DR or DW asks for it (section 6.5.4).
        is_drained = descriptor.drain_writes if request.is_write else descriptor.drain_reads
        if not (unit.settings.drain and is_drained):
            request.is_left = True
        elif unit.settings.synchronous:
            request.recall()
        else:
            await Wait(request.committed)
    # 4. It has completed: a wait descriptor behind it may complete now (section 6.5.2.12).
    await Complete(unit, covered, start)


def covered_range(unit: VtdState, slot: int, descriptor: IotlbInvalidation) -> Range:
    """Return what an invalidation covers. If its address mask is too wide for the unit, that is the whole domain."""
    if descriptor.granularity is Granularity.GLOBAL:
        return Range(slot, None, Dfn(0), None, descriptor.leaf_only)
    if descriptor.granularity is Granularity.DOMAIN or descriptor.address_mask > unit.settings.mamv:
        return Range(slot, descriptor.did, Dfn(0), None, descriptor.leaf_only)
    order = descriptor.address_mask
    return Range(slot, descriptor.did, Dfn(descriptor.dfn >> order << order), order, descriptor.leaf_only)


async def complete_wait(unit: VtdState, descriptor: WaitDescriptor) -> None:
    """Execute a wait descriptor: everything before it has completed, so write the status (section 6.5.2.8)."""
    if descriptor.status_write:
        keys = {"iommu": unit.name}
        await Store(unit.memory, descriptor.status_address, descriptor.status_data, 32, "queue.status", keys)
