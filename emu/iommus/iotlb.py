"""The concrete IOTLB: one of the many that the ledger allows.

An entry is looked up by source-id and address, and invalidated by domain tag and address (VT-d 6.2.1, table 17): two
devices of one domain may hold different entries for one page, and one page-selective invalidation drops both.

Not architectural: fully associative; when it is full the strategy chooses what is evicted.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import attrs
from sortedcontainers import SortedDict

from emu.engine import Access, Kind, Operation, Space
from emu.iommus.requests import Request, TableRead
from emu.iommus.translation import Translation, level_base, level_order
from emu.units import Dfn, Mfn

LEVELS = (1, 2, 3)
DFN_MAX = (1 << 52) - 1
SOURCE_BITS = 16

Key = tuple[int, int, Dfn, int]
"""(tag, level, first dfn, source-id): the order in which a range of a domain is contiguous at each level."""


class IotlbEntry(NamedTuple):
    """A cached translation.

    Attributes:
        mfn: the frame that it gives for `dfn`, the page that it was walked for.
        reads: what the walk read.
    """

    source_id: int
    tag: int
    dfn: Dfn
    mfn: Mfn
    translation: Translation
    reads: tuple[TableRead, ...]

    @property
    def key(self) -> Key:
        """Where the entry stands in the cache."""
        level = self.translation.level
        return (self.tag, level, level_base(self.dfn, level), self.source_id)

    def frame(self, dfn: Dfn) -> Mfn:
        """Return the frame that the entry gives for any dfn that it covers."""
        return Mfn(self.mfn + dfn - self.dfn)


@attrs.define(eq=False)
class Iotlb:
    """The entries of one unit.

    Attributes:
        entries: in the order of `Key`, so that a range is dropped without touching the rest.
        by_source: the same, by (source-id, level, first dfn).
    """

    unit: str
    capacity: int
    entries: Any = attrs.field(factory=SortedDict)
    by_source: dict[tuple[int, int, Dfn], Key] = attrs.field(factory=dict)

    @property
    def space(self) -> Space:
        """The cache's objects: one for each dfn and source-id, empty or not."""
        return ("iotlb", self.unit)

    def access(self, first: int, last: int, kind: Kind, source_id: int | None = None) -> Access:
        """Return the access to what is cached for a range of dfns, for one device or for all."""
        low, high = (0, (1 << SOURCE_BITS) - 1) if source_id is None else (source_id, source_id)
        return Access(self.space, first << SOURCE_BITS | low, last << SOURCE_BITS | high, kind)

    def __len__(self) -> int:
        return len(self.entries)

    def find(self, source_id: int, dfn: Dfn) -> IotlbEntry | None:
        """Return what is cached for a device's page, the smallest page size first."""
        for level in LEVELS:
            key = self.by_source.get((source_id, level, level_base(dfn, level)))
            if key is not None:
                found: IotlbEntry = self.entries[key]
                return found
        return None

    def insert(self, entry: IotlbEntry) -> None:
        """Cache an entry in place of what the device had for the same page; not where there is no room."""
        tag, level, first, source_id = entry.key
        old = self.by_source.get((source_id, level, first))
        if old is not None:
            self.remove(old)
        if len(self.entries) >= self.capacity:
            return
        self.entries[(tag, level, first, source_id)] = entry
        self.by_source[(source_id, level, first)] = entry.key

    def remove(self, key: Key) -> None:
        """Drop one entry."""
        entry = self.entries.pop(key)
        del self.by_source[(entry.source_id, key[1], key[2])]

    def matching(self, tag: int | None, first: Dfn, last: Dfn) -> Iterator[Key]:
        """Yield the keys of the entries of a tag (None: of every tag) that overlap a range of dfns."""
        if tag is None:
            yield from self.entries
            return
        for level in LEVELS:
            low = (tag, level, level_base(first, level), 0)
            yield from self.entries.irange(low, (tag, level, last, 1 << SOURCE_BITS))

    def invalidate(self, tag: int | None, first: Dfn, last: Dfn) -> int:
        """Drop every entry of a tag that overlaps a range of dfns; return how many."""
        keys = list(self.matching(tag, first, last))
        for key in keys:
            self.remove(key)
        return len(keys)


class Lookup(Operation[IotlbEntry | None]):
    """Look a request's page up. On a hit the request counts as translated."""

    __slots__ = ("entry", "iotlb", "request")

    def __init__(self, iotlb: Iotlb, request: Request) -> None:
        self.iotlb = iotlb
        self.request = request
        self.entry: IotlbEntry | None = None

    def accesses(self) -> Iterable[Access]:
        request = self.request
        return (self.iotlb.access(request.dfn, request.dfn, Kind.READ, request.source_id),)

    def perform(self, step: int) -> IotlbEntry | None:
        self.entry = self.iotlb.find(self.request.source_id, self.request.dfn)
        if self.entry is not None:
            self.request.translate(self.entry.tag)
        return self.entry

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        keys: dict[str, Any] = {"iommu": self.iotlb.unit, "dfn": self.request.dfn}
        if self.entry is None:
            return "iotlb.miss", keys
        return "iotlb.hit", {**keys, "leaf": self.entry.translation.leaf, "tag": self.entry.tag}


class Fill(Operation[bool]):
    """Cache what a walk found, unless an invalidation voided the walk; return whether the request is translated."""

    __slots__ = ("entry", "iotlb", "request", "victim", "was_filled")

    def __init__(self, iotlb: Iotlb, request: Request, entry: IotlbEntry, victim: Key | None) -> None:
        self.iotlb = iotlb
        self.request = request
        self.entry = entry
        self.victim = victim
        self.was_filled = False

    def accesses(self) -> Iterable[Access]:
        level = self.entry.translation.level
        first = level_base(self.entry.dfn, level)
        last = first + (1 << level_order(level)) - 1
        yield self.iotlb.access(first, last, Kind.WRITE)
        if self.victim is not None:
            yield self.iotlb.access(0, DFN_MAX, Kind.WRITE)

    def perform(self, step: int) -> bool:
        if self.request.is_void:
            self.victim = None
            return False
        if self.victim is not None and self.victim in self.iotlb.entries:
            self.iotlb.remove(self.victim)
        self.iotlb.insert(self.entry)
        self.request.translate(self.entry.tag)
        self.was_filled = True
        return True

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        keys: dict[str, Any] = {"iommu": self.iotlb.unit, "dfn": self.entry.dfn}
        if not self.was_filled:
            return "walk.void", keys
        keys |= {"leaf": self.entry.translation.leaf, "tag": self.entry.tag}
        if self.victim is not None:
            keys["evicted_dfn"] = self.victim[2]
        return "iotlb.fill", keys
