"""The state before the first step: stream table entries, VMIDs, cached translations. Takes no step."""

from emu.devices.device import Device
from emu.errors import LimitReached
from emu.hypervisor.domain import Domain
from emu.hypervisor.smmu.state import Context, context_on, with_devices
from emu.hypervisor.smmu.v3.state import VMIDS, DriverState
from emu.iommus.formats import Translation
from emu.iommus.iotlb import IotlbEntry
from emu.iommus.paths import Tables
from emu.iommus.requests import TableRead
from emu.iommus.smmu.v3.formats import ABORT, StreamTableEntry, encode_entry, encode_l1_descriptor, translating
from emu.iommus.smmu.v3.stream_table import L2_BYTES, WORDS_READ
from emu.units import PAGE_SIZE, Dfn, frame_address


def enter_bus(driver: DriverState, device: Device) -> None:
    """Make the entries of a device's bus, unless they are there (Xen: arm/smmu-v3.c, arm_smmu_init_l2_strtab)."""
    unit = driver.iommu_of(device).unit
    table = unit.device_table
    if table.address(device.source_id) is None:
        first, *_ = [unit.memory.allocate_table() for _ in range(L2_BYTES // PAGE_SIZE)]
        unit.memory.put(table.l1_address(device.source_id), encode_l1_descriptor(frame_address(first)))
    put_entry(driver, device, ABORT)


def put_entry(driver: DriverState, device: Device, entry: StreamTableEntry) -> None:
    """Write a device's entry."""
    unit = driver.iommu_of(device).unit
    for address, value in zip(unit.device_table.words(device.source_id), encode_entry(entry), strict=True):
        unit.memory.put(address, value)


def enter_context(driver: DriverState, domain: Domain, device: Device) -> int:
    """Return the VMID of a domain for the unit of a device; if it has none, take one.

    Raises:
        LimitReached: if none is free.
    """
    xen_domain, iommu = driver.domains[domain.number], driver.iommu_of(device)
    contexts = xen_domain.contexts.value
    context = context_on(contexts, iommu.index)
    if context is None:
        vmid = iommu.vmid_map.first_free(VMIDS)
        if vmid is None:
            raise LimitReached(f"all VMIDs of {iommu.unit.name} are in use: use fewer domains")
        iommu.vmid_map.put(vmid)
        context = Context(iommu.index, vmid, 0)
    xen_domain.contexts.value = with_devices(contexts, context, 1)
    return context.bank


def enter_stream(driver: DriverState, domain: Domain, device: Device) -> None:
    """Let a domain's tables translate for a device (Xen: arm/smmu-v3.c, arm_smmu_attach_dev)."""
    ipa_bits = driver.iommu_of(device).unit.settings.ipa_bits
    put_entry(driver, device, translating(enter_context(driver, domain, device), ipa_bits, domain.pgd))
    driver.attached[device.bdf] = domain


def cache_leaf(
    driver: DriverState, domain: Domain, device: Device, dfn: Dfn, leaf: int, reads: tuple[TableRead, ...]
) -> None:
    """Cache a leaf in the TLB of a device's unit, as if the device had used the page by a walk with these reads."""
    unit, entry = driver.iommu_of(device).unit, domain.format.decode(leaf, reads[-1].level)
    if entry is None:
        return
    translation = Translation(leaf, entry.order, entry.read, entry.write, entry.address)
    level, words = unit.format.device_level, unit.device_table.words(device.source_id)
    order = unit.format.orders[level]
    of_device = (TableRead(level, order, words[number], 0, is_leaf=False) for number in WORDS_READ)
    context = context_on(driver.domains[domain.number].contexts.value, driver.iommu_of(device).index)
    if context is None:
        return
    found, vmid = (*of_device, *reads), context.bank
    unit.iotlb.insert(IotlbEntry(vmid, vmid, dfn, translation, found))
    if unit.walk_cache is not None:
        unit.walk_cache.insert_walk(vmid, Tables(vmid, domain.pgd, domain.levels), dfn, found)
