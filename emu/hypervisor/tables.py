"""Page tables that are freed (Xen: iommu_queue_free_pgtable and iommu_free_pgtables, x86/iommu.c).

A table that an unmap has emptied goes to a list of the CPU, and a softirq frees it later: by then whoever had the page
unmapped has flushed. A domain that is destroyed loses all its tables at once.
"""

import attrs

from emu.cpus import Cpu, PerCpu
from emu.hypervisor.calls import check_range
from emu.hypervisor.domain import Domain, check_cast
from emu.hypervisor.fixes import Fix
from emu.hypervisor.pages import Pages
from emu.hypervisor.table_list import ListTables, TakeTable
from emu.hypervisor.vtd.driver import StoreEntry, VtdDriver, iommu_flush_cache_entry
from emu.iommus.formats import LEVEL_BITS, entry_address
from emu.iommus.vtd.formats import decode_pte
from emu.units import Dfn, Maddr, Mfn, address_frame

LEAF_TABLE = 2
"""The level of the entry that points to a table of leaves."""

free_pgt_list: PerCpu[tuple[Mfn, ...]] = PerCpu("free_pgt_list", initial=())
"""The tables that a CPU is to free. No other CPU looks at it, so it takes no steps."""


@attrs.frozen
class PageTables:
    """Takes tables out of a domain's tree and frees them."""

    driver: VtdDriver
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
            first = dfn >> LEVEL_BITS << LEVEL_BITS
            for known in list(domain.known_dfns.irange(first, first + (1 << LEVEL_BITS) - 1)):
                word = await cpu.load64(
                    entry_address(table, known, 1), "pte.read", domain=domain.number, dfn=known, table_level=1
                )
                if decode_pte(word, 1) is not None:
                    return False
            await StoreEntry(cpu, domain, dfn, LEAF_TABLE, address, 0)
            await iommu_flush_cache_entry(cpu, self.driver, address)
            is_ours = await TakeTable(domain, address_frame(table))
        if not is_ours:
            return False
        if not cpu.peek(free_pgt_list):
            cpu.raise_softirq(self.free_queued)
        cpu.poke(free_pgt_list, (*cpu.peek(free_pgt_list), address_frame(table)))
        return True

    async def find(self, cpu: Cpu, domain: Domain, dfn: Dfn) -> tuple[Maddr, Maddr | None]:
        """Return where the entry of the table of a dfn's leaf lies, and the table; None if there is none."""
        table = domain.pgd
        for level in range(domain.levels, LEAF_TABLE - 1, -1):
            address = entry_address(table, dfn, level)
            word = await cpu.load64(address, "pte.read", domain=domain.number, dfn=dfn, table_level=level)
            entry = decode_pte(word, level)
            if entry is None or entry.is_leaf:
                return address, None
            table = entry.address
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
