"""The device table, its cache, and the entries that a unit may legally use (sections 2.2.2 and 2.4.2).

An entry is legal if it was visible at or after the start of the last completed INVALIDATE_DEVTAB_ENTRY of its device.
Translations that were cached through an old entry keep its domain id, and are found again by that id only. When the
invalidation completes, no request uses the old entry any more: a walk that has read it began again when the entry was
dropped, and a request that was translated through it has been committed.
"""

from collections.abc import Iterator
from math import inf

import attrs

from emu.engine import Access, Kind, Space
from emu.engine.execution import ReadRecorder
from emu.iommus.amd.formats import DeviceTableEntry, decode_device_entry
from emu.iommus.requests import Request, TableRead
from emu.memory import WORDS, Memory, word_number
from emu.units import WORD_BYTES, Maddr

ENTRY_BYTES = 32
ENTRY_WORDS = ENTRY_BYTES // WORD_BYTES
TABLE_FRAMES = (1 << 16) * ENTRY_BYTES >> 12
"""Frames of a table with an entry for each of 2^16 device ids."""

ABORT = DeviceTableEntry(translates=False)
"""What an entry that is not legal comes to: requests are aborted."""

CachedEntry = tuple[DeviceTableEntry, tuple[TableRead, ...]]
"""A cached entry, and the words that were read to find it."""


@attrs.define(eq=False)
class DeviceTable:
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
    entries: dict[int, CachedEntry] = attrs.field(factory=dict)
    removals: list[tuple[int, int | None]] = attrs.field(factory=list)
    completed: list[tuple[int, int, int | None]] = attrs.field(factory=list)

    @property
    def completions(self) -> Space:
        """The space of the shared objects for completed invalidations: one for each device id."""
        return ("device_entries", self.unit)

    def access(self, kind: Kind, first: int, last: int) -> Access:
        """Return the access to the cached entries of a range of device ids."""
        return Access(("device_cache", self.unit), first, last, kind)

    def address(self, source_id: int) -> Maddr:
        """Return where the entry of a device lies."""
        return Maddr(self.base + ENTRY_BYTES * source_id)

    def words(self, source_id: int) -> range:
        """Return the addresses of the words of a device's entry."""
        first = self.address(source_id)
        return range(first, first + ENTRY_BYTES, WORD_BYTES)

    def seen(self, source_id: int) -> int:
        """Return the 256 bits of a device's entry as a walker reads them now."""
        return joined(self.memory.seen(word) for word in self.words(source_id))

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

    def lifetimes(self, source_id: int) -> Iterator[tuple[DeviceTableEntry, int, float]]:
        """Yield every entry that a device has ever had, with the steps from and until which it may be used.

        The newest is first.
        """
        histories = [self.memory.history(word) for word in self.words(source_id)]
        until = inf
        for step in sorted({version.stored for history in histories for version in history}, reverse=True):
            values = (next(v.value for v in reversed(history) if v.stored <= step) for history in histories)
            entry = decode_device_entry(joined(values)) or ABORT
            yield entry, step, inf if until == inf else self.dropped(source_id, until)
            until = step

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


def joined(words: Iterator[int]) -> int:
    """Return the bits of words that follow one another, the lowest first."""
    return sum(word << 64 * index for index, word in enumerate(words))
