"""The calls map, unmap, flush and flush_all, as callers make them, whatever the revision.

Each call has a record. When the call returns, a step of its own gives the record to the judge. A revision does not know
of the record, so it cannot silence a check.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol

import attrs

from emu.cpus import Cpu, Hypercall
from emu.engine import Access, Kind, Operation
from emu.errors import ScenarioError
from emu.hypervisor.domain import Domain, check_types
from emu.hypervisor.ops import READ_WRITE, RESULT_NAMES, MapFlags, iommu_dont_flush_iotlb, unsigned_int
from emu.hypervisor.records import BOOT_CALLS, CHANGES, P2M_CALLS, CallRecord, open_call
from emu.hypervisor.returned import result_of
from emu.hypervisor.revisions.loader import Revision
from emu.memory import WORDS, table_words
from emu.units import Dfn, Mfn, check_frame, offset, page_count

DEFERRABLE = tuple(call for call in CHANGES if call not in P2M_CALLS)
"""The calls whose flush a caller may defer. Their promises are then due when the hypercall ends."""


PAGE_ORDER_MAX = 64
"""Of a page of any size that tables of any number of levels could have."""


class Judge(Protocol):
    """Judges the promise that a call makes by returning. Implemented by the checks, wired by the machine."""

    def reads(self, record: CallRecord) -> Iterable[Access]:
        """Return the reads of `judge` and `settle`."""

    def judge(self, record: CallRecord, step: int) -> None:
        """Judge a call at the step of its return."""

    def settle(self, record: CallRecord, step: int) -> None:
        """Judge a deferred call at the end of the hypercall that made it: its flush must have been made by then."""


class Enter(Operation[None]):
    """Call a flush. Its promise is about entries whose replacement walkers could see at this step."""

    __slots__ = ("record",)

    event = "call.enter"

    def __init__(self, record: CallRecord) -> None:
        self.record = record

    def accesses(self) -> Iterable[Access]:
        yield Access(WORDS, *table_words(self.record.domain.index), Kind.READ)

    def perform(self, step: int) -> None:
        record = self.record
        record.called = step
        last = record.dfn + record.page_count - 1 if record.page_count else None
        record.known = tuple(record.domain.known_dfns.irange(record.dfn, last))

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, call_keys(self.record)


class Return(Operation[None]):
    """Return from a call, and judge its promise."""

    __slots__ = ("judge", "record")

    event = "call.return"

    def __init__(self, record: CallRecord, judge: Judge) -> None:
        self.record = record
        self.judge = judge

    def accesses(self) -> Iterable[Access]:
        yield Access.to(iommu_dont_flush_iotlb.space, self.record.cpu.number, Kind.READ)
        for variable, _ in self.record.types.values():
            yield from variable.reading
        yield from self.judge.reads(self.record)

    def perform(self, step: int) -> None:
        record = self.record
        record.returned = step
        record.note_changed_types()
        record.is_deferred = record.call in DEFERRABLE and record.cpu.peek(iommu_dont_flush_iotlb)
        self.judge.judge(record, step)

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        record = self.record
        keys = {**call_keys(record), "result": RESULT_NAMES.get(record.result, record.result)}
        return self.event, {**keys, "deferred": True} if record.is_deferred else keys


def call_keys(record: CallRecord) -> dict[str, Any]:
    """Return a call as keys of an event."""
    keys: dict[str, Any] = {"call": record.call, "domain": record.domain.number}
    return {**keys, "dfn": record.dfn, "page_count": record.page_count} if record.page_count else keys


class Settle(Operation[None]):
    """End a hypercall with deferred calls, and judge whether their flushes were made, by whichever CPU."""

    __slots__ = ("cpu", "debts", "flag", "hypercall", "is_continued", "judge")

    event = "hypercall.settle"

    def __init__(self, hypercall: Hypercall, debts: list[CallRecord], judge: Judge) -> None:
        self.cpu = hypercall.cpu
        self.debts = debts
        self.judge = judge
        self.hypercall = hypercall.name
        self.is_continued = hypercall.is_continued
        self.flag = False

    def accesses(self) -> Iterable[Access]:
        yield Access.to(iommu_dont_flush_iotlb.space, self.cpu.number, Kind.READ)
        for record in self.debts:
            yield from self.judge.reads(record)

    def perform(self, step: int) -> None:
        self.flag = self.cpu.peek(iommu_dont_flush_iotlb)
        for record in self.debts:
            record.flag_is_left_set = self.flag
            record.is_continued = self.is_continued
            self.judge.settle(record, step)

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        keys: dict[str, Any] = {"hypercall": self.hypercall, "owed": len(self.debts)}
        return self.event, {**keys, "flag_left_set": True} if self.flag else keys


@attrs.frozen
class Calls:
    """The calls that one revision implements."""

    revision: Revision
    judge: Judge

    async def map(
        self, cpu: Cpu, domain: Domain, dfn: Dfn, mfn: Mfn, *, page_order: int = 0, flags: MapFlags = READ_WRITE
    ) -> int:
        """Map 2^page_order pages from `dfn` on to frames from `mfn` on; return 0 or a negative errno.

        Raises:
            ScenarioError: if dfn or mfn is not aligned to the order, or a dfn is beyond the reach of the tables.
        """
        check_types(cpu, domain)
        check_range(domain, dfn, page_order)
        check_order("mfn", mfn, page_order)
        record = self.open(cpu, "map", domain, dfn, page_count(page_order))
        record.mapped = (mfn, flags)
        return await self.close(record, self.revision.map, cpu, domain, dfn, mfn, page_order, flags)

    async def unmap(self, cpu: Cpu, domain: Domain, dfn: Dfn, *, page_order: int = 0) -> int:
        """Unmap 2^page_order pages; return 0 or a negative errno.

        Raises:
            ScenarioError: as `map`.
        """
        check_types(cpu, domain)
        check_range(domain, dfn, page_order)
        record = self.open(cpu, "unmap", domain, dfn, page_count(page_order))
        return await self.close(record, self.revision.unmap, cpu, domain, dfn, page_order)

    async def flush(self, cpu: Cpu, domain: Domain, dfn: Dfn, *, pages: int) -> int:
        """Flush a range of pages; return 0 or a negative errno.

        Raises:
            ScenarioError: if the range is empty or beyond the reach of the domain's tables.
        """
        check_types(cpu, domain)
        if type(pages) is not int or pages < 1:
            raise ScenarioError(f"a flush of {pages!r} pages: name at least one, or flush the whole domain")
        check_range(domain, dfn, 0)
        if pages == unsigned_int(pages):  # of more pages the wrapper sees another number
            check_range(domain, Dfn(dfn + pages - 1), 0)
        record = self.open(cpu, "flush", domain, dfn, pages)
        await Enter(record)
        return await self.close(record, self.revision.flush, cpu, domain, dfn, pages)

    async def flush_all(self, cpu: Cpu, domain: Domain) -> int:
        """Flush all cached entries of a domain; return 0 or a negative errno."""
        check_types(cpu, domain)
        record = self.open(cpu, "flush_all", domain, Dfn(0), 0)
        await Enter(record)
        return await self.close(record, self.revision.flush_all, cpu, domain)

    def open(self, cpu: Cpu, call: str, domain: Domain, dfn: Dfn, pages: int) -> CallRecord:
        """Begin the record of a call. A call in a softirq that interrupts another call has a record of its own."""
        record = CallRecord(call, cpu, domain, dfn, pages, outer=cpu.peek(open_call))
        if call in CHANGES and not domain.has_iommu:
            record.refused.update(offset(dfn, i) for i in range(pages))
        if call in CHANGES:
            cpu.note(Enter.event, **call_keys(record))
        cpu.poke(open_call, record)
        return record

    async def close(self, record: CallRecord, function: Callable[..., Awaitable[int]], *args: Any) -> int:
        """Make a call of a function and judge its return; a deferred call is judged again when its hypercall ends.

        Raises:
            ScenarioError: if the revision returns anything but 0 or a negative errno, or if the call is deferred
                outside of a hypercall, so that its flush is never due.
        """
        cpu = record.cpu
        record.result = result_of(await function(*args), function)
        cpu.poke(open_call, record.outer)
        await Return(record, self.judge)
        if record.outer is not None and record.outer.domain is record.domain and record.outer.call in BOOT_CALLS:
            record.outer.absorb(record)
        if record.is_deferred:
            if not cpu.hypercalls:
                raise ScenarioError(
                    f"{record.call} with iommu_dont_flush_iotlb set belongs into a hypercall, at whose end its flush "
                    'is due: write `async with cpu.hypercall("name"):`'
                )
            hypercall = cpu.hypercalls[-1]
            hypercall.deferred.append(record)
            hypercall.before_return = self.settle
        return record.result

    async def settle(self, hypercall: Hypercall) -> None:
        """Judge the deferred calls of a hypercall at its end."""
        await Settle(hypercall, hypercall.deferred, self.judge)


def check_order(name: str, frame: int, page_order: int) -> None:
    """Refuse a frame that is not aligned to an order, and what is no frame or no order.

    Raises:
        ScenarioError: naming the frame.
    """
    if type(page_order) is not int or not 0 <= page_order <= PAGE_ORDER_MAX:
        raise ScenarioError(f"there is no page order {page_order!r}: name one from 0 to {PAGE_ORDER_MAX}")
    if check_frame(name, frame) % page_count(page_order):
        raise ScenarioError(f"{name} {frame:#x} is not aligned to page order {page_order}: use a multiple of its size")


def check_range(domain: Domain, dfn: Dfn, page_order: int) -> None:
    """Refuse a range that is not aligned, or that the domain's tables do not reach.

    Raises:
        ScenarioError: naming the dfn.
    """
    check_order("dfn", dfn, page_order)
    if not 0 <= dfn <= dfn + page_count(page_order) - 1 < domain.format.reach(domain.most_levels):
        raise ScenarioError(
            f"dfn {dfn:#x} of order {page_order} lies beyond the reach of {domain.most_levels} levels of tables"
        )
