"""The invalidation queue (section 6.5.2): a ring in memory, and its registers."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

import attrs

from emu.engine import Access, Kind, Latch, Operation, Space, Wait
from emu.iommus.status import StatusWatcher, Unwatched
from emu.iommus.vtd.formats import (
    ContextInvalidation,
    Descriptor,
    Granularity,
    IotlbInvalidation,
    WaitDescriptor,
    decode_descriptor,
)
from emu.memory import WORDS, Memory, word_number
from emu.units import WORD_BYTES, Maddr

ENTRIES = 256
"""Descriptors in a ring of one page, 16 bytes each (IQA_REG.QS = 0): the smallest that there is."""

DESCRIPTOR_BYTES = 16
TAIL, FIRST_SLOT = 0, 1


class Engine(Protocol):
    """Executes descriptors in the step that posts them."""

    def accesses(self, slots: range) -> Iterable[Access]:
        """Return every access that executing these slots may make."""

    def execute(self, step: int) -> None:
        """Execute all posted descriptors."""


@attrs.define(eq=False)
class InvalidationQueue:
    """The ring in memory and its registers IQA and IQT.

    Attributes:
        memory: the memory that holds the ring.
        base: the address of the ring.
        entries: how many slots the ring has. Not architectural: fewer than `ENTRIES`, so that it is soon full.
        at_once: executes descriptors in the step that posts them; None if the unit has an agent for it.
        tail: IQT as an index: the slot that software fills next.
        count: how many slots were ever posted.
        fetched_at: the step at which hardware fetched each slot.
        posted: latches "slot n is posted", n counted from the start and never wrapped.
        taken: latches "slot n is fetched", made when one is first asked for.
        error: FSTS.IQE: hardware has met a descriptor that it cannot execute, and has stopped.
        segment: the first slot behind the last wait descriptor that was posted.
        status_watcher: judges the status words of waits.
        unfenced: the slots of all segments whose wait does not fence.
    """

    unit: str
    memory: Memory
    base: Maddr
    entries: int = ENTRIES
    at_once: Engine | None = None
    tail: int = 0
    count: int = 0
    fetched_at: list[int] = attrs.field(factory=list)
    posted: dict[int, Latch] = attrs.field(factory=dict)
    taken: dict[int, Latch] = attrs.field(factory=dict)
    error: bool = False
    segment: int = 0
    unfenced: set[int] = attrs.field(factory=set)
    status_watcher: StatusWatcher = attrs.field(factory=Unwatched)

    @property
    def fetched(self) -> int:
        """How many slots hardware has fetched."""
        return len(self.fetched_at)

    @property
    def space(self) -> Space:
        """The space of the shared objects: the tail register, then every slot ever posted.

        A slot's object stands for whether it is posted, and whether the wait behind it is posted and does not fence.
        """
        return ("queue", self.unit)

    def fetch_access(self, slot: int, kind: Kind) -> Access:
        """Return the access to the state of slot number `slot`: fetched or not."""
        return Access.to((*self.space, "fetched"), slot, kind)

    def room(self) -> Latch | None:
        """Return the latch that is set when there is room for one more descriptor; None if there always was.

        The ring is full when it holds one descriptor less than it has slots.
        """
        awaited = self.count + 1 - self.entries
        if awaited < 0:
            return None
        if awaited not in self.taken:
            name = f"a free slot in {self.unit}'s invalidation queue"
            latch = self.taken[awaited] = Latch(name, self.fetch_access(awaited, Kind.READ))
            if self.fetched > awaited:
                latch.set(self.fetched_at[awaited])
        return self.taken[awaited]

    def slot_access(self, slot: int, kind: Kind) -> Access:
        """Return the access to the slot posted as number `slot`."""
        return Access.to(self.space, FIRST_SLOT + slot, kind)

    def slot_address(self, slot: int) -> Maddr:
        """Return the address of a slot's descriptor; slots wrap round."""
        return Maddr(self.base + DESCRIPTOR_BYTES * (slot % self.entries))

    def descriptor(self, slot: int) -> Descriptor | None:
        """Return the descriptor in a slot; None if its words are no valid descriptor."""
        address = self.slot_address(slot)
        return decode_descriptor(self.memory.peek(address) | self.memory.peek(address + WORD_BYTES) << 64)

    def segments(self, slots: range) -> Iterator[tuple[range, bool]]:
        """Yield, for each wait among slots being posted, the slots of its segment, and whether the wait fences.

        In a synchronous unit every wait fences.
        """
        first = self.segment
        for slot in slots:
            descriptor = self.descriptor(slot)
            if isinstance(descriptor, WaitDescriptor):
                yield range(first, slot + 1), descriptor.fence or self.at_once is not None
                first = slot + 1

    def post(self, slots: range, step: int) -> None:
        """Hand slots to the hardware."""
        for segment, fences in self.segments(slots):
            self.segment = segment.stop
            if not fences:
                self.unfenced.update(segment)
        for slot in slots:
            self.latch(slot).set(step)
        self.count = slots.stop
        self.tail = slots.stop % self.entries

    def latch(self, slot: int) -> Latch:
        """Return the latch that is set when slot number `slot` is posted."""
        if slot not in self.posted:
            touch = self.slot_access(slot, Kind.READ)
            self.posted[slot] = Latch(f"descriptor {slot} of {self.unit}'s invalidation queue", touch)
        return self.posted[slot]


