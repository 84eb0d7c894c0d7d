"""Finding and making page tables, and storing their entries (Xen: amd/iommu_map.c)."""

from emu.cpus import Cpu
from emu.hypervisor.amd.state import DriverState
from emu.hypervisor.domain import Domain
from emu.hypervisor.entries import load_pte, read_pte, write_pte, write_pte_halves
from emu.hypervisor.faults import Fault
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import ENOMEM, MapFlags
from emu.hypervisor.tables import AllocateTable
from emu.iommus.amd.formats import decode_pte, encode_leaf, encode_table
from emu.units import Dfn, Maddr, Mfn, frame_address


async def iommu_pde_from_dfn(cpu: Cpu, driver: DriverState, domain: Domain, dfn: Dfn) -> Maddr | None:
    """Return the address of a dfn's leaf (Xen: amd/iommu_map.c, iommu_pde_from_dfn).

    A missing table is made, even for an unmap. None if there is no memory for it.
    """
    table, level = domain.pgd, domain.levels
    while level > 1:
        address = domain.format.entry_address(table, dfn, level)
        entry = domain.format.read(await load_pte(cpu, domain, dfn, address, level), level, dfn)
        if entry is None:
            if await driver.faults.strike(cpu, Fault.ALLOCATION):
                cpu.note("fault.inject", dfn=dfn, result=ENOMEM)
                return None
            table, level = frame_address(await AllocateTable(domain, dfn)), level - 1
            await set_iommu_pde_present(cpu, driver, domain, dfn, address, encode_table(table, level), level + 1)
        else:
            table, level = entry.address, entry.next_level
    return domain.format.entry_address(table, dfn, 1)


async def set_iommu_pde_present(
    cpu: Cpu, driver: DriverState, domain: Domain, dfn: Dfn, address: Maddr, word: int, level: int = 1
) -> None:
    """Store an entry (Xen: amd/iommu_map.c, set_iommu_pde_present).

    Until 3b055121c5 it is stored in two halves of 32 bits, the high half first. So where an entry becomes present, its
    present bit is stored last; where one present entry replaces another, walks find a mixture between the two stores.
    """
    store = write_pte if Fix.XSA_347 in driver.fixes else write_pte_halves
    await store(cpu, domain, dfn, address, word, level)


async def set_iommu_pte_present(
    cpu: Cpu, driver: DriverState, domain: Domain, dfn: Dfn, address: Maddr, mfn: Mfn, flags: MapFlags
) -> bool:
    """Store a leaf, even if it is there already (Xen: amd/iommu_map.c, set_iommu_pte_present).

    Returns:
        Whether a present entry with another frame or other permissions was replaced.
    """
    old = decode_pte(await read_pte(cpu, domain, dfn, address), 1)
    word = encode_leaf(frame_address(mfn), read=MapFlags.READABLE in flags, write=MapFlags.WRITABLE in flags)
    await set_iommu_pde_present(cpu, driver, domain, dfn, address, word)
    return old is not None and old != decode_pte(word, 1)


async def clear_iommu_pte_present(cpu: Cpu, domain: Domain, dfn: Dfn, address: Maddr) -> None:
    """Clear a leaf in one store, whatever it is (Xen: amd/iommu_map.c, clear_iommu_pte_present)."""
    await write_pte(cpu, domain, dfn, address, 0)
