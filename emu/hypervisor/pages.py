"""Owners and references of frames, and what happens when the last reference is dropped.

Frames of page tables are included: a unit may have cached a table entry that leads to a free one.

As in Xen, a frame that a domain owns has one reference for its allocation, and one for each use during which it must
not be freed. When the last reference is dropped the frame is free, and any domain's next allocation may return it. The
frame that was freed last is allocated first: in this order a premature free does most harm.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import attrs

from emu.cpus import Cpu
from emu.engine import Access, Kind, Operation, Space
from emu.errors import ScenarioError
from emu.hypervisor.domain import Domain, check_cast
from emu.memory import WORDS, WORDS_OF_FRAME, Memory, word_number
from emu.units import Dfn, Mfn, frame_address

PAGES: Space = ("page",)
"""Frames as shared objects: owner and references, numbered by mfn."""

HEAP = (("heap",), 0)
"""The free frames, as one shared object."""


@attrs.define(eq=False)
class Page:
    """One frame (Xen: arch/x86/include/asm/mm.h, struct page_info).

    Attributes:
        owner: the domain that it belongs to; None while it is free.
        references: their number; the frame is free at 0.
        generation: how often it was given to an owner.
        table: the domain whose page table it is, or was until it was freed, and a dfn that the table translates.
        freed: which CPU freed it last while it was a page table, and at which step.
    """

    mfn: Mfn
    owner: Domain | None
    references: int = 1
    generation: int = 1
    table: tuple[Domain, Dfn] | None = None
    freed: tuple[str, int] | None = None


class OwnerJudge(Protocol):
    """Judges what must hold when a frame is freed or gets a new owner. Implemented by the checks."""

    def reads_of_page(self, page: Page) -> Iterable[Access]:
        """Return the shared objects that `owner_changes` depends on."""

    def owner_changes(self, page: Page, cpu: Cpu, call: str, step: int) -> None:
        """Judge a frame at the step that freed it, or gave it to `page.owner`."""

    def entry_stored(self, page: Page, cpu: Cpu, domain: Domain, dfn: Dfn, step: int) -> None:
        """Note that a CPU has stored an entry for a dfn into a frame that is no longer a table of the domain."""

    def page_changed(self, cpu: Cpu, domain: Domain, dfn: Dfn, step: int) -> None:
        """Note that a CPU has changed by a store what a page maps, while no call was open there."""

    def overrun(self, cpu: Cpu, array: str, count: int) -> None:
        """Note that a CPU has stored `count` references into an array with less room."""


@attrs.define(eq=False)
class Pages:
    """All frames that a domain owns or has owned.

    Attributes:
        free: the frames without an owner; the one that was freed last is at the end.
    """

    memory: Memory
    judge: OwnerJudge
    frames: dict[Mfn, Page] = attrs.field(factory=dict)
    free: list[Page] = attrs.field(factory=list)

    def add(self, mfn: Mfn, owner: Domain) -> None:
        """Let a domain own a frame, before the first step."""
        self.frames[mfn] = Page(mfn, owner)

    def add_table(self, domain: Domain, dfn: Dfn) -> Mfn:
        """Return a zeroed frame for a page table of a domain that translates a dfn. Takes no step."""
        mfn = self.memory.allocate_table(domain.index)
        self.frames[mfn] = Page(mfn, domain, table=(domain, dfn))
        domain.tables.append(mfn)
        return mfn

    def dfn_of_table(self, frame: Mfn, domain: Domain) -> Dfn | None:
        """Return a dfn that a table of a domain translates; None if the frame is no table of the domain."""
        page = self.find(frame)
        return page.table[1] if page.owner is domain and page.table is not None else None

    def entry_stored(self, frame: Mfn, cpu: Cpu, domain: Domain, dfn: Dfn, step: int) -> None:
        """Tell the judge if a CPU stores an entry for a domain's dfn into a frame that is not one of its tables."""
        if self.dfn_of_table(frame, domain) is None:
            self.judge.entry_stored(self.find(frame), cpu, domain, dfn, step)

    def page_changed(self, cpu: Cpu, domain: Domain, dfn: Dfn, step: int) -> None:
        """Tell the judge that a CPU changes what a page maps, while no call is open there."""
        self.judge.page_changed(cpu, domain, dfn, step)

    def page(self, mfn: Mfn) -> Page:
        """Return a frame.

        Raises:
            ScenarioError: if no domain has ever owned it.
        """
        page = self.find(mfn)
        if page.generation == 0:
            raise ScenarioError(f"mfn {mfn:#x} belongs to nobody: allocate it for a domain, m.allocate(domain=...)")
        return page

    def find(self, mfn: Mfn) -> Page:
        """Return a frame, even if no domain has ever owned it."""
        return self.frames.get(mfn) or Page(mfn, None, references=0, generation=0)

    async def get(self, mfn: Mfn, domain: Domain) -> bool:
        """Take a reference if the domain owns the frame; return whether it does (Xen: arch/x86/mm.c, get_page)."""
        check_cast(domain=domain)
        return await GetPage(self, self.page(mfn), domain)

    async def put(self, cpu: Cpu, mfn: Mfn) -> bool:
        """Drop a reference; return whether it was the last and the frame is free (Xen: arch/x86/mm.c, put_page)."""
        check_cast(cpu)
        return await PutPage(self, self.page(mfn), cpu)

    async def allocate(self, cpu: Cpu, domain: Domain) -> Mfn:
        """Give a domain a free frame, zeroed, and return it (Xen: common/page_alloc.c, alloc_domheap_pages)."""
        check_cast(cpu, domain)
        return await AllocatePage(self, cpu, domain)

    @property
    def next_free(self) -> Page:
        """The frame that is allocated next, even if no domain has ever owned it."""
        return self.free[-1] if self.free else self.find(self.memory.next_data)

    def take_free(self) -> Page:
        """Remove the frame that is allocated next from the free ones, and return it."""
        if self.free:
            return self.free.pop()
        page = self.find(self.memory.allocate_data())
        self.frames[page.mfn] = page
        return page


