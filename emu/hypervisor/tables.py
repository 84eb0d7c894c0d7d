"""A domain's page tables: their list, and how they are freed (Xen: arch.pgtables.list, x86/iommu.c).

A table is on its domain's list until a CPU takes it off to free it (iommu_queue_free_pgtable). A table that an unmap
has emptied goes to a list of the CPU, and a softirq frees it later: by then the CPU that unmapped the page has flushed.
A domain that is destroyed loses all its tables at once (iommu_free_pgtables).
"""

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from emu.cpus import Cpu, PerCpu
from emu.engine import Access, Kind, Operation
from emu.hypervisor.calls import check_range
from emu.hypervisor.domain import Domain, check_cast
from emu.hypervisor.driver import Driver
from emu.hypervisor.fixes import Fix
from emu.hypervisor.pages import Pages
from emu.units import Dfn, Maddr, Mfn, address_frame

LEAF_TABLE = 2
"""The level of the entry that points to a table of leaves."""

free_pgt_list: PerCpu[tuple[Mfn, ...]] = PerCpu("free_pgt_list", initial=())
"""The tables that a CPU is to free. No other CPU looks at it, so it takes no steps."""


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
        self.mfn = self.domain.frames.add_table(self.domain, self.dfn)
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


@attrs.frozen
class PageTables:
    """Takes tables out of a domain's tree and frees them."""

    driver: Driver
    pages: Pages

    async def take_out(self, cpu: Cpu, domain: Domain, dfn: Dfn) -> bool:
        """Take out the table of a dfn's leaf, if it is empty, and have it freed later; return whether it was.

        Xen keeps a count in ignored bits of the entries; here those are read that were ever made.

        Raises:
            ScenarioError: if the tables of the domain do not reach so far.
        """
        check_cast(cpu, domain)
        check_range(domain, dfn, 0)
        async with domain.mapping_lock.held(cpu):
            if Fix.DYING in self.driver.fixes and await domain.is_dying.read():
                return False
            address, table = await self.find(cpu, domain, dfn)
            if table is None:
                return False
            first = domain.format.base(dfn, LEAF_TABLE)
            for known in list(domain.known_dfns.irange(first, first + domain.format.span(LEAF_TABLE) - 1)):
                leaf = domain.format.entry_address(table, known, 1)
                word = await cpu.load64(leaf, "pte.read", domain=domain.number, dfn=known, table_level=1)
                if domain.format.decode(word, 1) is not None:
                    return False
            await self.driver.store_entry(cpu, domain, dfn, LEAF_TABLE, address, 0)
            is_ours = await TakeTable(domain, address_frame(table))
        if not is_ours:
            return False
        if not cpu.peek(free_pgt_list):
            cpu.raise_softirq(self.free_queued)
        cpu.poke(free_pgt_list, (*cpu.peek(free_pgt_list), address_frame(table)))
        return True

    async def find(self, cpu: Cpu, domain: Domain, dfn: Dfn) -> tuple[Maddr, Maddr | None]:
        """Return where the entry of the table of a dfn's leaf lies, and the table; None if there is none."""
        table, level, address = domain.pgd, domain.levels, domain.pgd
        while level >= LEAF_TABLE:
            address = domain.format.entry_address(table, dfn, level)
            word = await cpu.load64(address, "pte.read", domain=domain.number, dfn=dfn, table_level=level)
            entry = domain.format.read(word, level, dfn)
            if entry is None or entry.is_leaf:
                return address, None
            table, level = entry.address, entry.next_level
        return address, table

    async def free_queued(self, cpu: Cpu) -> None:
        """Free the tables on the CPU's list. A softirq."""
        queued = cpu.peek(free_pgt_list)
        cpu.poke(free_pgt_list, ())
        for mfn in queued:
            await self.pages.put(cpu, mfn)

    async def free_all(self, cpu: Cpu, domain: Domain) -> None:
        """Free all tables of a domain that is destroyed; its devices are gone already.

        Since 1ef48c82e7 it first waits until nobody holds the mapping_lock: whoever takes it later sees that the
        domain is dying.
        """
        check_cast(cpu, domain)
        await domain.is_dying.write(True)
        if Fix.DYING in self.driver.fixes:
            async with domain.mapping_lock.held(cpu):
                pass
        for mfn in reversed(await ListTables(domain)):
            if await TakeTable(domain, mfn):
                await self.pages.put(cpu, mfn)
