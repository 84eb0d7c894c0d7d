"""The paging-structure caches of a unit: table entries at which a walk may start, instead of at the root table.

An entry is looked up by the user and address of a request, like a translation in the IOTLB, and invalidated by tag and
address, unless the invalidation is of leaves only. It is cached if it is present, even if no leaf below it is, and it
stays cached when its word is replaced (VT-d sections 6.2.5 and 6.5.3.3). Leaves of any size are the IOTLB's.

If a walk finds another value than the cached one, the cache keeps both. Which of them a later walk starts at is chosen
then, and only if a walk comes: a cache that has forgotten a value is one in which it is never chosen.

The choice is among the starts that may lead to different translations. A walk that reads an entry again finds what is
cached of it unless the word was replaced meanwhile. So an entry need not be chosen while all of its words are still
what walkers read: a walk from the root finds the same. Nor where all words that were replaced are above another cached
entry of the same walk: a walk from that one finds the same.

Not architectural: there is room for every entry.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import attrs

from emu.engine import Access, Choose, Kind, Operation, Space
from emu.iommus.formats import Entry, TableFormat, base_of_order
from emu.iommus.iotlb import Iotlb
from emu.iommus.paths import Tables
from emu.iommus.requests import Request, TableRead
from emu.memory import WORDS, Memory, word_number
from emu.units import Dfn

Key = tuple[int, int, Dfn]
"""(user, order, first dfn) of the dfns that a table translates."""


class ReachedTable(NamedTuple):
    """A table that a walk has reached, from which the same walk or a later one goes on.

    Attributes:
        user: the number by which it is looked up.
        first, order: the table translates 2^order dfns, from this one on.
        tables: the tag, the table and its level.
        read, write: the permissions that all entries on the way grant.
        reads: the words that the walk has read, of the device's own entry and of tables, each with its step.
    """

    user: int
    first: Dfn
    order: int
    tables: Tables
    read: bool = True
    write: bool = True
    reads: tuple[TableRead, ...] = ()

    @classmethod
    def root(cls, format_: TableFormat, user: int, tables: Tables) -> "ReachedTable":
        """Return the root table as a walk reaches it."""
        return cls(user, Dfn(0), format_.orders[tables.levels + 1], tables, tables.read, tables.write)

    def below(self, format_: TableFormat, dfn: Dfn, entry: Entry, reads: tuple[TableRead, ...]) -> "ReachedTable":
        """Return the table to which an entry of this table leads, after these reads for a dfn."""
        order = format_.orders[entry.next_level + 1]
        tables = Tables(self.tables.tag, entry.address, entry.next_level)
        permissions = (self.read and entry.read, self.write and entry.write)
        return ReachedTable(self.user, base_of_order(dfn, order), order, tables, *permissions, reads)

    @property
    def key(self) -> Key:
        """The key under which the cache holds it, and everything else to which the same entry has led."""
        return (self.user, self.order, self.first)

    def is_same_as(self, other: "ReachedTable") -> bool:
        """Whether both are the same table with the same permissions, whenever the words were read."""
        return self[:-1] == other[:-1]

    def go_on(self, request: Request) -> None:
        """Let the walk of a request, which has just begun, go on from here.

        The words keep the steps at which they were read: an invalidation counts if it began after that. It has dropped
        the cached entry only if it covers a dfn that the entry stands for, wherever above a word was replaced.
        """
        request.tag = self.tables.tag
        request.reads += [read._replace(order=self.order) for read in self.reads]
        request.start = request.reads[-1]
        request.began = min(request.began, *(read.step for read in self.reads))


@attrs.define(eq=False)
class WalkCache:
    """The cached table entries of one unit.

    Attributes:
        iotlb: the IOTLB of the unit.
        is_void: whether an invalidation has voided a walk.
        entries: all that is cached of each entry, the newest first.
    """

    iotlb: Iotlb
    memory: Memory
    is_void: Callable[[Request], bool]
    entries: dict[Key, list[ReachedTable]] = attrs.field(factory=dict)

    @property
    def orders(self) -> list[int]:
        """The orders of the dfns that tables below the root translate, the smallest first."""
        format_ = self.iotlb.format
        return [format_.orders[level] for level in format_.table_levels]

    def access(self, order: int, first: int, last: int, kind: Kind, user: int | None = None) -> Access:
        """Return the access to what is cached of the tables of one order, in a range of dfns, for one user or all."""
        bits = self.iotlb.user_bits
        low, high = (0, (1 << bits) - 1) if user is None else (user, user)
        space: Space = ("walk_cache", self.iotlb.unit, f"order {order}")
        return Access(space, first >> order << bits | low, last >> order << bits | high, kind)

    def drop_accesses(self, first: Dfn, last: Dfn) -> Iterator[Access]:
        """Yield the accesses of an invalidation that drops the entries of dfns first..last."""
        return (self.access(order, first, last, Kind.COMMUTE) for order in self.orders)

    def block_accesses(self, request: Request, start: ReachedTable | None) -> Iterator[Access]:
        """Yield the accesses by which a walk that is one step fills the cache.

        It can be void only if it starts at an entry that was looked up in an earlier step.
        """
        orders = [order for order in self.orders if start is None or order < start.order]
        for order in orders:
            yield self.access(order, request.dfn, request.dfn, Kind.WRITE, request.user)
        if orders and start is not None:
            yield from self.iotlb.walk_accesses(request.dfn, (start.reads[-1]._replace(order=start.order),))

    def find(self, user: int, dfn: Dfn) -> list[ReachedTable]:
        """Return what is cached for a user's page, the lowest tables first and of each the newest."""
        keys = ((user, order, base_of_order(dfn, order)) for order in self.orders)
        return [one for key in keys for one in self.entries.get(key, ())]

    def starts(self, request: Request, step: int) -> list[ReachedTable]:
        """Return what is cached and what a walk that starts elsewhere may not find at a step.

        A walk from the root does not find what another root has led to.
        """
        found = self.find(request.user, request.dfn)
        return [
            one
            for one in found
            if not any(self.finds_again(other.reads, one, step) for other in found)
            if self.is_from_another_root(one, request) or not self.finds_again((), one, step)
        ]

    def is_from_another_root(self, reached: ReachedTable, request: Request) -> bool:
        """Whether the walk that has reached a table began at another root than the walk of a request would.

        A device that finds only what its own walks have cached has its root from its own entry, which is among their
        reads.
        """
        if request.tables is None:
            return False
        highest = reached.reads[0]
        return self.iotlb.format.table_of(highest.address, request.dfn, highest.level) != request.tables.root

    def finds_again(self, reads: tuple[TableRead, ...], cached: ReachedTable, step: int) -> bool:
        """Whether a walk that has made these reads goes on, at a step, to a table that is cached.

        Reads are the same if they are of one word at one step: what they stand for differs where a walk started at a
        cached entry.
        """
        begun, left = cached.reads[: len(reads)], cached.reads[len(reads) :]
        if not left or [(one.address, one.step) for one in begun] != [(one.address, one.step) for one in reads]:
            return False
        return not any(read.was_replaced(self.memory, step) for read in left)

    def insert(self, reached: ReachedTable) -> None:
        """Cache the entry that leads to a table, beside other values of the entry."""
        if self.iotlb.is_by_tag:  # whatever device's walk has cached an entry, its own entry does not count
            device_level = self.iotlb.format.device_level
            reached = reached._replace(reads=tuple(one for one in reached.reads if one.level != device_level))
        others = (one for one in self.entries.get(reached.key, ()) if not one.is_same_as(reached))
        self.entries[reached.key] = [reached, *others]

    def insert_walk(self, user: int, tables: Tables, dfn: Dfn, reads: Sequence[TableRead]) -> None:
        """Cache the table entries of a walk that was made before the first step, for a dfn, with these reads."""
        format_ = self.iotlb.format
        reached = ReachedTable.root(format_, user, tables)
        for number, read in enumerate(reads, 1):
            if read.level != format_.device_level:
                entry = format_.read(self.memory.peek(read.address), read.level, dfn)
                if entry is None or entry.is_leaf:
                    return
                reached = reached.below(format_, dfn, entry, tuple(reads[:number]))
                self.insert(reached)

    def invalidate(self, tag: int | None, first: Dfn, last: Dfn) -> int:
        """Drop every entry of a tag (None: of every tag) that stands for one of the dfns first..last; return how many.

        There are few, so it looks at each of them.
        """
        dropped = 0
        for key, cached in list(self.entries.items()):
            _, order, base = key
            if base <= last and first < base + (1 << order):
                left = [one for one in cached if tag not in {None, one.tables.tag}]
                dropped += len(cached) - len(left)
                if left:
                    self.entries[key] = left
                else:
                    del self.entries[key]
        return dropped


