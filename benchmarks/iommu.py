"""CPUs unmap a page each while a device uses all of them: how the number of traces falls as objects become finer.

Every CPU clears its page-table entry and then invalidates the IOTLB: its own page's entry, or all of them; in some
programs under the lock of the invalidation queue. The device looks each page up, and where it is not there reads the
page-table entry and fills it in.
"""

from collections.abc import Iterable, Iterator
from enum import Enum
from functools import partial

import attrs

from emu.bench.benchmark import Benchmark, BySize, make_agents
from emu.engine import Access, Agent, Kind, Latch, Operation, TicketLock
from emu.engine.accesses import Section
from emu.engine.locks import Acquire, Release, TakeTicket


class Detail(Enum):
    """How fine objects are, and whether invalidations commute; each detail includes those before it."""

    ONE = "one"  # a single object, lock included: every interleaving is a trace
    TABLE = "table"  # all page-table entries, all of the IOTLB, and the lock
    WORD = "word"  # each entry
    COMMUTE = "commute"  # two invalidations commute
    PRESENT = "present"  # an invalidation of an absent entry only reads it


SIZES: dict[Detail, tuple[tuple[int, ...], tuple[int, ...]]] = {
    Detail.ONE: ((), (2,)),
    Detail.TABLE: ((2,), (3,)),
    Detail.WORD: ((3,), ()),
    Detail.COMMUTE: ((3,), ()),
    Detail.PRESENT: ((3,), ()),
}
"""The default sizes, and those that take long."""

EVERYTHING = (Access.to(("everything",), 0, Kind.WRITE),)


@attrs.define
class Table:
    """The page-table entries, or the IOTLB."""

    name: str
    entries: list[bool]
    detail: Detail

    def touch(self, numbers: range, kind: Kind) -> tuple[Access, ...]:
        """Return the accesses to these entries, as fine as the detail says."""
        if self.detail is Detail.ONE:
            return EVERYTHING
        if self.detail is Detail.TABLE:
            return (Access.to((self.name,), 0, kind),)
        return (Access((self.name,), numbers[0], numbers[-1], kind),)


class Read(Operation[bool]):
    """Read whether an entry is present."""

    __slots__ = ("number", "table")

    event = "entry.read"

    def __init__(self, table: Table, number: int) -> None:
        self.table = table
        self.number = number

    def accesses(self) -> Iterable[Access]:
        return self.table.touch(range(self.number, self.number + 1), Kind.READ)

    def perform(self, step: int) -> bool:
        return self.table.entries[self.number]


class Write(Operation[None]):
    """Enter or clear an entry."""

    __slots__ = ("number", "table", "value")

    event = "entry.write"

    def __init__(self, table: Table, number: int, *, value: bool) -> None:
        self.table = table
        self.number = number
        self.value = value

    def accesses(self) -> Iterable[Access]:
        return self.table.touch(range(self.number, self.number + 1), Kind.WRITE)

    def perform(self, step: int) -> None:
        self.table.entries[self.number] = self.value


class Invalidate(Operation[None]):
    """Clear entries of the IOTLB, all at once."""

    __slots__ = ("numbers", "table", "was_there")

    event = "iotlb.invalidate"

    def __init__(self, table: Table, numbers: range) -> None:
        self.table = table
        self.numbers = numbers
        self.was_there: list[bool] = []

    def accesses(self) -> Iterable[Access]:
        kind = Kind.COMMUTE if self.table.detail is Detail.COMMUTE else Kind.WRITE
        return self.table.touch(self.numbers, kind)

    def touched(self) -> Iterable[Access] | None:
        return tuple(self.entries_touched()) if self.table.detail is Detail.PRESENT else None

    def entries_touched(self) -> Iterator[Access]:
        """Yield an access to each entry: only a read if the entry was absent."""
        for number, was_there in zip(self.numbers, self.was_there, strict=True):
            yield Access.to((self.table.name,), number, Kind.COMMUTE if was_there else Kind.READ)

    def perform(self, step: int) -> None:
        self.was_there = [self.table.entries[number] for number in self.numbers]
        for number in self.numbers:
            self.table.entries[number] = False


class AcquireVisibly(Acquire):
    """Go on once the ticket is served, in a step that conflicts with all others."""

    __slots__ = ()

    def accesses(self) -> Iterable[Access]:
        return (*super().accesses(), *EVERYTHING)


