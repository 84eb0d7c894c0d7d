"""The state before the first step: stream mapping, context banks, cached translations. Takes no step."""

from emu.devices.device import Device
from emu.errors import LimitReached
from emu.hypervisor.bitmaps import first_free
from emu.hypervisor.domain import Domain
from emu.hypervisor.smmu.assignment import bank_writes
from emu.hypervisor.smmu.flush import vmid_of
from emu.hypervisor.smmu.state import NO_BANK, DriverState
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


def take(taken: int, count: int, what: str) -> int:
    """Return the lowest free number.

    Raises:
        LimitReached: if none is free.
    """
    number = first_free(taken, count)
    if number is None:
        raise LimitReached(f"all {count} {what} are in use: use fewer")
    return number


def bank_of(driver: DriverState, domain: Domain, device: Device) -> int:
    """Return the context bank of a domain for the unit of a device, and take one if it has none."""
    iommu = driver.iommu_of(device)
    context = driver.domains[domain.number].context(iommu.index)
    if context.value == NO_BANK:
        context.value = take(iommu.context_map.value, BANKS, f"context banks of {iommu.unit.name}")
        iommu.context_map.put(context.value)
        registers = iommu.unit.registers
        for address, value, _ in bank_writes(registers, context.value, domain, iommu.unit.settings.ipa_bits):
            registers.put(address, value)
    return context.value


def enter_stream(driver: DriverState, domain: Domain, device: Device) -> None:
    """Let a domain's tables translate for a device (Xen: arm/smmu.c, arm_smmu_attach_dev)."""
    iommu, bank = driver.iommu_of(device), bank_of(driver, domain, device)
    stream = take(iommu.smr_map.value, STREAMS, f"stream match registers of {iommu.unit.name}")
    iommu.smr_map.put(stream)
    driver.streams[device.bdf].value = stream
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
    found, vmid = (*of_device, *reads), vmid_of(bank_of(driver, domain, device))
    unit.iotlb.insert(IotlbEntry(vmid, vmid, dfn, translation, found))
    if unit.walk_cache is not None:
        unit.walk_cache.insert_walk(vmid, Tables(vmid, domain.pgd, domain.levels), dfn, found)
