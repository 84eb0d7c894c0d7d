"""Storing a device's stream table entry (Xen: arm/smmu-v3.c, arm_smmu_write_strtab_ent).

A unit that does not snoop may not see these stores: since 3a11099edd Xen writes the lines of the queue back, and still
not those of the stream table.
"""

from emu.cpus import Cpu
from emu.devices.device import Device
from emu.errors import InternalError
from emu.hypervisor.device_entry import StoreDeviceEntry
from emu.hypervisor.domain import Domain
from emu.hypervisor.smmu.v3.queue import arm_smmu_cmdq_issue_cmd, arm_smmu_cmdq_issue_sync
from emu.hypervisor.smmu.v3.state import DriverState
from emu.iommus.smmu.v3.formats import ABORT, InvalidateStream, Prefetch, encode_entry, translating
from emu.units import WORD_BYTES


async def store_word(
    cpu: Cpu, driver: DriverState, device: Device, number: int, value: int, domain: Domain | None
) -> None:
    """Store a word of a device's entry, given by its number.

    Args:
        domain: the domain to whose tables the entry may lead after the store; None if to none.

    Raises:
        InternalError: if the stream table has no entry for the device.
    """
    entry = driver.iommu_of(device).unit.device_table.address(device.source_id)
    if entry is None:
        raise InternalError(f"{device.bdf} has no stream table entry")
    place, details = entry + WORD_BYTES * number, {"bdf": device.bdf, "dword": 2 * number}
    await StoreDeviceEntry(cpu, place, value, 64, "device_entry.write", domain=domain, **details)


async def arm_smmu_sync_ste_for_sid(cpu: Cpu, driver: DriverState, device: Device) -> None:
    """Invalidate a device's cached entry, and wait (Xen: arm/smmu-v3.c, arm_smmu_sync_ste_for_sid)."""
    iommu = driver.iommu_of(device)
    await arm_smmu_cmdq_issue_cmd(cpu, driver, iommu, InvalidateStream(device.source_id))
    await arm_smmu_cmdq_issue_sync(cpu, driver, iommu)


async def enter_tables(cpu: Cpu, driver: DriverState, domain: Domain, device: Device, vmid: int) -> None:
    """Let a device's entry lead to a domain's tables: the word that says so is stored last, after an invalidation."""
    iommu = driver.iommu_of(device)
    first, second, third, fourth = encode_entry(translating(vmid, iommu.unit.settings.ipa_bits, domain.pgd))
    for number, value in ((2, third), (3, fourth), (1, second)):
        await store_word(cpu, driver, device, number, value, None)
    await arm_smmu_sync_ste_for_sid(cpu, driver, device)
    await store_word(cpu, driver, device, 0, first, domain)
    await arm_smmu_sync_ste_for_sid(cpu, driver, device)
    await arm_smmu_cmdq_issue_cmd(cpu, driver, iommu, Prefetch(device.source_id))


async def enter_abort(cpu: Cpu, driver: DriverState, domain: Domain, device: Device) -> None:
    """Let a device's requests be aborted.

    The word with the VMID and the control of the walks is cleared before the first word is invalidated. So a unit that
    has read the first word before, and reads that one after, finds an entry that was never stored.
    """
    first, second, third, _ = encode_entry(ABORT)
    await store_word(cpu, driver, device, 0, first, None)
    await store_word(cpu, driver, device, 1, second, None)
    await store_word(cpu, driver, device, 2, third, domain)
    await arm_smmu_sync_ste_for_sid(cpu, driver, device)