class GetPage(Operation[bool]):
    """Take a reference if a domain owns a frame; return whether it does (Xen: arch/x86/mm.c, get_page)."""

    __slots__ = ("domain", "has_got", "page", "pages")

    event = "page.get"

    def __init__(self, pages: Pages, page: Page, domain: Domain) -> None:
        self.pages = pages
        self.page = page
        self.domain = domain
        self.has_got = False

    def accesses(self) -> Iterable[Access]:
        return (Access.to(PAGES, self.page.mfn, Kind.WRITE),)

    def perform(self, step: int) -> bool:
        self.has_got = self.page.owner is self.domain
        self.page.references += self.has_got
        return self.has_got

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        keys = {"mfn": self.page.mfn, "domain": self.domain.number, "got": self.has_got}
        return self.event, keys


class PutPage(Operation[bool]):
    """Drop a reference; return whether it was the last (Xen: arch/x86/mm.c, put_page)."""

    __slots__ = ("cpu", "left", "page", "pages")

    def __init__(self, pages: Pages, page: Page, cpu: Cpu) -> None:
        self.pages = pages
        self.page = page
        self.cpu = cpu
        self.left = 0

    def accesses(self) -> Iterable[Access]:
        yield Access.to(PAGES, self.page.mfn, Kind.WRITE)
        yield Access.to(*HEAP, Kind.WRITE)
        yield from self.pages.judge.reads_of_page(self.page)

    def perform(self, step: int) -> bool:
        """Drop the reference, and free the frame if it was the last.

        Raises:
            ScenarioError: if the frame has no reference.
        """
        page = self.page
        if page.references == 0:
            raise ScenarioError(
                f"at step {step} a reference to mfn {page.mfn:#x} is put that nobody has: the frame is free already; "
                "take one with pages.get first"
            )
        page.references -= 1
        self.left = page.references
        if self.left == 0:
            page.owner = None
            if page.table is not None:
                page.freed = (self.cpu.name, step)
            self.pages.free.append(page)
            self.pages.judge.owner_changes(page, self.cpu, "put_page", step)
        return self.left == 0

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        if self.left == 0:
            return "page.free", {"mfn": self.page.mfn}
        return "page.put", {"mfn": self.page.mfn, "references": self.left}


class AllocatePage(Operation[Mfn]):
    """Give a free frame to a domain, and zero it (Xen: common/page_alloc.c, alloc_domheap_pages)."""

    __slots__ = ("cpu", "domain", "mfn", "pages")

    event = "page.allocate"

    def __init__(self, pages: Pages, cpu: Cpu, domain: Domain) -> None:
        self.pages = pages
        self.cpu = cpu
        self.domain = domain
        self.mfn = Mfn(0)

    def accesses(self) -> Iterable[Access]:
        page = self.pages.next_free
        yield Access.to(PAGES, page.mfn, Kind.WRITE)
        yield Access.to(*HEAP, Kind.WRITE)
        first = word_number(frame_address(page.mfn))
        yield Access(WORDS, first, first + WORDS_OF_FRAME - 1, Kind.WRITE)
        yield from self.pages.judge.reads_of_page(page)

    def perform(self, step: int) -> Mfn:
        page = self.pages.take_free()
        page.owner = self.domain
        page.references = 1
        page.generation += 1
        self.mfn = page.mfn
        self.pages.memory.zero(page.mfn, step)
        self.pages.judge.owner_changes(page, self.cpu, "alloc_domheap_page", step)
        page.table = None
        return page.mfn

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"mfn": self.mfn, "domain": self.domain.number}
