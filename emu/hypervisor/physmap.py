"""Moving pages within a domain's physmap, in versions that Xen's code has had over the years (Xen: common/memory.c).

xenmem_add_to_physmap moves a range of pages. It sets iommu_dont_flush_iotlb meanwhile, and flushes for all pages at the
end. Each version, a `Form`, is named by the year of its commit.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

import attrs

from emu.cpus import Cpu
from emu.engine import Access, Kind, Operation
from emu.hypervisor.calls import Calls
from emu.hypervisor.domain import Domain
from emu.hypervisor.ops import EINVAL, OK, iommu_dont_flush_iotlb
from emu.hypervisor.pages import Pages
from emu.units import Dfn, Mfn, check_frame


class Form(Enum):
    """A version of the code, with the changes of all versions before it."""

    INTRODUCED = "2011"  # cf95b2a9fd: the flag is set; an error leaves it set
    XSA_80 = "2013"  # 552b7fcb9a: every exit clears it
    XSA_222 = "2017"  # a0cce6048d: a page that cannot be removed keeps its frame, and nothing takes its place
    XSA_346_PART_1 = "2020-1"  # dea460d869: a displaced page is removed with the flag cleared, so that it is flushed
    XSA_346_PART_2 = "2020-2"  # 5777a3742d: each moved page keeps a reference until its old place has been flushed
    XSA_355 = "2020-3"  # 9b156bcc3f: a pass ends when the array of these references is full, not one page later

    def has(self, form: "Form") -> bool:
        """Whether the code has the change of another version."""
        order = list(Form)
        return order.index(self) >= order.index(form)


class ReadP2m(Operation[Mfn | None]):
    """Look a page up (Xen: arch/x86/include/asm/p2m.h, get_gfn)."""

    __slots__ = ("dfn", "domain", "mfn")

    event = "p2m.read"

    def __init__(self, domain: Domain, dfn: Dfn) -> None:
        self.domain = domain
        self.dfn = dfn
        self.mfn: Mfn | None = None

    def accesses(self) -> Iterable[Access]:
        return (Access.to(("p2m", f"d{self.domain.number}"), self.dfn, Kind.READ),)

    def perform(self, step: int) -> Mfn | None:
        self.mfn = self.domain.p2m.get(self.dfn)
        return self.mfn

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, entry_keys(self.domain, self.dfn, self.mfn)


class WriteP2m(Operation[None]):
    """Enter or remove a page in the p2m, but not in the IOMMU's tables (Xen: arch/x86/mm/p2m.c, p2m_set_entry)."""

    __slots__ = ("dfn", "domain", "mfn")

    event = "p2m.write"

    def __init__(self, domain: Domain, dfn: Dfn, mfn: Mfn | None) -> None:
        self.domain = domain
        self.dfn = dfn
        self.mfn = mfn

    def accesses(self) -> Iterable[Access]:
        return (Access.to(("p2m", f"d{self.domain.number}"), self.dfn, Kind.WRITE),)

    def perform(self, step: int) -> None:
        if self.mfn is None:
            self.domain.p2m.pop(self.dfn, None)
        else:
            self.domain.p2m[self.dfn] = self.mfn

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, entry_keys(self.domain, self.dfn, self.mfn)


def entry_keys(domain: Domain, dfn: Dfn, mfn: Mfn | None) -> dict[str, Any]:
    """Return an entry of a p2m as keys of an event."""
    keys = {"domain": domain.number, "dfn": dfn}
    return keys if mfn is None else {**keys, "mfn": mfn}


def ranges(dfns: Iterable[Dfn]) -> Iterator[tuple[Dfn, int]]:
    """Yield the first page and the length of each run of pages that follow one another."""
    first, count = Dfn(0), 0
    for dfn in dfns:
        if count and dfn == first + count:
            count += 1
            continue
        if count:
            yield first, count
        first, count = dfn, 1
    if count:
        yield first, count


