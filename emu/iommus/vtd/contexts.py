"""The context cache of a unit, and the context entries that the unit may legally use (section 6.2.2).

A context entry is legal if it was visible at or after the start of the last completed context invalidation that
covers it. IOTLB entries that were filled through an old context entry keep its domain id. A request that has read the
old context entry may still walk the tables of that entry after it was dropped, until an IOTLB invalidation that begins
later (section 6.2.2.1).
"""

from collections.abc import Iterator, Sequence
from math import inf

import attrs

from emu.engine import Access, Kind, Space
from emu.engine.execution import ReadRecorder
from emu.iommus.requests import TableRead
from emu.iommus.vtd.formats import (
    ContextEntry,
    ContextInvalidation,
    Granularity,
    decode_context_entry,
    decode_root_entry,
)
from emu.memory import WORDS, Memory, Version, word_number
from emu.units import WORD_BYTES, Maddr

SOURCE_ID_MAX = 0xFFFF
FUNCTION_BITS_IGNORED = (0b000, 0b100, 0b110, 0b111)
"""The function bits of a source-id that are ignored under a function mask of 0 to 3."""

ENTRY_BYTES = 16


def root_entry_address(root_table: Maddr, source_id: int) -> Maddr:
    """Return where the root entry of a device's bus lies."""
    return Maddr(root_table + ENTRY_BYTES * (source_id >> 8))


def context_entry_address(context_table: Maddr, source_id: int) -> Maddr:
    """Return where the context entry of a device lies."""
    return Maddr(context_table + ENTRY_BYTES * (source_id & 0xFF))


CachedContext = tuple[ContextEntry | None, tuple[TableRead, ...]]
"""A cached context entry, None if it is not present; and the words that a walk read to find it."""

NON_PRESENT_DID = 0
"""The domain id that tags a cached context entry which is not present (section 6.2.2)."""


def did_of(entry: ContextEntry | None) -> int:
    """Return the domain id that tags a cached context entry."""
    return NON_PRESENT_DID if entry is None else entry.did


