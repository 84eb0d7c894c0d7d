"""A domain's page tables: their list, and how they are freed (Xen: x86/iommu.c).

A table is on its domain's list until a CPU takes it off to free it. A table that an unmap has emptied goes to the list
of its CPU, and a softirq frees it later: by then the CPU that unmapped the page has flushed. When a domain is
destroyed, all its tables are freed at once.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from emu.cpus import Cpu, PerCpu
from emu.engine import Access, Kind, Operation
from emu.hypervisor.calls import check_range
from emu.hypervisor.domain import Domain, check_types
from emu.hypervisor.driver import Driver
from emu.hypervisor.entries import load_pte
from emu.hypervisor.fixes import Fix
from emu.hypervisor.mappings import known_below
from emu.hypervisor.pages import Pages
from emu.hypervisor.places import Place
from emu.units import Dfn, Maddr, Mfn, address_frame

LEAF_TABLE = 2
"""The level of the entry that points to a table of leaves."""

free_pgt_list: PerCpu[tuple[Mfn, ...]] = PerCpu("free_pgt_list", initial=())
"""The tables that a CPU has queued to free. No other CPU uses the list, so its use takes no steps."""


def tables_access(domain: Domain, kind: Kind) -> Access:
    """Return the access to the list of a domain's page tables."""
    return Access.to(("page_tables", f"d{domain.number}"), 0, kind)


class AllocateTable(Operation[Mfn]):
    """Give a domain a frame for a page table (Xen: x86/iommu.c, iommu_alloc_pgtable)."""

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
    """Return a domain's page tables, the oldest first (Xen: x86/iommu.c, in iommu_free_pgtables)."""

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
    """Take a page table off its domain's list, so as to free it (Xen: x86/iommu.c, iommu_queue_free_pgtable).

    Returns whether it was on the list: only the CPU that finds it there frees it.
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
        """Take an empty table of leaves out of the tree and free it later (Xen: vtd/iommu.c, in dma_pte_clear_one).

        Xen counts the table's entries in bits that hardware ignores. The emulator reads each entry that was ever made.

        Returns:
            Whether the table of the dfn's leaf was empty and was taken out.

        Raises:
            ScenarioError: if the dfn is beyond the reach of the domain's tables.
        """
        check_types(cpu, domain)
        check_range(domain, dfn, 0)
        async with domain.mapping_lock.held(cpu):
            if Fix.DYING in self.driver.fixes and await domain.is_dying.read():
                return False
            address, table = await self.find(cpu, domain, dfn)
            if table is None:
                return False
            for known in known_below(domain, Place((), LEAF_TABLE, domain.format.base(dfn, LEAF_TABLE))):
                leaf = domain.format.entry_address(table, known, 1)
                if domain.format.decode(await load_pte(cpu, domain, known, leaf), 1) is not None:
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
        """Return the address of the entry that leads to a dfn's table of leaves, and that table, None if missing."""
        table, level, address = domain.pgd, domain.levels, domain.pgd
        while level >= LEAF_TABLE:
            address = domain.format.entry_address(table, dfn, level)
            word = await load_pte(cpu, domain, dfn, address, level)
            entry = domain.format.read(word, level, dfn)
            if entry is None or entry.is_leaf:
                return address, None
            table, level = entry.address, entry.next_level
        return address, table

    async def free_queued(self, cpu: Cpu) -> None:
        """Free the tables on the CPU's list, as a softirq (Xen: x86/iommu.c, free_queued_pgtables)."""
        queued = cpu.peek(free_pgt_list)
        cpu.poke(free_pgt_list, ())
        for mfn in queued:
            await self.pages.put(cpu, mfn)

    async def free_all(self, cpu: Cpu, domain: Domain) -> None:
        """Free all tables of a dying domain that has no devices any more (Xen: x86/iommu.c, iommu_free_pgtables).

        Since 1ef48c82e7 it first waits until the mapping_lock is free: a CPU that acquires the lock later sees that the
        domain is dying.
        """
        check_types(cpu, domain)
        await domain.is_dying.write(True)
        if Fix.DYING in self.driver.fixes:
            async with domain.mapping_lock.held(cpu):
                pass
        for mfn in reversed(await ListTables(domain)):
            if await TakeTable(domain, mfn):
                await self.pages.put(cpu, mfn)
