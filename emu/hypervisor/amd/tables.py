"""Finding and making page tables; the parts of storing a leaf that no revision changes (Xen: amd/iommu_map.c)."""

from emu.cpus import Cpu
from emu.hypervisor.amd.state import DriverState
from emu.hypervisor.amd.superpages import iommu_merge_pages, iommu_split, store_pde
from emu.hypervisor.domain import Domain
from emu.hypervisor.entries import load_pte, write_pte
from emu.hypervisor.faults import Fault
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import ENOMEM, DomainIsDyingError, MapFlags
from emu.hypervisor.tables import AllocateTable
from emu.iommus.amd.formats import decode_pte, encode_table
from emu.units import Dfn, Maddr, Mfn, frame_address


async def iommu_pde_from_dfn(cpu: Cpu, driver: DriverState, domain: Domain, dfn: Dfn) -> Maddr | None:
    """Return the address of a dfn's leaf (Xen: amd/iommu_map.c, iommu_pde_from_dfn).

    A missing table is made, even for an unmap, and a superpage on the way is split. None if there is no memory for a
    table.

    Raises:
        DomainIsDyingError: if the domain is dying, and the driver has the fix.
    """
    if Fix.DYING in driver.fixes and await domain.is_dying.read():
        raise DomainIsDyingError
    table, level = domain.pgd, domain.levels
    while level > 1:
        address = domain.format.entry_address(table, dfn, level)
        entry = domain.format.read(await load_pte(cpu, domain, dfn, address, level), level, dfn)
        if entry is not None and not entry.is_leaf:
            table, level = entry.address, entry.next_level
            continue
        if entry is None:
            made = await make_table(cpu, driver, domain, dfn, level, address)
        else:
            made = await iommu_split(cpu, driver, domain, dfn, level, address, entry)
        if made is None:
            return None
        table, level = made, level - 1
    return domain.format.entry_address(table, dfn, 1)


async def make_table(
    cpu: Cpu, driver: DriverState, domain: Domain, dfn: Dfn, level: int, address: Maddr
) -> Maddr | None:
    """Make a table and enter it; None if there is no memory (Xen: amd/iommu_map.c, in iommu_pde_from_dfn)."""
    if await driver.faults.strike(cpu, Fault.ALLOCATION):
        cpu.note("fault.inject", dfn=dfn, result=ENOMEM)
        return None
    table = frame_address(await AllocateTable(domain, dfn))
    await store_pde(cpu, driver, domain, dfn, address, encode_table(table, level - 1), level)
    return table


def has_changed(driver: DriverState, old: int, new: int) -> bool:
    """Whether one leaf replaces another that is present and has another frame or other permissions.

    (Xen: amd/iommu_map.c, in set_iommu_pde_present)

    Until 1a7ffe466c only another frame counted.
    """
    before, after = decode_pte(old, 1), decode_pte(new, 1)
    if Fix.XSA_275 in driver.fixes:
        return before is not None and before != after
    return before is not None and after is not None and before.address != after.address


async def merge_leaf(
    cpu: Cpu, driver: DriverState, domain: Domain, dfn: Dfn, mfn: Mfn, flags: MapFlags, *, is_changed: bool
) -> None:
    """Merge leaves into a superpage once all are stored (Xen: amd/iommu_map.c, in amd_iommu_map_page).

    Since 5c08550ff4 leaves are not merged.
    """
    if Fix.NO_MERGE not in driver.fixes:
        driver.no_merge |= {domain.number} if is_changed else set()
        await iommu_merge_pages(cpu, driver, domain, dfn, mfn, flags)


async def clear_leaf(cpu: Cpu, driver: DriverState, domain: Domain, dfn: Dfn, address: Maddr) -> None:
    """Clear a leaf in one store, whatever it is (Xen: amd/iommu_map.c, in clear_iommu_pte_present)."""
    await write_pte(cpu, domain, dfn, address, 0)
    driver.no_merge.add(domain.number)