class ReleaseVisibly(Release):
    """Serve the next ticket, in a step that conflicts with all others."""

    __slots__ = ()

    def accesses(self) -> Iterable[Access]:
        return (*super().accesses(), *EVERYTHING)


async def invalidate_visibly(invalidation: Invalidate, lock: TicketLock, who: str) -> None:
    """Invalidate under a lock whose steps conflict with all others, except drawing a ticket: a plain lock has none."""
    ticket = TakeTicket(lock, who, Section(lock.space, None))
    latch: Latch = await ticket
    await AcquireVisibly(latch, ticket)
    await invalidation
    await ReleaseVisibly(lock, ticket.ticket)


def unmap_all(n: int, *, detail: Detail, is_global: bool, is_locked: bool) -> list[Agent]:
    """Return the CPUs that each unmap one of n pages, and the device that uses all pages."""
    ptes, iotlb = Table("pte", [True] * n, detail), Table("iotlb", [False] * n, detail)
    lock = TicketLock("queue")

    async def unmap(page: int) -> None:
        await Write(ptes, page, value=False)
        invalidation = Invalidate(iotlb, range(n) if is_global else range(page, page + 1))
        if not is_locked:
            await invalidation
        elif detail is Detail.ONE:
            await invalidate_visibly(invalidation, lock, f"agent{page}")
        else:
            async with lock.held_by(f"agent{page}"):
                await invalidation

    async def use() -> None:
        for page in range(n):
            if not await Read(iotlb, page) and await Read(ptes, page):
                await Write(iotlb, page, value=True)

    return make_agents(*[partial(unmap, page) for page in range(n)], use)


def family(name: str, story: str, *, is_global: bool, is_locked: bool, traces: dict[Detail, BySize]) -> list[Benchmark]:
    """Return a benchmark for each detail."""
    return [
        Benchmark(
            f"{name}.{detail.value}",
            f"{story}, objects as fine as {detail.value!r}.",
            partial(unmap_all, detail=detail, is_global=is_global, is_locked=is_locked),
            known,
            *SIZES[detail],
            is_exact=detail is not Detail.PRESENT,
        )
        for detail, known in traces.items()
    ]


BENCHMARKS = [
    *family(
        "flush_page",
        "Each CPU invalidates its page",
        is_global=False,
        is_locked=False,
        traces={
            Detail.ONE: {1: 8, 2: 707},
            Detail.TABLE: {1: 4, 2: 112, 3: 7993},
            Detail.WORD: lambda n: 4**n,
            Detail.COMMUTE: lambda n: 4**n,
            Detail.PRESENT: lambda n: 3**n,
        },
    ),
    *family(
        "flush_all",
        "Each CPU invalidates everything",
        is_global=True,
        is_locked=False,
        traces={
            Detail.ONE: {1: 8, 2: 707},
            Detail.TABLE: {1: 4, 2: 112, 3: 7993},
            Detail.WORD: {1: 4, 2: 47, 3: 898},
            Detail.COMMUTE: {1: 4, 2: 37, 3: 535},
            Detail.PRESENT: {1: 3, 2: 19, 3: 178},
        },
    ),
    *family(
        "flush_page_locked",
        "Each CPU invalidates its page under the queue's lock",
        is_global=False,
        is_locked=True,
        traces={
            Detail.ONE: {1: 19, 2: 8803},
            Detail.TABLE: {1: 4, 2: 112, 3: 7993},
            Detail.WORD: {1: 4, 2: 26, 3: 228, 4: 2496},
            Detail.COMMUTE: {1: 4, 2: 26, 3: 228},
            Detail.PRESENT: {1: 3, 2: 16, 3: 120},
        },
    ),
    *family(
        "flush_all_locked",
        "Each CPU invalidates everything under the queue's lock",
        is_global=True,
        is_locked=True,
        traces={
            Detail.ONE: {1: 19, 2: 8803},
            Detail.TABLE: {1: 4, 2: 112, 3: 7993},
            Detail.WORD: {1: 4, 2: 47, 3: 898},
            Detail.COMMUTE: {1: 4, 2: 47, 3: 898},
            Detail.PRESENT: {1: 3, 2: 22, 3: 246},
        },
    ),
]