@attrs.define(eq=False)
class ContextCache:
    """Cached context entries by source-id, and the invalidations that have completed.

    Attributes:
        caches_non_present: an entry that is not present may be cached (caching mode, section 6.2.2).
        entries: the cached entries, by source-id.
        completed: the invalidations, each with the steps of its start and its completion.
    """

    unit: str
    memory: Memory
    root_table: Maddr
    caches_non_present: bool = False
    entries: dict[int, CachedContext] = attrs.field(factory=dict)
    completed: list[tuple[int, int, ContextInvalidation]] = attrs.field(factory=list)

    @property
    def completions(self) -> Space:
        """The space of the shared objects for completed invalidations: one for each source-id."""
        return ("contexts", self.unit)

    def access(self, kind: Kind, first: int, last: int) -> Access:
        """Return the access to the cached entries of a range of source-ids."""
        return Access(("context_cache", self.unit), first, last, kind)

    def since(self, source_id: int, did: int) -> int:
        """Return the start of the last completed invalidation that covers an entry; 0 if there was none."""
        return max((start for start, _, done in self.completed if covers(done, source_id, did)), default=0)

    def invalidate(self, invalidation: ContextInvalidation, start: int, step: int) -> int:
        """Drop the entries that an invalidation covers, and count it as completed; return how many were dropped."""
        covered = [source for source, (entry, _) in self.entries.items() if covers(invalidation, source, did_of(entry))]
        for source_id in covered:
            del self.entries[source_id]
        self.completed.append((start, step, invalidation))
        return len(covered)

    def lifetimes(self, source_id: int) -> list[tuple[ContextEntry, int, float]]:
        """Return every context entry that a device has ever had, with the steps from and until which it may be used.

        The newest is first. An entry that was stored twice is listed twice.
        """
        return [
            (entry, first, self.dropped(source_id, entry.did, replaced))
            for entry, first, replaced in self.versions(source_id)
            if entry is not None
        ]

    def versions(self, source_id: int) -> Iterator[tuple[ContextEntry | None, int, float]]:
        """Yield every value of a device's context entry, newest first, with the steps from and until which it is read.

        None stands for a context or root entry that is not present.
        """
        for root, root_until in wide_history(self.memory, root_entry_address(self.root_table, source_id)):
            table = decode_root_entry(root.value)
            if table is None:
                yield None, root.stored, root_until
                continue
            for version, until in wide_history(self.memory, context_entry_address(table, source_id)):
                replaced = min(until, root_until)
                if replaced > root.stored:
                    yield decode_context_entry(version.value), max(version.stored, root.stored), replaced

    def may_refuse(self, source_id: int) -> bool:
        """Whether the unit may refuse a device's requests by a cached entry that was not present and was replaced."""
        return self.caches_non_present and any(
            entry is None and replaced != inf and self.dropped(source_id, NON_PRESENT_DID, replaced) == inf
            for entry, _, replaced in self.versions(source_id)
        )

    def dropped(self, source_id: int, did: int, replaced: float) -> float:
        """Return the step at which the first invalidation of an entry completed that began at or after `replaced`."""
        return min(
            (step for start, step, done in self.completed if start >= replaced and covers(done, source_id, did)),
            default=inf,
        )

    def had_dropped(self, source_id: int, did: int | None, read: TableRead, step: int) -> bool:
        """Whether an entry that a walk has read was replaced, and then dropped, before a step."""
        return any(
            done < step and did is not None and covers(what, source_id, did) and read.was_replaced(self.memory, start)
            for start, done, what in self.completed
        )

    def reads(self, source_id: int) -> list[tuple[Space, int]]:
        """Return the objects that decide which context entries a device may use."""
        root = root_entry_address(self.root_table, source_id)
        addresses = [root]
        for version, _ in wide_history(self.memory, root):
            table = decode_root_entry(version.value)
            if table is not None:
                addresses.append(context_entry_address(table, source_id))
        words = [(WORDS, word_number(address) + half) for address in addresses for half in (0, 1)]
        return [*words, (self.completions, source_id)]

    def record_reads(self, source_id: int, recorder: ReadRecorder) -> None:
        """Record as read the objects that decide which context entries a device may use."""
        if recorder.is_on:
            for space, number in self.reads(source_id):
                recorder.read(space, number)


def sources_covered(invalidation: ContextInvalidation) -> tuple[int, int]:
    """Return the first and last source-id that an invalidation may cover."""
    if invalidation.granularity is not Granularity.NARROW:
        return 0, SOURCE_ID_MAX
    ignored = FUNCTION_BITS_IGNORED[invalidation.function_mask]
    return invalidation.source_id & ~ignored, invalidation.source_id | ignored


def covers(invalidation: ContextInvalidation, source_id: int, did: int) -> bool:
    """Whether an invalidation covers the entry of a device that is tagged with a domain id."""
    if invalidation.granularity is Granularity.GLOBAL:
        return True
    if did != invalidation.did or invalidation.granularity is Granularity.DOMAIN:
        return did == invalidation.did
    return (source_id ^ invalidation.source_id) & ~FUNCTION_BITS_IGNORED[invalidation.function_mask] == 0


def wide_history(memory: Memory, address: Maddr) -> Sequence[tuple[Version, float]]:
    """Return the values of a 128-bit entry, newest first, each with the step from which no walker reads it any more.

    Both halves lie in one line, and reach memory together: a walker finds them as they stood after one store.
    """
    low, high = memory.history(address), memory.history(address + WORD_BYTES)
    versions: list[tuple[Version, float]] = []
    until = inf
    for step in sorted({version.stored for version in (*low, *high)}, reverse=True):
        halves = [next(v for v in reversed(history) if v.stored <= step) for history in (low, high)]
        visible = min((v.visible for v in halves if v.stored == step), default=inf)
        versions.append((Version(step, visible, halves[0].value | halves[1].value << 64), until))
        until = min(until, visible)
    return versions
