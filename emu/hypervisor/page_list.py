"""A domain's pages: their lists, guest frame numbers and types (Xen: include/xen/sched.h; include/asm-x86/mm.h)."""

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

import attrs

from emu.cpus import SpinLock
from emu.engine import Access, Kind, Operation, Variable
from emu.errors import ScenarioError
from emu.units import Dfn, Mfn, check_frame

INVALID_GFN = Dfn((1 << 64) - 1)
"""Of a page that the guest has at no address."""


class PageType(Enum):
    """What a page is used as (Xen: include/asm-x86/mm.h, type_info)."""

    NONE = "none"  # its type count is 0
    WRITABLE = "writable"
    TABLE = "table"  # a page table of the guest


class ListName(Enum):
    """A list of a domain's pages."""

    PAGES = "page_list"
    RELMEM = "relmem_list"  # those that a pass of arch_iommu_populate_page_table is done with


@attrs.define(eq=False)
class PageList:
    """The pages of one domain.

    Attributes:
        lock: guards the lists; Xen calls it page_alloc_lock.
        lists: the pages of each list, in order.
        gfns: the guest frame number of each page: the M2P table.
        types: the type of each page.
    """

    owner: str
    lock: SpinLock = attrs.field(init=False)
    lists: dict[ListName, list[Mfn]] = attrs.field(factory=lambda: {name: [] for name in ListName})
    gfns: dict[Mfn, Dfn] = attrs.field(factory=dict)
    types: dict[Mfn, Variable[PageType]] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self.lock = SpinLock(f"{self.owner}.page_alloc_lock")

    def enter(self, mfn: Mfn, gfn: Dfn, type_: PageType = PageType.NONE) -> None:
        """Add a page, before the first step.

        Raises:
            ScenarioError: if the frame or its guest frame number is in the list already, or one of the three is none.
        """
        if not isinstance(type_, PageType):
            raise ScenarioError(f"{type_!r} is no type of a page: pass a PageType, such as PageType.WRITABLE")
        if check_frame("mfn", mfn) in self.gfns:
            raise ScenarioError(f"mfn {mfn:#x} is in the page list already: enter each frame once")
        if gfn != INVALID_GFN and check_frame("dfn", gfn) in self.gfns.values():
            raise ScenarioError(f"dfn {gfn:#x} is in the page list already: enter each page once")
        self.lists[ListName.PAGES].append(mfn)
        self.gfns[mfn] = gfn
        self.types[mfn] = Variable(f"{self.owner} page {mfn:#x}", type_)

    def access(self, kind: Kind) -> Access:
        """Return the access to the lists."""
        return Access.to(("pages", self.owner), 0, kind)


class ReadList(Operation[tuple[Mfn, ...]]):
    """Return the pages of a list (Xen: include/asm-x86/mm.h, page_list_for_each)."""

    __slots__ = ("name", "pages", "read")

    event = "list.read"

    def __init__(self, pages: PageList, name: ListName = ListName.PAGES) -> None:
        self.pages = pages
        self.name = name
        self.read: tuple[Mfn, ...] = ()

    def accesses(self) -> Iterable[Access]:
        return (self.pages.access(Kind.READ),)

    def perform(self, step: int) -> tuple[Mfn, ...]:
        self.read = tuple(self.pages.lists[self.name])
        return self.read

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"list": f"{self.pages.owner}.{self.name.value}", "pages": len(self.read)}


class RemoveHead(Operation[Mfn | None]):
    """Take the first page off a list; None if it is empty (Xen: include/asm-x86/mm.h, page_list_remove_head)."""

    __slots__ = ("mfn", "name", "pages")

    event = "list.remove"

    def __init__(self, pages: PageList, name: ListName = ListName.PAGES) -> None:
        self.pages = pages
        self.name = name
        self.mfn: Mfn | None = None

    def accesses(self) -> Iterable[Access]:
        return (self.pages.access(Kind.WRITE),)

    def perform(self, step: int) -> Mfn | None:
        pages = self.pages.lists[self.name]
        self.mfn = pages.pop(0) if pages else None
        return self.mfn

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        keys = {"list": f"{self.pages.owner}.{self.name.value}"}
        return self.event, keys if self.mfn is None else {**keys, "mfn": self.mfn}


class Add(Operation[None]):
    """Add a page to a list, at its end or at its head.

    (Xen: include/asm-x86/mm.h, page_list_add_tail and page_list_add)
    """

    __slots__ = ("at_head", "mfn", "name", "pages")

    event = "list.add"

    def __init__(self, pages: PageList, name: ListName, mfn: Mfn, *, at_head: bool = False) -> None:
        self.pages = pages
        self.name = name
        self.mfn = mfn
        self.at_head = at_head

    def accesses(self) -> Iterable[Access]:
        return (self.pages.access(Kind.WRITE),)

    def perform(self, step: int) -> None:
        pages = self.pages.lists[self.name]
        pages.insert(0 if self.at_head else len(pages), self.mfn)

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"list": f"{self.pages.owner}.{self.name.value}", "mfn": self.mfn}


class MoveAll(Operation[None]):
    """Let one list be the other, which is empty, and empty it (Xen: include/asm-x86/mm.h, page_list_move)."""

    __slots__ = ("pages", "source", "target")

    event = "list.move"

    def __init__(self, pages: PageList, target: ListName, source: ListName) -> None:
        self.pages = pages
        self.target = target
        self.source = source

    def accesses(self) -> Iterable[Access]:
        return (self.pages.access(Kind.WRITE),)

    def perform(self, step: int) -> None:
        lists = self.pages.lists
        lists[self.target], lists[self.source] = lists[self.source], []

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"list": f"{self.pages.owner}.{self.target.value}"}


async def get_gpfn_from_mfn(pages: PageList, mfn: Mfn) -> Dfn:
    """Return a page's guest frame number, or `INVALID_GFN` (Xen: include/asm-x86/mm.h, get_gpfn_from_mfn)."""
    return await ReadGfn(pages, mfn)


class ReadGfn(Operation[Dfn]):
    """Read the M2P table."""

    __slots__ = ("gfn", "mfn", "pages")

    event = "m2p.read"

    def __init__(self, pages: PageList, mfn: Mfn) -> None:
        self.pages = pages
        self.mfn = mfn
        self.gfn = INVALID_GFN

    def accesses(self) -> Iterable[Access]:
        return (Access.to(("m2p",), self.mfn, Kind.READ),)

    def perform(self, step: int) -> Dfn:
        self.gfn = self.pages.gfns.get(self.mfn, INVALID_GFN)
        return self.gfn

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"mfn": self.mfn, "dfn": self.gfn}
