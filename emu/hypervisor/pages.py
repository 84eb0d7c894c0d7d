"""Owners and references of frames: a frame is freed when its last reference is dropped.

Frames of page tables are included: a unit may have cached a table entry that leads to a freed table.

As in Xen, a frame that a domain owns has one reference for its allocation, and one for each use during which it must
not be freed. When the last reference is dropped the frame is free, and any domain's next allocation may return it. The
frame that was freed last is allocated first: in this order a premature free does most harm.

The owner may let other domains map a frame, by a grant or as a foreign page. A grant is no reference: a caller that
needs a reference takes one. A grant ends when it is withdrawn, or with the ownership.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from emu.cpus import Cpu
from emu.engine import Access, Kind, Operation, Space
from emu.errors import ScenarioError
from emu.hypervisor.domain import Domain, check_types
from emu.hypervisor.ops import READ_WRITE, MapFlags
from emu.hypervisor.page import AccessJudge, OwnerJudge, Page, WordJudge
from emu.hypervisor.places import Half, Place, Stored
from emu.memory import DATA_FRAMES, TABLE_FRAMES, WORDS, WORDS_OF_FRAME, Memory, word_number
from emu.units import Dfn, Mfn, check_frame, frame_address, offset, page_count

PAGES: Space = ("page",)
"""The space of owners and references: one object for each frame, numbered by mfn."""

OWNERS: Space = ("owner",)
"""The space of owners and grants: one object for each frame, numbered by mfn. References do not change it."""

HEAP = (("heap",), 0)
"""The free frames, as one shared object."""

VERBS = {"read": MapFlags.READABLE, "write": MapFlags.WRITABLE}
"""The verb for the access that each flag permits."""


@attrs.define(eq=False)
class Pages:
    """All frames that a domain owns or has owned.

    Attributes:
        free: the frames without an owner; the one that was freed last is at the end.
    """

    memory: Memory
    judge: OwnerJudge
    access_judge: AccessJudge
    word_judges: Sequence[WordJudge]
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
        """Tell the judge if a CPU stores an entry for a domain's dfn into a frame that is no table of the domain."""
        if self.dfn_of_table(frame, domain) is None:
            self.judge.entry_stored(self.find(frame), cpu, domain, dfn, step)

    def word_reads(self, domain: Domain, half: Half | None, place: Place) -> Iterable[Access]:
        """Return the reads of `word_stored` for a word at a place, or for a half of it."""
        for judge in self.word_judges:
            yield from judge.word_reads(domain, half, place)

    def enter_foreign(self, mfn: Mfn, domain: Domain) -> bool:
        """Return whether a frame belongs to another domain, and then take a reference, before the first step."""
        page = self.find(mfn)
        if page.owner in {None, domain}:
            return False
        page.references += 1
        return True

    def word_stored(self, cpu: Cpu, domain: Domain, place: Place, stored: Stored) -> None:
        """Let the judges see a word of a domain's tables that a CPU stores; memory has the word before."""
        for judge in self.word_judges:
            judge.word_stored(cpu, domain, place, stored)

    def page_changed(self, cpu: Cpu, domain: Domain, dfn: Dfn, step: int) -> None:
        """Tell the judge that a CPU's store changes the mapping of a page, while no call is open on the CPU."""
        self.judge.page_changed(cpu, domain, dfn, step)

    def may_have_owner(self, mfn: Mfn) -> bool:
        """Whether a frame has an owner or may get one: not if the scenario took it for no domain, or made it up."""
        if mfn in TABLE_FRAMES or mfn in self.frames:
            return True
        return mfn in DATA_FRAMES and mfn >= self.memory.next_data

    def leaf_reads(self, mfn: Mfn, domain: Domain, flags: MapFlags, order: int = 0) -> Iterable[Access]:
        """Return the reads of `leaf_stored`."""
        pages = (self.find(frame) for frame in frames_of(mfn, order) if self.may_have_owner(frame))
        return dict.fromkeys(read for page in pages for read in self.access_judge.leaf_reads(page, domain, flags))

    def leaf_stored(
        self, mfn: Mfn, cpu: Cpu, domain: Domain, dfn: Dfn, flags: MapFlags, step: int, order: int = 0
    ) -> None:
        """Let the judge see each frame of a leaf that a CPU stores for 2^order pages from a dfn on."""
        for i, frame in enumerate(frames_of(mfn, order)):
            if self.may_have_owner(frame):
                self.access_judge.leaf_stored(self.find(frame), cpu, domain, offset(dfn, i), flags, step)

    def page(self, mfn: Mfn) -> Page:
        """Return a frame.

        Raises:
            ScenarioError: if no domain has ever owned it.
        """
        page = self.find(check_frame("mfn", mfn))
        if page.generation == 0:
            raise ScenarioError(f"mfn {mfn:#x} belongs to nobody: allocate it for a domain, m.allocate(domain=...)")
        return page

    def find(self, mfn: Mfn) -> Page:
        """Return a frame, even if no domain has ever owned it."""
        return self.frames.get(mfn) or Page(mfn, None, references=0, generation=0)

    async def get(self, mfn: Mfn, domain: Domain) -> bool:
        """Take a reference if the domain owns the frame; return whether it took one (Xen: arch/x86/mm.c, get_page)."""
        check_types(domain=domain)
        return await GetPage(self.page(mfn), domain)

    async def put(self, cpu: Cpu, mfn: Mfn) -> bool:
        """Drop a reference; return whether it was the last and the frame is free (Xen: arch/x86/mm.c, put_page)."""
        check_types(cpu)
        return await PutPage(self, self.page(mfn), cpu)

    async def allocate(self, cpu: Cpu, domain: Domain) -> Mfn:
        """Give a domain a free frame, zeroed, and return it (Xen: common/page_alloc.c, alloc_domheap_pages)."""
        check_types(cpu, domain)
        return await AllocatePage(self, cpu, domain)

    async def let_map(self, cpu: Cpu, mfn: Mfn, domain: Domain, flags: MapFlags = READ_WRITE) -> bool:
        """Let a domain map another's frame; return if that has an owner (Xen: common/grant_table.c, map_grant_ref).

        The flags add to earlier grants of the domain.
        """
        check_types(cpu, domain)
        return await LetMap(self.page(mfn), domain, flags)

    async def withdraw(self, cpu: Cpu, mfn: Mfn, domain: Domain) -> bool:
        """End a domain's grant; return whether it had one (Xen: common/grant_table.c, unmap_common_complete).

        Xen withdraws a grant after the flush.
        """
        check_types(cpu, domain)
        return await Withdraw(self.page(mfn), cpu, domain, self.access_judge)

    @property
    def next_free(self) -> Page:
        """The frame that is allocated next, even if no domain has ever owned it."""
        return self.free[-1] if self.free else self.find(self.memory.next_data)

    def take_free(self) -> Page:
        """Remove the frame that is allocated next from the free frames, and return it."""
        if self.free:
            return self.free.pop()
        page = self.find(self.memory.allocate_data())
        self.frames[page.mfn] = page
        return page