class ReadTail(Operation[int]):
    """Read IQT: the index of the slot to fill."""

    __slots__ = ("queue", "value")

    event = "queue.tail"

    def __init__(self, queue: InvalidationQueue) -> None:
        self.queue = queue
        self.value = 0

    def accesses(self) -> Iterable[Access]:
        return (Access.to(self.queue.space, TAIL, Kind.READ),)

    def perform(self, step: int) -> int:
        self.value = self.queue.tail
        return self.value

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"iommu": self.queue.unit, "slot": self.value}


class WriteTail(Operation[None]):
    """Write IQT: hand every slot up to the new tail to the hardware.

    No other agent changes a slot between its filling and its fetch, so the words of slots are not declared.
    """

    __slots__ = ("queue", "slot", "value")

    event = "queue.post"

    def __init__(self, queue: InvalidationQueue, value: int) -> None:
        self.queue = queue
        self.value = value
        self.slot = queue.count

    @property
    def slots(self) -> range:
        """The slots up to the new tail."""
        queue = self.queue
        return range(queue.count, queue.count + (self.value - queue.tail) % queue.entries)

    def accesses(self) -> Iterable[Access]:
        queue, slots = self.queue, self.slots
        first = min([slots.start, *(segment.start for segment, fences in queue.segments(slots) if not fences)])
        yield Access.to(queue.space, TAIL, Kind.WRITE)
        yield Access(queue.space, FIRST_SLOT + first, FIRST_SLOT + slots.stop - 1, Kind.WRITE)
        for slot in slots:
            descriptor = queue.descriptor(slot)
            if isinstance(descriptor, WaitDescriptor) and descriptor.status_write:
                yield from queue.status_watcher.reads(descriptor.status_address)
        if queue.at_once is not None:
            yield from queue.at_once.accesses(slots)

    def perform(self, step: int) -> None:
        queue, slots = self.queue, self.slots
        self.slot = slots.start
        queue.post(slots, step)
        if queue.at_once is not None:
            queue.at_once.execute(step)

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"iommu": self.queue.unit, "slot": self.slot}


class Look(Operation[bool]):
    """Look whether a slot is posted."""

    __slots__ = ("found", "queue", "slot")

    event = "queue.look"

    def __init__(self, queue: InvalidationQueue, slot: int) -> None:
        self.queue = queue
        self.slot = slot
        self.found = False

    def accesses(self) -> Iterable[Access]:
        return (self.queue.slot_access(self.slot, Kind.READ),)

    def perform(self, step: int) -> bool:
        self.found = self.slot < self.queue.count
        return self.found

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"iommu": self.queue.unit, "slot": self.slot, "found": self.found}


class Fetch(Wait):
    """Fetch the next descriptor once it is posted.

    Attributes:
        is_unfenced: the descriptor is a wait that does not fence, or an invalidation whose posted wait does not.
    """

    __slots__ = ("descriptor", "is_unfenced", "queue", "slot")

    event = "queue.fetch"

    def __init__(self, queue: InvalidationQueue, slot: int) -> None:
        super().__init__(queue.latch(slot))
        self.queue = queue
        self.slot = slot
        self.descriptor: Descriptor | None = None
        self.is_unfenced = False

    def accesses(self) -> Iterable[Access]:
        first = word_number(self.queue.slot_address(self.slot))
        yield from super().accesses()
        yield Access(WORDS, first, first + 1, Kind.READ)
        yield self.queue.fetch_access(self.slot, Kind.WRITE)

    def perform(self, step: int) -> None:
        self.descriptor = self.queue.descriptor(self.slot)
        self.queue.fetched_at.append(step)
        if self.slot in self.queue.taken:
            self.queue.taken[self.slot].set(step)
        self.queue.error = self.descriptor is None
        self.is_unfenced = self.slot in self.queue.unfenced

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        keys: dict[str, Any] = {"iommu": self.queue.unit, "slot": self.slot}
        if self.is_unfenced:
            keys["fence"] = False
        about: dict[str, Any]
        match self.descriptor:
            case IotlbInvalidation(granularity, did, dfn, mask, leaf_only):
                about = {"granularity": granularity.name.lower(), "tag": did}
                if granularity is Granularity.NARROW:
                    about |= {"granularity": "page", "dfn": dfn, "page_order": mask, "leaf_only": leaf_only}
                return self.event, {**keys, "descriptor": "iotlb", **about}
            case ContextInvalidation(granularity, did, source_id):
                about = {"granularity": granularity.name.lower(), "tag": did}
                if granularity is Granularity.NARROW:
                    about |= {"granularity": "device", "source_id": source_id}
                return self.event, {**keys, "descriptor": "context", **about}
            case WaitDescriptor(address):
                return self.event, {**keys, "descriptor": "wait", "address": address}
        return "queue.error", keys
