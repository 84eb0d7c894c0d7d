"""Requests of devices in flight, from the moment they ask for a translation until their access is committed.

An invalidation has to deal with two sorts of them (VT-d 6.5.4, 6.5.3.3): a walk that has read an entry which was
replaced before the invalidation began must not fill a cache with it any more, and begins again; and, where the unit
drains, a request that was translated before its entry was dropped must be committed before the invalidation completes.
"""

from collections.abc import Iterator
from typing import NamedTuple

import attrs

from emu.engine import Access, Kind, Latch
from emu.iommus.translation import level_base, level_order
from emu.memory import Memory
from emu.units import Dfn

REQUEST_BITS = 32
CONTEXT_LEVEL = 6
"""Where context entries stand as if they were tables: above every page table, so that each stands for every dfn."""


class TableRead(NamedTuple):
    """One word that a walk has read, of a context entry or a page table, with its level and the step."""

    level: int
    address: int
    step: int
    is_leaf: bool

    def spans(self, dfn: Dfn, first: Dfn, last: Dfn) -> bool:
        """Whether the word, read for a dfn, stands for one of the dfns first..last."""
        base = level_base(dfn, self.level)
        return base <= last and first < base + (1 << level_order(self.level))

    def was_replaced(self, memory: Memory, step: int) -> bool:
        """Whether a walker could see a newer value of the word, after it was read and up to a step."""
        return any(self.step < version.visible <= step for version in memory.history(self.address))


@attrs.define(eq=False)
class Request:
    """One access that a device wants to make.

    Attributes:
        number: the source-id, and a count of its requests.
        is_write: what the access is to do.
        tag: the domain tag under which the page tables are being walked, or the request was translated.
        reads: what the present walk has read of page tables.
        is_void: the present walk may not fill a cache any more.
        is_translated: the translation is known and the access is not yet committed.
        is_recalled: it was translated, and must be so again.
        is_left: an invalidation that covers its translation was not asked, or is not able, to drain it.
        committed: set when the access has been made.
        programmed_by: the number of the domain on whose behalf it is, where that matters.
    """

    number: int
    source_id: int
    dfn: Dfn
    is_write: bool
    committed: Latch
    tag: int | None = None
    reads: list[TableRead] = attrs.field(factory=list)
    is_void: bool = False
    is_translated: bool = False
    is_recalled: bool = False
    is_left: bool = False
    programmed_by: int | None = None

    def begin_walk(self) -> None:
        """Forget an earlier walk and begin one."""
        self.tag = None
        self.reads = []
        self.is_void = False

    def translate(self, tag: int) -> None:
        """Note that the request now has its translation."""
        self.tag = tag
        self.is_translated = True
        self.is_void = self.is_left = False

    def recall(self) -> None:
        """Take the translation back: the request begins again."""
        self.is_translated = False
        self.is_recalled = True


@attrs.define(eq=False)
class Requests:
    """The requests of one unit that are in flight, in the order in which they were made."""

    unit: str
    counts: dict[tuple[int, int], int] = attrs.field(factory=dict)
    in_flight: dict[int, Request] = attrs.field(factory=dict)

    def open(self, source_id: int, dfn: Dfn, *, is_write: bool, first: int = 0) -> Request:
        """Return a new request.

        Args:
            first: from which number on the requests of whoever makes it are counted.
        """
        serial = (source_id, first)
        count = self.counts[serial] = self.counts.get(serial, first - 1) + 1
        number = source_id << REQUEST_BITS | count
        touch = Access.to(("request", self.unit), number, Kind.WRITE)
        latch = Latch(f"access {count} of source-id {source_id:#x}, to dfn {dfn:#x} at {self.unit}", touch)
        request = Request(number, source_id, dfn, is_write, latch)
        self.in_flight[number] = request
        return request

    def close(self, request: Request, step: int) -> None:
        """Take a request out of flight: its access was made at this step, or it faulted."""
        request.is_translated = False
        del self.in_flight[request.number]
        request.committed.set(step)

    def under(self, tag: int | None) -> Iterator[Request]:
        """Yield the requests whose walk or translation is under a tag; under any if it is None."""
        return (one for one in self.in_flight.values() if one.tag is not None and tag in {None, one.tag})

    def translated(self, tag: int | None, first: Dfn, last: Dfn) -> list[Request]:
        """Return the requests for dfns first..last that have their translation and are not yet committed."""
        found = [one for one in self.under(tag) if one.is_translated and first <= one.dfn <= last]
        return sorted(found, key=lambda one: one.number)

    def void_walks(self, memory: Memory, tag: int | None, first: Dfn, last: Dfn, start: int, *, leaf_only: bool) -> int:
        """Void the walks that have read an entry in a range which was replaced before step `start`; return how many.

        A table entry stands for every dfn below it, so it is in the range if one of them is; it counts unless the
        invalidation is for leaves only. A walk that read only what was still in force may go on: beginning again it
        would find the same.
        """
        voided = 0
        for request in self.under(tag):
            held = (one for one in request.reads if one.is_leaf or not leaf_only)
            if not (request.is_translated or request.is_void) and any(
                one.spans(request.dfn, first, last) and one.was_replaced(memory, start) for one in held
            ):
                request.is_void = True
                voided += 1
        return voided
