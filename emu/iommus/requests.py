"""Requests of devices in flight: from asking for a translation until the access is committed.

An invalidation affects two sorts of requests (VT-d 6.5.4, 6.5.3.3). A walk that has read an entry which was replaced
before the invalidation began must not fill a cache with it, and begins again. If the unit drains, a request that was
translated before its entry was dropped must be committed before the invalidation completes.

A walk finds out that it is void when it is about to fill, from the words that it has read and the invalidations since.
So it makes no difference how far the walk had come when an entry was dropped.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import NamedTuple

import attrs

from emu.engine import Access, Kind, Latch
from emu.iommus.formats import base_of_order
from emu.iommus.paths import Tables
from emu.memory import Memory
from emu.units import Dfn

REQUEST_BITS = 32


class TableRead(NamedTuple):
    """One word that a walk has read, of a device's own entry or of a page table.

    Attributes:
        level: the level of the table; the format's `device_level` if the word belongs to a device's own entry.
        order: the word stands for 2^order dfns.
        step: the step of the read.
    """

    level: int
    order: int
    address: int
    step: int
    is_leaf: bool

    def spans(self, dfn: Dfn, first: Dfn, last: Dfn) -> bool:
        """Whether the word, read for a dfn, stands for one of the dfns first..last."""
        base = base_of_order(dfn, self.order)
        return base <= last and first < base + (1 << self.order)

    def was_replaced(self, memory: Memory, step: int) -> bool:
        """Whether a newer value of the word became visible to walkers after the read and up to a step."""
        return any(self.step < version.visible <= step for version in memory.history(self.address))


@attrs.define(eq=False)
class Request:
    """One access that a device wants to make.

    Attributes:
        number: the source-id, and a count of its requests.
        user: the number by which the cache looks its translation up: the source-id, or a number that devices share.
        is_write: whether the access writes.
        tag: the domain tag under which the page tables are being walked, or the request was translated.
        reads: the words that the present walk has read.
        began: the step after which the present walk began.
        is_translated: the translation is known and the access is not yet committed.
        is_recalled: it lost its translation, and must be translated again.
        is_undrained: an invalidation dropped its translation and did not drain the request: it was not asked to, or the
            unit cannot drain.
        committed: set when the access was made or has faulted.
        programmed_by: the number of the domain whose driver programmed the access; None if no driver did.
        tables: the tables that the device's own entry named, where that is read before the cache is looked up.
        looked_up: the step at which cached table entries were last looked up.
        start: the cached table entry at which the present walk started; None if it started at the root table.
    """

    number: int
    source_id: int
    user: int
    dfn: Dfn
    is_write: bool
    committed: Latch
    tag: int | None = None
    reads: list[TableRead] = attrs.field(factory=list)
    began: int = 0
    is_translated: bool = False
    is_recalled: bool = False
    is_undrained: bool = False
    programmed_by: int | None = None
    tables: Tables | None = None
    looked_up: int = 0
    start: TableRead | None = None

    def begin_walk(self, step: int) -> None:
        """Forget an earlier walk, and begin a walk after a step."""
        self.began = step
        self.tag = self.start = None
        self.reads = []

    def translate(self, tag: int) -> None:
        """Note that the request now has its translation."""
        self.tag = tag
        self.is_translated = True
        self.is_undrained = False

    def recall(self) -> None:
        """Take the translation back: the request begins again."""
        self.is_translated = False
        self.is_recalled = True


class Removal(NamedTuple):
    """The entries that an invalidation dropped: dfns first..last of a tag, or of all tags if it is None.

    Attributes:
        start: the step at which the invalidation began.
        leaf_only: cached table entries were allowed to stay.
        step: the step at which the entries were dropped.
    """

    start: int
    tag: int | None
    first: Dfn
    last: Dfn
    leaf_only: bool
    step: int

    def covers(self, read: TableRead, dfn: Dfn) -> bool:
        """Whether the invalidation dropped a word that was read for a dfn."""
        return (read.is_leaf or not self.leaf_only) and read.spans(dfn, self.first, self.last)


@attrs.define(eq=False)
class Requests:
    """The requests of one unit that are in flight, in the order in which they were made.

    Attributes:
        removals: the removals by all invalidations, sorted by start.
    """

    unit: str
    counts: dict[tuple[int, int], int] = attrs.field(factory=dict)
    in_flight: dict[int, Request] = attrs.field(factory=dict)
    removals: list[Removal] = attrs.field(factory=list)

    def open(self, source_id: int, dfn: Dfn, *, is_write: bool, first: int = 0) -> Request:
        """Return a new request.

        Args:
            first: the number of its maker's first request.
        """
        serial = (source_id, first)
        count = self.counts[serial] = self.counts.get(serial, first - 1) + 1
        number = source_id << REQUEST_BITS | count
        touch = Access.to(("request", self.unit), number, Kind.WRITE)
        latch = Latch(f"access {count} of source-id {source_id:#x}, to dfn {dfn:#x} at {self.unit}", touch)
        request = Request(number, source_id, source_id, dfn, is_write, latch)
        self.in_flight[number] = request
        return request

    def close(self, request: Request, step: int) -> None:
        """End a request: its access was made at this step, or it faulted."""
        request.is_translated = False
        del self.in_flight[request.number]
        request.committed.set(step)

    def translated(self, tag: int | None, first: Dfn, last: Dfn) -> list[Request]:
        """Return the requests for dfns first..last that have their translation and are not yet committed."""
        found = [
            one
            for one in self.in_flight.values()
            if one.is_translated and tag in {None, one.tag} and first <= one.dfn <= last
        ]
        return sorted(found, key=lambda one: one.number)

    def is_void(self, request: Request, was_replaced: Callable[[Request, TableRead, int], bool]) -> bool:
        """Whether a walk has read an entry that had been replaced when an invalidation dropped it, and so may not fill.

        A walk may fill if none of its words had been replaced by then: a new walk would find the same.

        Args:
            was_replaced: whether walkers could see a newer value of a word, read by a request, up to a step.
        """
        return any(
            was_replaced(request, read, removal.start)
            for removal in self.removed_since(request)
            for read in request.reads
            if removal.covers(read, request.dfn)
        )

    def has_dropped_start(self, request: Request) -> bool:
        """Whether an invalidation has dropped the cached table entry at which a walk started, after the lookup."""
        start, tags = request.start, (None, request.tag)
        since = (removal for removal in self.removals if removal.step > request.looked_up and removal.tag in tags)
        return start is not None and any(removal.covers(start, request.dfn) for removal in since)

    def removed_since(self, request: Request) -> Iterator[Removal]:
        """Yield the removals, under a request's tag, by invalidations that began after the request's walk."""
        first = bisect_right(self.removals, request.began, key=lambda one: one.start)
        return (one for one in self.removals[first:] if one.tag in {None, request.tag})
