"""Context entries of devices, and their domain ids (Xen: vtd/iommu.c)."""

from collections.abc import Iterable

from emu.cpus import Cpu
from emu.devices.device import Device
from emu.hypervisor.assignment import FindDevice, HandOver
from emu.hypervisor.device_entry import StoreDeviceEntry
from emu.hypervisor.domain import Domain
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import EINVAL, ENODEV, OK
from emu.hypervisor.vtd.flush import (
    iommu_flush_cache_entry,
    iommu_flush_context_device,
    iommu_flush_iotlb_dsi,
    iommu_flush_write_buffer,
)
from emu.hypervisor.vtd.queue import NOT_ISSUED
from emu.hypervisor.vtd.state import DriverState, VtdIommu
from emu.iommus.vtd.contexts import context_entry_address, root_entry_address
from emu.iommus.vtd.formats import ContextEntry, decode_root_entry, encode_context_entry
from emu.memory import WORD_MASK
from emu.units import WORD_BYTES, Maddr

PRESENT = 1


def context_entry(driver: DriverState, device: Device) -> Maddr:
    """Return the address of a device's context entry (Xen: vtd/iommu.c, bus_to_context_maddr)."""
    unit = driver.iommu_of(device).unit
    root_entry = root_entry_address(unit.contexts.root_table, device.source_id)
    table = decode_root_entry(unit.memory.peek(root_entry))
    return context_entry_address(table or Maddr(0), device.source_id)


async def write_context(
    cpu: Cpu, driver: DriverState, device: Device, halves: Iterable[tuple[int, int]], domain: Domain | None = None
) -> None:
    """Store the halves of a context entry, each given by its number, in the order given; write the line back.

    (Xen: vtd/iommu.c, in domain_context_mapping_one and domain_context_unmap_one)

    Args:
        domain: the domain to whose tables the entry leads when the low half has been stored; None if to none.
    """
    address = context_entry(driver, device)
    for half, value in halves:
        place, leads_to = address + WORD_BYTES * half, None if half else domain
        await StoreDeviceEntry(cpu, place, value, 64, "context.write", domain=leads_to, bdf=device.bdf)
    await iommu_flush_cache_entry(cpu, driver, address)


async def domain_context_mapping_one(cpu: Cpu, driver: DriverState, domain: Domain, device: Device) -> int:
    """Point a device's context entry at a domain's tables (Xen: vtd/iommu.c, domain_context_mapping_one).

    Returns:
        0; or -EINVAL if the tables of another domain translate for it.
    """
    iommu = driver.iommu_of(device)
    async with iommu.lock.held(cpu):
        if await cpu.load64(context_entry(driver, device), "context.read", bdf=device.bdf) & PRESENT:
            return OK if await FindDevice(domain, [device]) else EINVAL
        did = await iommu.domids.take(domain.number)
        entry = encode_context_entry(ContextEntry(did, domain.pgd, domain.levels))
        await write_context(cpu, driver, device, [(1, entry >> 64), (0, entry & WORD_MASK)], domain)
    result = await flush_device(cpu, driver, iommu, 0, device, non_present=True)
    await driver.iommu_bitmap(domain).set(iommu.index)
    await HandOver(device, domain.number, is_failed=result != OK)
    return result


async def deassign_device(cpu: Cpu, driver: DriverState, domain: Domain, device: Device) -> int:
    """Detach a device from its domain (Xen: vtd/iommu.c, domain_context_unmap).

    If it was the domain's last device behind the unit, the domain's id on that unit is freed. Until f3401d65d9 the id
    was freed even if the context entry could not be unmapped.

    Returns:
        0, or a negative errno: -ENODEV if the domain does not have the device.
    """
    if not await FindDevice(domain, [device]):
        return ENODEV
    iommu = driver.iommu_of(device)
    result = await domain_context_unmap_one(cpu, driver, domain, device)
    if result == OK or Fix.KEEP_ID not in driver.fixes:
        others = (other for other in driver.devices.values() if other.unit is device.unit and other is not device)
        if not await FindDevice(domain, others):
            await cleanup_domid_map(driver, domain, iommu)
    if result == OK:
        await HandOver(device, None)
    return result


async def domain_context_unmap_one(cpu: Cpu, driver: DriverState, domain: Domain, device: Device) -> int:
    """Clear a device's context entry if it is present, and flush (Xen: vtd/iommu.c, domain_context_unmap_one).

    Returns:
        0, or a negative errno: -EINVAL if the domain has no id on the unit.
    """
    iommu = driver.iommu_of(device)
    async with iommu.lock.held(cpu):
        if not await cpu.load64(context_entry(driver, device), "context.read", bdf=device.bdf) & PRESENT:
            return OK
        await write_context(cpu, driver, device, [(0, 0), (1, 0)])
        did = await iommu.domids.find(domain.number)
        if did is None:
            return EINVAL
        return await flush_device(cpu, driver, iommu, did, device, non_present=False)


async def cleanup_domid_map(driver: DriverState, domain: Domain, iommu: VtdIommu) -> None:
    """Free a domain's id on a unit that no longer translates for it (Xen: vtd/iommu.c, cleanup_domid_map)."""
    await driver.iommu_bitmap(domain).clear(iommu.index)
    did = await iommu.domids.find(domain.number)
    if did is not None:
        await iommu.domids.give_back(did, map_first=Fix.XSA_399 in driver.fixes)


async def reassign_device_ownership(
    cpu: Cpu, driver: DriverState, source: Domain, target: Domain, device: Device
) -> int:
    """Move a device from one domain to another (Xen: vtd/iommu.c, reassign_device_ownership)."""
    result = await deassign_device(cpu, driver, source, device)
    return result or await domain_context_mapping_one(cpu, driver, target, device)


async def flush_device(
    cpu: Cpu, driver: DriverState, iommu: VtdIommu, did: int, device: Device, *, non_present: bool
) -> int:
    """Flush the context cache, and then the IOTLB, which requests in flight may fill through the old context entry.

    (Xen: vtd/iommu.c, in domain_context_mapping_one and domain_context_unmap_one)
    """
    result = await iommu_flush_context_device(cpu, driver, iommu, did, device.source_id, non_present=non_present)
    error = await iommu_flush_iotlb_dsi(cpu, driver, iommu, did, non_present=non_present)
    if NOT_ISSUED in {result, error}:
        await iommu_flush_write_buffer(cpu, iommu)
    return min(result, error, OK)
