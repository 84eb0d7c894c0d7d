"""Requests of devices in flight, from the moment they ask for a translation until their access is committed.

An invalidation has to deal with two sorts of them (VT-d 6.5.4, 6.5.3.3): a walk that has read an entry which was
replaced before the invalidation began must not fill a cache with it any more, and begins again; and, where the unit
drains, a request that was translated before its entry was dropped must be committed before the invalidation completes.
"""

from collections.abc import Iterable, Iterator

import attrs

from emu.engine import Access, Kind, Latch
from emu.memory import Memory
from emu.units import Dfn


@attrs.define(eq=False)
class Request:
    """One access that a device wants to make.

    Attributes:
        number: counts the requests of a unit.
        is_write: what the access is to do.
        tag: the domain tag under which the page tables are being walked, or the request was translated.
        reads: words of page tables that the present walk has read, with the step of each.
        is_void: the present walk may not fill a cache any more.
        is_translated: the translation is known and the access is not yet committed.
        committed: set when the access has been made.
    """

    number: int
    source_id: int
    dfn: Dfn
    is_write: bool
    committed: Latch
    tag: int | None = None
    reads: list[tuple[int, int]] = attrs.field(factory=list)
    is_void: bool = False
    is_translated: bool = False

    def begin_walk(self) -> None:
        """Forget an earlier walk and begin one."""
        self.tag = None
        self.reads = []
        self.is_void = False

    def translate(self, tag: int) -> None:
        """Note that the request now has its translation."""
        self.tag = tag
        self.is_translated = True


@attrs.define(eq=False)
class Requests:
    """The requests of one unit that are in flight, in the order in which they were made."""

    unit: str
    count: int = 0
    in_flight: dict[int, Request] = attrs.field(factory=dict)

    def open(self, source_id: int, dfn: Dfn, *, is_write: bool) -> Request:
        """Return a new request."""
        number, self.count = self.count, self.count + 1
        touch = Access.to(("request", self.unit), number, Kind.WRITE)
        latch = Latch(f"the access of request {number} to dfn {dfn:#x} at {self.unit}", touch)
        request = Request(number, source_id, dfn, is_write, latch)
        self.in_flight[number] = request
        return request

    def close(self, request: Request) -> None:
        """Take a request out of flight: its access was made, or it faulted."""
        request.is_translated = False
        del self.in_flight[request.number]
        request.committed.set()

    def matching(self, tag: int | None, first: Dfn, last: Dfn) -> Iterator[Request]:
        """Yield the requests under a tag (None: under any) for a range of dfns."""
        for request in self.in_flight.values():
            if request.tag is not None and tag in (None, request.tag) and first <= request.dfn <= last:
                yield request

    def void_walks(self, tag: int | None, first: Dfn, last: Dfn, start: int, memory: Memory) -> int:
        """Void the walks in a range that have read a word which was replaced before step `start`; return how many.

        A walk that read only what was still in force then may go on: beginning again it would find the same.
        """
        voided = 0
        for request in self.matching(tag, first, last):
            if not (request.is_translated or request.is_void) and was_replaced(memory, request.reads, start):
                request.is_void = True
                voided += 1
        return voided


def was_replaced(memory: Memory, reads: Iterable[tuple[int, int]], start: int) -> bool:
    """Whether one of the words, each read at its step, was given a newer value before step `start`."""
    return any(read < version.visible < start for address, read in reads for version in memory.history(address))
