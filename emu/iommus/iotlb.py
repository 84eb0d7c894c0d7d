"""The concrete IOTLB: its state is one of the many that the ledger allows.

An entry is looked up by its user and address, and invalidated by domain tag and address. The user is the source-id of
a device (VT-d 6.2.1, table 17): two devices of one domain may hold different entries for one page, and one
page-selective invalidation drops both. Where the devices of a domain share entries, the user is their domain's tag.

Not architectural: fully associative; when it is full the strategy chooses the entry to evict.
"""

from bisect import insort
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import attrs
from sortedcontainers import SortedDict

from emu.engine import Access, Kind, Operation, Space
from emu.iommus.counters import Counters
from emu.iommus.formats import TableFormat, Translation, base_of_order
from emu.iommus.requests import Request, TableRead
from emu.units import Dfn, Mfn

DFN_MAX = (1 << 52) - 1

Key = tuple[int, int, Dfn, int]
"""(tag, page order, first dfn, user): the order in which a range of a domain is contiguous at each page order."""


class IotlbEntry(NamedTuple):
    """A cached translation.

    Attributes:
        user: the number by which it is looked up.
        dfn: the page that the walk was for.
        reads: the words that the walk read.
        is_fractured: of the leaf of a superpage only that page is cached (VT-d 6.2.4.1).
    """

    user: int
    tag: int
    dfn: Dfn
    translation: Translation
    reads: tuple[TableRead, ...]
    is_fractured: bool = False

    @property
    def order(self) -> int:
        """It is cached for 2^order pages."""
        return 0 if self.is_fractured else self.translation.order

    @property
    def key(self) -> Key:
        """The key of the entry in the cache."""
        return (self.tag, self.order, base_of_order(self.dfn, self.order), self.user)

    def permits(self, *, is_write: bool) -> bool:
        """Whether the entry lets an access through."""
        return self.translation.write if is_write else self.translation.read

    def frame(self, dfn: Dfn) -> Mfn:
        """Return the frame to which the entry translates a dfn that it covers; 0 if it is a fault's entry."""
        return self.translation.frame(dfn) or Mfn(0)