class FindStarts(Operation[list[ReachedTable]]):
    """Look up the cached table entries at which the walk of a request may start."""

    __slots__ = ("cache", "found", "request")

    event = "walk_cache.lookup"

    def __init__(self, cache: WalkCache, request: Request) -> None:
        self.cache = cache
        self.request = request
        self.found = 0

    def accesses(self) -> Iterable[Access]:
        cache, user, dfn = self.cache, self.request.user, self.request.dfn
        for order in cache.orders:
            yield cache.access(order, dfn, dfn, Kind.READ, user)
        addresses = (read.address for one in cache.find(user, dfn) for read in one.reads)
        for address in dict.fromkeys(addresses):
            yield Access.to(WORDS, word_number(address), Kind.READ)

    def perform(self, step: int) -> list[ReachedTable]:
        self.request.looked_up = step
        starts = self.cache.starts(self.request, step)
        self.found = len(starts)
        return starts

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"iommu": self.cache.iotlb.unit, "dfn": self.request.dfn, "entries": self.found}


class ChooseStart(Choose):
    """Choose where a walk starts: at the root table (0), or at one of the cached entries."""

    __slots__ = ("starts",)

    event = "walk.start"

    def __init__(self, starts: Sequence[ReachedTable]) -> None:
        super().__init__("start of the walk", 1 + len(starts))
        self.starts = starts

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        _, keys = super().describe()
        if not self.chosen:
            return self.event, keys
        tables = self.starts[self.chosen - 1].tables
        return self.event, {**keys, "tag": tables.tag, "table_level": tables.levels, "address": tables.root}