@attrs.frozen
class Physmap:
    """Callers of map and unmap that own the pages.

    They update the p2m and the IOMMU's tables under the p2m_lock. A deferred flush comes after the lock was released.

    Attributes:
        slots: the size of a pass's array of references to moved pages.
    """

    hypervisor: Calls
    pages: Pages
    form: Form
    slots: int = 16

    async def add_entry(self, cpu: Cpu, domain: Domain, dfn: Dfn, mfn: Mfn) -> int:
        """Enter a page (Xen: arch/x86/mm/p2m.c, guest_physmap_add_entry)."""
        async with domain.p2m_lock.held(cpu):
            await WriteP2m(domain, check_frame("dfn", dfn), check_frame("mfn", mfn))
            return await self.hypervisor.map(cpu, domain, dfn, mfn)

    async def remove_entry(self, cpu: Cpu, domain: Domain, dfn: Dfn) -> tuple[int, Mfn | None]:
        """Remove a page; return the result and its frame (Xen: arch/x86/mm/p2m.c, guest_physmap_remove_page)."""
        async with domain.p2m_lock.held(cpu):
            mfn = await ReadP2m(domain, check_frame("dfn", dfn))
            if mfn is None:
                return OK, None
            await WriteP2m(domain, dfn, None)
            result = await self.hypervisor.unmap(cpu, domain, dfn)
            if result != OK and self.form.has(Form.XSA_222):
                await WriteP2m(domain, dfn, mfn)
                return result, mfn
        return OK, mfn

    async def remove_page(self, cpu: Cpu, domain: Domain, dfn: Dfn) -> int:
        """Remove a page, and drop the reference of its allocation (Xen: common/memory.c, guest_remove_page)."""
        saved = await cpu.read(iommu_dont_flush_iotlb)
        if self.form.has(Form.XSA_346_PART_1):
            await cpu.write(iommu_dont_flush_iotlb, False)
        result, mfn = await self.remove_entry(cpu, domain, dfn)
        if mfn is not None and result == OK:
            await self.pages.put(cpu, mfn)
        if self.form.has(Form.XSA_346_PART_1):
            await cpu.write(iommu_dont_flush_iotlb, saved)
        return result

    async def move_page(self, cpu: Cpu, domain: Domain, old: Dfn, new: Dfn, held: list[Mfn]) -> int:
        """Move one page (Xen: arch/x86/mm.c, xenmem_add_to_physmap_one)."""
        mfn = await ReadP2m(domain, check_frame("dfn", old))
        if mfn is None or not await self.pages.get(mfn, domain):
            return EINVAL
        result = await self.remove_page(cpu, domain, new)
        if result == OK:
            result, _ = await self.remove_entry(cpu, domain, old)
        if result == OK:
            result = await self.add_entry(cpu, domain, new, mfn)
        if self.form.has(Form.XSA_346_PART_2):
            held.append(mfn)
        else:
            await self.pages.put(cpu, mfn)
        return result

    async def move_pages(self, cpu: Cpu, domain: Domain, moves: Sequence[tuple[Dfn, Dfn]]) -> int:
        """Move pages in as many hypercalls as needed (Xen: common/memory.c, xenmem_add_to_physmap)."""
        result = OK
        while moves and result == OK:
            async with cpu.hypercall("add_to_physmap"):
                result, done = await self.move_slice(cpu, domain, moves)
                moves = moves[done:]
                if moves and result == OK:
                    cpu.create_continuation()
        return result

    async def move_slice(self, cpu: Cpu, domain: Domain, moves: Sequence[tuple[Dfn, Dfn]]) -> tuple[int, int]:
        """Move pages and flush; return the result and the number (Xen: common/memory.c, in xenmem_add_to_physmap)."""
        held: list[Mfn] = []
        result, done = OK, 0
        await cpu.write(iommu_dont_flush_iotlb, True)
        for old, new in moves:
            result = await self.move_page(cpu, domain, old, new, held)
            if result != OK:
                if not self.form.has(Form.XSA_80):
                    return result, done
                break
            done += 1
            if self.is_full(len(held)):
                break
        if len(held) > self.slots:
            self.pages.judge.overrun(
                cpu, f"the array of {self.slots} reference{'' if self.slots == 1 else 's'}", len(held)
            )
        await cpu.write(iommu_dont_flush_iotlb, False)
        for first, pages in ranges(old for old, _ in moves[:done]):
            await self.hypervisor.flush(cpu, domain, first, pages=pages)
        for mfn in held:
            await self.pages.put(cpu, mfn)
        for first, pages in ranges(new for _, new in moves[:done]):
            await self.hypervisor.flush(cpu, domain, first, pages=pages)
        return result, done

    def is_full(self, held: int) -> bool:
        """Whether a pass ends with a full array of references (Xen: common/memory.c, in xenmem_add_to_physmap)."""
        return held >= self.slots if self.form.has(Form.XSA_355) else held > self.slots
