"""Finding and making page tables (Xen: vtd/iommu.c)."""

from emu.cpus import Cpu
from emu.hypervisor.charging import charge_read
from emu.hypervisor.domain import Domain
from emu.hypervisor.entries import StoreEntry, load_pte
from emu.hypervisor.faults import Fault
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import ENOMEM, DomainIsDyingError
from emu.hypervisor.tables import AllocateTable
from emu.hypervisor.vtd.flush import iommu_flush_cache_entry
from emu.hypervisor.vtd.state import DriverState
from emu.iommus.vtd.formats import READ, WRITE
from emu.units import Dfn, Maddr, frame_address


async def addr_to_dma_page_maddr(
    cpu: Cpu, driver: DriverState, domain: Domain, dfn: Dfn, *, alloc: bool
) -> Maddr | None:
    """Return the address of a dfn's leaf, or None if a table is missing (Xen: vtd/iommu.c, addr_to_dma_page_maddr).

    A missing table is made if `alloc` is set and the allocation succeeds. As in Xen its entry is written in three
    stores while walks may read it: the address, then R, then W. With the fix for dying domains a dying domain counts
    as having no tables.

    Raises:
        DomainIsDyingError: if `alloc` is set, the domain is dying, and the driver has the fix.
    """
    if Fix.DYING in driver.fixes and await domain.is_dying.read():
        if alloc:
            raise DomainIsDyingError
        charge_read(cpu, domain, dfn, 1, 0)
        return None
    table = domain.pgd
    for level in range(domain.levels, 1, -1):
        address = domain.format.entry_address(table, dfn, level)
        word = await load_pte(cpu, domain, dfn, address, level)
        entry = domain.format.decode(word, level)
        if entry is None:
            if not alloc:
                charge_read(cpu, domain, dfn, 1, 0)
                return None
            if await driver.faults.strike(cpu, Fault.ALLOCATION):
                cpu.note("fault.inject", dfn=dfn, result=ENOMEM)
                return None
            table = frame_address(await AllocateTable(domain, dfn))
            for word in (table, table | READ, table | READ | WRITE):
                await StoreEntry(cpu, domain, dfn, level, address, word)
            await iommu_flush_cache_entry(cpu, driver, address)
        else:
            table = entry.address
    return domain.format.entry_address(table, dfn, 1)