def frames_of(mfn: Mfn, order: int) -> Iterator[Mfn]:
    """Yield 2^order frames from one on."""
    return (Mfn(mfn + i) for i in range(page_count(order)))


class GetPage(Operation[bool]):
    """Take a reference if a domain owns a frame; return whether it took one (Xen: arch/x86/mm.c, get_page)."""

    __slots__ = ("domain", "has_got", "page")

    event = "page.get"

    def __init__(self, page: Page, domain: Domain) -> None:
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
        if self.page.references == 1:
            yield Access.to(OWNERS, self.page.mfn, Kind.WRITE)
        yield from self.pages.judge.reads_of_page(self.page)

    def perform(self, step: int) -> bool:
        """Drop the reference, and free the frame if it was the last.

        Raises:
            ScenarioError: if the frame has no reference.
        """
        page = self.page
        if page.references == 0:
            raise ScenarioError(
                f"at step {step} a reference to mfn {page.mfn:#x} is put, but the frame has none: it is free already; "
                "take one with pages.get first"
            )
        page.references -= 1
        self.left = page.references
        if self.left == 0:
            page.owner = None
            page.grants.clear()
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
        yield Access.to(OWNERS, page.mfn, Kind.WRITE)
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


class LetMap(Operation[bool]):
    """Let a domain map another's frame; return whether that has an owner (Xen: common/grant_table.c, map_grant_ref)."""

    __slots__ = ("domain", "flags", "has_owner", "page")

    event = "page.let_map"

    def __init__(self, page: Page, domain: Domain, flags: MapFlags) -> None:
        self.page = page
        self.domain = domain
        self.flags = flags
        self.has_owner = False

    def accesses(self) -> Iterable[Access]:
        return (Access.to(OWNERS, self.page.mfn, Kind.WRITE),)

    def perform(self, step: int) -> bool:
        self.has_owner = self.page.owner is not None
        if self.has_owner:
            self.page.let_map(self.domain, self.flags)
        return self.has_owner

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        access = " or ".join(verb for verb, flag in VERBS.items() if flag in self.flags)
        keys = {"mfn": self.page.mfn, "domain": self.domain.number, "access": access, "got": self.has_owner}
        return self.event, keys


class Withdraw(Operation[bool]):
    """End a domain's grant; return whether it had one (Xen: common/grant_table.c, unmap_common_complete)."""

    __slots__ = ("cpu", "domain", "found", "judge", "page")

    event = "page.withdraw"

    def __init__(self, page: Page, cpu: Cpu, domain: Domain, judge: AccessJudge) -> None:
        self.page = page
        self.cpu = cpu
        self.domain = domain
        self.judge = judge
        self.found = False

    def accesses(self) -> Iterable[Access]:
        yield Access.to(OWNERS, self.page.mfn, Kind.WRITE)
        yield from self.judge.withdrawal_reads(self.page, self.domain)

    def perform(self, step: int) -> bool:
        self.found = self.page.grants.pop(self.domain.number, None) is not None
        if self.found:
            self.judge.withdrawn(self.page, self.cpu, self.domain, step)
        return self.found

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"mfn": self.page.mfn, "domain": self.domain.number, "found": self.found}