@attrs.define(eq=False)
class Iotlb:
    """The entries of one unit.

    Attributes:
        capacity: how many entries there is room for; None for no limit.
        format: the format of the tables that are walked.
        is_by_tag: the user is the domain's tag, which the device's own entry says before the lookup (AMD-Vi): devices
            with one tag find the same entries, and find them again when they get the tag back.
        user_bits: the width of the numbers by which entries are looked up.
        entries: sorted by `Key`, so that dropping a range does not touch the rest.
        by_user: the keys of the entries, by (user, page order, first dfn).
        orders: the page orders of all entries so far, the smallest first.
        counters: count the walks, and the entries that invalidations drop.
    """

    unit: str
    capacity: int | None
    format: TableFormat
    user_bits: int = 16
    is_by_tag: bool = False
    entries: Any = attrs.field(factory=SortedDict)
    by_user: dict[tuple[int, int, Dfn], Key] = attrs.field(factory=dict)
    orders: list[int] = attrs.field(factory=list)
    counters: Counters = attrs.field(factory=Counters)

    @property
    def space(self) -> Space:
        """The cache's shared objects: one for each dfn and user, cached or not."""
        return ("iotlb", self.unit)

    def access(self, first: int, last: int, kind: Kind, user: int | None = None) -> Access:
        """Return the access to the entries of a range of dfns, for one user or all."""
        bits = self.user_bits
        low, high = (0, (1 << bits) - 1) if user is None else (user, user)
        return Access(self.space, first << bits | low, last << bits | high, kind)

    def void_accesses(self, first: Dfn, last: Dfn) -> Iterator[Access]:
        """Yield the accesses of an invalidation to the table entries of dfns first..last that walks in flight hold.

        A device's own entry counts as one of them, for every dfn.
        """
        for level in (*self.format.table_levels, self.format.device_level):
            order = self.format.orders[level]
            yield Access(self.walk_space(level), first >> order, last >> order, Kind.COMMUTE)

    def walk_accesses(self, dfn: Dfn, reads: Iterable[TableRead]) -> Iterator[Access]:
        """Yield the accesses of a walk that has read these words, to learn whether an invalidation voided it.

        Leaves of level 1 are left out: for them a fill accesses the cache's own object of the dfn.
        """
        for order in dict.fromkeys(read.order for read in reads if read.level > 1):
            yield Access.to(self.walk_space(self.format.orders.index(order)), dfn >> order, Kind.READ)

    def walk_space(self, level: int) -> Space:
        """The space of the shared objects for the entries of a level that walks in flight hold."""
        return ("walks", self.unit, f"level {level}")

    def room_access(self, kind: Kind) -> Iterator[Access]:
        """Yield the access to the number of entries, if it is limited."""
        if self.capacity is not None:
            yield Access.to(("room", self.unit), 0, kind)

    @property
    def is_full(self) -> bool:
        """Whether there is no room for another entry."""
        return self.capacity is not None and len(self.entries) >= self.capacity

    def __len__(self) -> int:
        return len(self.entries)

    def find(self, user: int, dfn: Dfn) -> IotlbEntry | None:
        """Return the entry cached for a user's page, the smallest page size first; None if there is none."""
        for order in self.orders:
            key = self.by_user.get((user, order, base_of_order(dfn, order)))
            if key is not None:
                found: IotlbEntry = self.entries[key]
                return found
        return None

    def count_walk(self, user: int, dfn: Dfn) -> None:
        """Count a walk for a user's page."""
        self.counters.walk((user, order, base_of_order(dfn, order)) for order in self.orders)

    def count_dropped(self, dropped: Sequence[IotlbEntry], valid: Sequence[IotlbEntry]) -> None:
        """Count the entries that an invalidation has dropped, and those of them that were still valid."""
        self.counters.dropped += len(dropped)
        self.counters.over_flushed += len(valid)
        for entry in valid:
            _, order, first, user = entry.key
            self.counters.lost.add((user, order, first))

    def insert(self, entry: IotlbEntry) -> bool:
        """Cache an entry, in place of its user's old entry for the same page; return whether there was room."""
        tag, order, first, user = entry.key
        old = self.by_user.get((user, order, first))
        if old is not None:
            self.remove(old)
        if self.is_full:
            return False
        if order not in self.orders:
            insort(self.orders, order)
        self.entries[(tag, order, first, user)] = entry
        self.by_user[(user, order, first)] = entry.key
        return True

    def remove(self, key: Key) -> None:
        """Drop one entry."""
        entry = self.entries.pop(key)
        del self.by_user[(entry.user, key[1], key[2])]

    def matching(self, tag: int | None, first: Dfn, last: Dfn) -> Iterator[Key]:
        """Yield the keys of the entries of a tag (None: of every tag) that overlap a range of dfns."""
        if tag is None:
            yield from self.entries
            return
        for order in self.orders:
            low = (tag, order, base_of_order(first, order), 0)
            yield from self.entries.irange(low, (tag, order, last, 1 << self.user_bits))

    def invalidate(self, tag: int | None, first: Dfn, last: Dfn) -> list[IotlbEntry]:
        """Drop every entry of a tag that overlaps a range of dfns, and return them."""
        dropped: list[IotlbEntry] = [self.entries[key] for key in self.matching(tag, first, last)]
        for entry in dropped:
            self.remove(entry.key)
        return dropped


class Lookup(Operation[IotlbEntry | None]):
    """Look a request's page up. On a hit the request counts as translated."""

    __slots__ = ("entry", "iotlb", "request")

    def __init__(self, iotlb: Iotlb, request: Request) -> None:
        self.iotlb = iotlb
        self.request = request
        self.entry: IotlbEntry | None = None

    def accesses(self) -> Iterable[Access]:
        request = self.request
        return (self.iotlb.access(request.dfn, request.dfn, Kind.READ, request.user),)

    def perform(self, step: int) -> IotlbEntry | None:
        self.entry = self.iotlb.find(self.request.user, self.request.dfn)
        if self.entry is None:
            self.iotlb.count_walk(self.request.user, self.request.dfn)
        else:
            self.request.translate(self.entry.tag)
        return self.entry

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        keys: dict[str, Any] = {"iommu": self.iotlb.unit, "dfn": self.request.dfn}
        if self.entry is None:
            return "iotlb.miss", keys
        return "iotlb.hit", {**keys, "leaf": self.entry.translation.leaf, "tag": self.entry.tag}