async def choose_start(cache: WalkCache | None, request: Request) -> ReachedTable | None:
    """Return the cached table entry at which the walk of a request starts; None if it starts at the root table.

    Takes no step where the unit caches no table entries, and makes no choice where all starts come to the same.
    """
    starts = [] if cache is None else await FindStarts(cache, request)
    chosen = await ChooseStart(starts) if starts else 0
    return starts[chosen - 1] if chosen else None


class FillTables(Operation[None]):
    """Cache the table entries that a walk has read, unless the walk is void."""

    __slots__ = ("cache", "reached", "request", "was_filled")

    def __init__(self, cache: WalkCache, request: Request, reached: Sequence[ReachedTable]) -> None:
        self.cache = cache
        self.request = request
        self.reached = reached
        self.was_filled = False

    def accesses(self) -> Iterable[Access]:
        for one in self.reached:
            yield self.cache.access(one.order, one.first, one.first, Kind.WRITE, one.user)
        yield from self.cache.iotlb.walk_accesses(self.request.dfn, self.request.reads)

    def perform(self, step: int) -> None:
        self.was_filled = not self.cache.is_void(self.request)
        for one in self.reached if self.was_filled else ():
            self.cache.insert(one)

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        keys = {"iommu": self.cache.iotlb.unit, "dfn": self.request.dfn, "entries": len(self.reached)}
        return "walk_cache.fill" if self.was_filled else "walk_cache.void", {**keys, "tag": self.request.tag}
