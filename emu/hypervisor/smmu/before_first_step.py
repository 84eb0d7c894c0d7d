"""The state before the first step: stream mapping, context banks, cached translations. Takes no step."""

from emu.devices.device import Device
from emu.errors import LimitReached
from emu.hypervisor.bitmaps import Bitmap
from emu.hypervisor.domain import Domain
from emu.hypervisor.smmu.assignment import bank_writes
from emu.hypervisor.smmu.flush import vmid_of
from emu.hypervisor.smmu.state import Attached, Context, DriverState, context_on, with_devices
from emu.iommus.formats import Translation
from emu.iommus.iotlb import IotlbEntry
from emu.iommus.paths import Tables
from emu.iommus.requests import TableRead
from emu.iommus.smmu.formats import S2CR_FAULT, S2CR_TRANSLATE, encode_smr
from emu.iommus.smmu.registers import BANKS, STREAMS, Registers
from emu.units import Dfn


def reset(registers: Registers) -> None:
    """Let every stream fault (Xen: arm/smmu.c, arm_smmu_device_reset).

    A register that has never been written would let its stream be translated through bank 0.
    """
    for stream in range(STREAMS):
        registers.put(registers.s2cr(stream), S2CR_FAULT)


def take(bitmap: Bitmap, count: int, what: str) -> int:
    """Take the lowest bit that is clear.

    Raises:
        LimitReached: if none is.
    """
    number = bitmap.first_free(count)
    if number is None:
        raise LimitReached(f"all {count} {what} are in use: use fewer")
    bitmap.put(number)
    return number


def enter_context(driver: DriverState, domain: Domain, device: Device) -> int:
    """Return the context bank of a domain for the unit of a device; if it has none, take one and let it translate."""
    xen_domain, iommu = driver.domains[domain.number], driver.iommu_of(device)
    contexts = xen_domain.contexts.value
    context = context_on(contexts, iommu.index)
    if context is None:
        context = Context(iommu.index, take(iommu.context_map, BANKS, f"context banks of {iommu.unit.name}"), 0)
        registers = iommu.unit.registers
        for address, value, _ in bank_writes(registers, context.bank, domain, iommu.unit.settings.ipa_bits):
            registers.put(address, value)
    xen_domain.contexts.value = with_devices(contexts, context, 1)
    return context.bank


def enter_stream(driver: DriverState, domain: Domain, device: Device) -> None:
    """Let a domain's tables translate for a device (Xen: arm/smmu.c, arm_smmu_attach_dev)."""
    iommu, bank = driver.iommu_of(device), enter_context(driver, domain, device)
    stream = take(iommu.smr_map, STREAMS, f"stream match registers of {iommu.unit.name}")
    driver.attached[device.bdf].value = Attached(domain.number, stream)
    registers = iommu.unit.registers
    registers.put(registers.smr(stream), encode_smr(device.source_id))
    registers.put(registers.s2cr(stream), S2CR_TRANSLATE | bank)


def cache_leaf(
    driver: DriverState, domain: Domain, device: Device, dfn: Dfn, leaf: int, reads: tuple[TableRead, ...]
) -> None:
    """Cache a leaf in the TLB of a device's unit, as if the device had used the page by a walk with these reads."""
    unit, entry = driver.iommu_of(device).unit, domain.format.decode(leaf, reads[-1].level)
    if entry is None:
        return
    translation = Translation(leaf, entry.order, entry.read, entry.write, entry.address)
    level = unit.format.device_level
    _, registers = unit.registers.snapshot(device.source_id, unit.registers.value)
    of_device = (TableRead(level, unit.format.orders[level], address, 0, is_leaf=False) for address in registers)
    context = context_on(driver.domains[domain.number].contexts.value, driver.iommu_of(device).index)
    if context is None:
        return
    found, vmid = (*of_device, *reads), vmid_of(context.bank)
    unit.iotlb.insert(IotlbEntry(vmid, vmid, dfn, translation, found))
    if unit.walk_cache is not None:
        unit.walk_cache.insert_walk(vmid, Tables(vmid, domain.pgd, domain.levels), dfn, found)
