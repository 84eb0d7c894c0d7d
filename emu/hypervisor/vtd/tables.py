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
    cpu: Cpu, driver: DriverState, domain: Domain, dfn: Dfn, *, alloc: bool, target: int = 1
) -> Maddr | None:
    """Return the address of a dfn's leaf, or None if a table is missing (Xen: vtd/iommu.c, addr_to_dma_page_maddr).

    A leaf of a superpage on the way is taken for a table, as in Xen before it knew superpages (2022): hooks that may
    meet one look for it first, at its level.

    A missing table is made if `alloc` is set and the allocation succeeds. With the fix for dying domains a dying domain
    counts as having no tables.

    Args:
        target: the level of the leaf.

    Raises:
        DomainIsDyingError: if `alloc` is set, the domain is dying, and the driver has the fix.
    """
    if Fix.DYING in driver.fixes and await domain.is_dying.read():
        if alloc:
            raise DomainIsDyingError
        charge_read(cpu, domain, dfn, target, domain.pgd, 0)
        return None
    table = domain.pgd
    for level in range(domain.levels, target, -1):
        address = domain.format.entry_address(table, dfn, level)
        word = await load_pte(cpu, domain, dfn, address, level)
        entry = domain.format.decode(word, level)
        if entry is None:
            if not alloc:
                charge_read(cpu, domain, dfn, target, address, 0)
                return None
            made = await make_table(cpu, driver, domain, dfn, level, address)
            if made is None:
                return None
            table = made
        else:
            table = entry.address
    return domain.format.entry_address(table, dfn, target)


async def make_table(
    cpu: Cpu, driver: DriverState, domain: Domain, dfn: Dfn, level: int, address: Maddr
) -> Maddr | None:
    """Make a table and enter it at an address; None if the allocation fails.

    (Xen: vtd/iommu.c, in addr_to_dma_page_maddr)

    As in Xen the entry is written in three stores while walks may read it: the address, then R, then W.
    """
    if await driver.faults.strike(cpu, Fault.ALLOCATION):
        cpu.note("fault.inject", dfn=dfn, result=ENOMEM)
        return None
    table = frame_address(await AllocateTable(domain, dfn))
    for word in (table, table | READ, table | READ | WRITE):
        await StoreEntry(cpu, domain, dfn, level, address, word)
    await iommu_flush_cache_entry(cpu, driver, address)
    return table