class LookupByTag(Lookup):
    """Look a request's page up by domain tag, unless the device's own entry that said the tag has been dropped since.

    Args:
        is_void: whether it has been dropped.
    """

    __slots__ = ("is_void", "was_void")

    saved_as = Lookup.__name__

    def __init__(self, iotlb: Iotlb, request: Request, is_void: Callable[[Request], bool]) -> None:
        super().__init__(iotlb, request)
        self.is_void = is_void
        self.was_void = False

    def accesses(self) -> Iterable[Access]:
        yield from super().accesses()
        yield from self.iotlb.walk_accesses(self.request.dfn, self.request.reads)

    def perform(self, step: int) -> IotlbEntry | None:
        self.was_void = self.is_void(self.request)
        return None if self.was_void else super().perform(step)

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        event, keys = super().describe()
        return ("walk.void" if self.was_void else event), keys


class FindRoom(Operation[list[Key]]):
    """Return the entries that could be evicted if a limited cache is full; none if it has room."""

    __slots__ = ("count", "iotlb")

    event = "iotlb.room"

    def __init__(self, iotlb: Iotlb) -> None:
        self.iotlb = iotlb
        self.count = 0

    def accesses(self) -> Iterable[Access]:
        return self.iotlb.room_access(Kind.READ)

    def perform(self, step: int) -> list[Key]:
        self.count = len(self.iotlb)
        return list(self.iotlb.entries) if self.iotlb.is_full else []

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"iommu": self.iotlb.unit, "entries": self.count}


class Fill(Operation[bool]):
    """Cache the entry that a walk found, unless the walk is void; return whether the request is translated."""

    __slots__ = ("entry", "iotlb", "is_void", "request", "victim", "was_cached", "was_filled")

    def __init__(
        self, iotlb: Iotlb, request: Request, entry: IotlbEntry, victim: Key | None, is_void: Callable[[Request], bool]
    ) -> None:
        self.iotlb = iotlb
        self.request = request
        self.entry = entry
        self.victim = victim
        self.is_void = is_void
        self.was_cached = self.was_filled = False

    def accesses(self) -> Iterable[Access]:
        _, order, first, _ = self.entry.key
        yield self.iotlb.access(first, first + (1 << order) - 1, Kind.WRITE)
        yield from self.iotlb.room_access(Kind.WRITE)
        yield from self.iotlb.walk_accesses(self.entry.dfn, self.entry.reads)
        if self.victim is not None:
            yield self.iotlb.access(0, DFN_MAX, Kind.WRITE)

    def perform(self, step: int) -> bool:
        if self.is_void(self.request):
            self.victim = None
            return False
        if self.victim is not None and self.victim in self.iotlb.entries:
            self.iotlb.remove(self.victim)
        self.was_cached = self.iotlb.insert(self.entry)
        self.request.translate(self.entry.tag)
        self.was_filled = True
        return True

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        keys: dict[str, Any] = {"iommu": self.iotlb.unit, "dfn": self.entry.dfn}
        if not self.was_filled:
            return "walk.void", keys
        keys |= {"leaf": self.entry.translation.leaf, "tag": self.entry.tag}
        if self.entry.translation.order:
            keys["page_order"] = self.entry.order
        if self.victim is not None:
            keys["evicted_dfn"] = self.victim[2]
        return "iotlb.fill" if self.was_cached else "iotlb.bypass", keys


class Evict(Operation[None]):
    """Drop all that is cached of a page, as a unit may at any time (VT-d 6.2.4)."""

    __slots__ = ("dfn", "iotlb", "removed")

    event = "iotlb.evict"

    def __init__(self, iotlb: Iotlb, dfn: Dfn) -> None:
        self.iotlb = iotlb
        self.dfn = dfn
        self.removed = 0

    def accesses(self) -> Iterable[Access]:
        yield self.iotlb.access(0, DFN_MAX, Kind.WRITE)
        yield from self.iotlb.room_access(Kind.WRITE)

    def perform(self, step: int) -> None:
        keys = [key for key in self.iotlb.entries if key[2] <= self.dfn < key[2] + (1 << key[1])]
        for key in keys:
            self.iotlb.remove(key)
        self.removed = len(keys)

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"iommu": self.iotlb.unit, "dfn": self.dfn, "removed": self.removed}
