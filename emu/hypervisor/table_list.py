"""The list of a domain's page tables (Xen: arch.pgtables.list): one is on it until somebody takes it off to free it."""

from collections.abc import Iterable, Mapping
from typing import Any

from emu.engine import Access, Kind, Operation
from emu.hypervisor.domain import Domain
from emu.units import Dfn, Mfn


def tables_access(domain: Domain, kind: Kind) -> Access:
    """Return the access to the list of a domain's page tables."""
    return Access.to(("page_tables", f"d{domain.number}"), 0, kind)


class AllocateTable(Operation[Mfn]):
    """Give a domain a frame for a page table (Xen: iommu_alloc_pgtable)."""

    __slots__ = ("dfn", "domain", "mfn")

    event = "table.allocate"

    def __init__(self, domain: Domain, dfn: Dfn) -> None:
        self.domain = domain
        self.dfn = dfn
        self.mfn = Mfn(0)

    def accesses(self) -> Iterable[Access]:
        return (tables_access(self.domain, Kind.WRITE),)

    def perform(self, step: int) -> Mfn:
        self.mfn = self.domain.pages.add_table(self.domain, self.dfn)
        return self.mfn

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"mfn": self.mfn, "domain": self.domain.number}


class ListTables(Operation[list[Mfn]]):
    """Return a domain's page tables, the oldest first."""

    __slots__ = ("count", "domain")

    event = "table.list"

    def __init__(self, domain: Domain) -> None:
        self.domain = domain
        self.count = 0

    def accesses(self) -> Iterable[Access]:
        return (tables_access(self.domain, Kind.READ),)

    def perform(self, step: int) -> list[Mfn]:
        self.count = len(self.domain.tables)
        return list(self.domain.tables)

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"domain": self.domain.number, "tables": self.count}


class TakeTable(Operation[bool]):
    """Take a page table from its domain's list: whoever does so will free it. Return whether it was there.

    Xen: iommu_queue_free_pgtable.
    """

    __slots__ = ("domain", "found", "mfn")

    event = "table.take"

    def __init__(self, domain: Domain, mfn: Mfn) -> None:
        self.domain = domain
        self.mfn = mfn
        self.found = False

    def accesses(self) -> Iterable[Access]:
        return (tables_access(self.domain, Kind.WRITE),)

    def perform(self, step: int) -> bool:
        self.found = self.mfn in self.domain.tables
        if self.found:
            self.domain.tables.remove(self.mfn)
        return self.found

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"mfn": self.mfn, "domain": self.domain.number, "found": self.found}
