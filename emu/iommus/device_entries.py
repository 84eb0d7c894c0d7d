"""Devices' own entries, where a unit keeps them in a table in memory and caches them, whatever the vendor.

AMD-Vi has a device table, the SMMUv3 a stream table. A device's entry names the tables that translate for the device,
and the tag under which translations are cached: they are looked up by tag, after the entry. Every value of an entry may
be cached, one that lets no request through as well.

An entry is legal if it was visible at or after the start of the last completed invalidation of its device's entry.
Translations that were cached through an old entry keep its tag, and are found again by that tag only. When the
invalidation completes, no request uses the old entry any more: a walk that has read it began again when the entry was
dropped, and a request that was translated through it has been committed.
"""

from collections.abc import Iterable, Iterator, Mapping
from math import inf
from typing import Any, Generic, Protocol, TypeVar

import attrs

from emu.engine import Access, Kind, Operation, Space
from emu.engine.execution import ReadRecorder
from emu.iommus.paths import Tables
from emu.iommus.requests import Request, TableRead
from emu.iommus.unit import UnitState
from emu.memory import WORDS, Memory, word_number
from emu.units import Maddr


class TaggedEntry(Protocol):
    """A device's entry, decoded."""

    @property
    def tag(self) -> int:
        """The tag of all that is cached through it."""


Entry = TypeVar("Entry", bound=TaggedEntry)

CachedEntry = tuple[Entry, tuple[TableRead, ...]]
"""A cached entry, and the words that were read to find it."""


@attrs.define(eq=False)
class EntryTable(Generic[Entry]):
    """The table, the cached entries by device id, and the invalidations that have completed.

    Attributes:
        base: the address of the table.
        entries: the cached entries.
        removals: the invalidations that have dropped their entries, each with its start, and its device; None for
            every device.
        completed: those that have completed, each with its start, its completion, and its device.
    """

    unit: str
    memory: Memory
    base: Maddr
    entries: dict[int, CachedEntry[Entry]] = attrs.field(factory=dict)
    removals: list[tuple[int, int | None]] = attrs.field(factory=list)
    completed: list[tuple[int, int, int | None]] = attrs.field(factory=list)

    def words(self, source_id: int) -> range:
        """Return the addresses of the words of a device's entry that translation depends on.

        Raises:
            NotImplementedError: if a subclass leaves it out.
        """
        raise NotImplementedError

    def entry_seen(self, source_id: int) -> Entry:
        """Return a device's entry as a walker reads it now.

        Raises:
            NotImplementedError: if a subclass leaves it out.
        """
        raise NotImplementedError

    def lifetimes(self, source_id: int) -> Iterator[tuple[Entry, int, float]]:
        """Yield every entry that a device has ever had, with the steps from and until which it may be used.

        The newest is first.

        Raises:
            NotImplementedError: if a subclass leaves it out.
        """
        raise NotImplementedError

    def tables_of(self, entry: Entry) -> Tables | None:
        """Return the tables that an entry names; none of a level where requests pass through, None for an abort.

        Raises:
            NotImplementedError: if a subclass leaves it out.
        """
        raise NotImplementedError

    @property
    def completions(self) -> Space:
        """The space of the shared objects for completed invalidations: one for each device id."""
        return ("device_entries", self.unit)

    def access(self, kind: Kind, first: int, last: int) -> Access:
        """Return the access to the cached entries of a range of device ids."""
        return Access(("device_cache", self.unit), first, last, kind)

    def word_reads(self, source_id: int) -> Iterator[Access]:
        """Yield the reads of a device's entry."""
        words = self.words(source_id)
        if words:
            yield Access(WORDS, word_number(words[0]), word_number(words[-1]), Kind.READ)

    def since(self, source_id: int) -> int:
        """Return the start of the last invalidation that has dropped a device's entry; 0 if there was none."""
        return max((start for start, done in self.removals if done in {None, source_id}), default=0)

    def remove(self, source_id: int | None, start: int) -> int:
        """Drop a device's entry, or all, for an invalidation that began at a step; return how many were dropped."""
        dropped = [one for one in self.entries if source_id in {None, one}]
        for one in dropped:
            del self.entries[one]
        self.removals.append((start, source_id))
        return len(dropped)

    def complete(self, source_id: int | None, start: int, step: int) -> None:
        """Count an invalidation as completed: the accesses that the dropped entries let through have been made."""
        self.completed.append((start, step, source_id))

    def dropped(self, source_id: int, replaced: float) -> float:
        """Return the step at which the first invalidation of an entry completed that began at or after `replaced`."""
        return min(
            (step for start, step, done in self.completed if start >= replaced and done in {None, source_id}),
            default=inf,
        )

    def is_void(self, request: Request, level: int) -> bool:
        """Whether a request has read an entry that was replaced, and was dropped since."""
        starts = [start for start, done in self.removals if done in {None, request.source_id}]
        of_entry = [read for read in request.reads if read.level == level]
        return any(read.was_replaced(self.memory, start) for start in starts for read in of_entry)

    def reads(self, source_id: int) -> list[tuple[Space, int]]:
        """Return the objects that decide which entries a device may use."""
        return [*((WORDS, word_number(word)) for word in self.words(source_id)), (self.completions, source_id)]

    def record_reads(self, source_id: int, recorder: ReadRecorder) -> None:
        """Record as read the objects that decide which entries a device may use."""
        if recorder.is_on:
            for space, number in self.reads(source_id):
                recorder.read(space, number)


class HasEntries(UnitState, Protocol):
    """The state of a unit that finds tables by devices' entries."""

    @property
    def device_table(self) -> EntryTable[Any]:
        """The table of the devices' entries."""


class DeviceLookup(Operation[CachedEntry[Any] | None]):
    """Look the device's entry up in the cache of devices' entries."""

    __slots__ = ("found", "source_id", "unit")

    def __init__(self, unit: HasEntries, source_id: int) -> None:
        self.unit = unit
        self.source_id = source_id
        self.found: CachedEntry[Any] | None = None

    def accesses(self) -> Iterable[Access]:
        return (self.unit.device_table.access(Kind.READ, self.source_id, self.source_id),)

    def perform(self, step: int) -> CachedEntry[Any] | None:
        self.found = self.unit.device_table.entries.get(self.source_id)
        return self.found

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        hit = "device_entry.miss" if self.found is None else "device_entry.hit"
        return hit, {"iommu": self.unit.name, "source_id": self.source_id}


class DeviceFill(Operation[bool]):
    """Cache a device's entry, unless an invalidation has dropped it that began after the entry was replaced."""

    __slots__ = ("entry", "reads", "source_id", "unit", "was_filled")

    def __init__(self, unit: HasEntries, source_id: int, entry: TaggedEntry, reads: tuple[TableRead, ...]) -> None:
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
        keys = {"iommu": self.unit.name, "source_id": self.source_id, "tag": self.entry.tag}
        return "device_entry.fill" if self.was_filled else "device_entry.void", keys


def is_void(unit: HasEntries, request: Request) -> bool:
    """Whether the device's entry that a request has read was dropped since."""
    return unit.device_table.is_void(request, unit.format.device_level)
