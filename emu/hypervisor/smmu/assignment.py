"""Stream mapping and context banks of devices (Xen: arm/smmu.c)."""

from emu.cpus import Cpu
from emu.devices.device import Device
from emu.engine import Access, Kind
from emu.hypervisor.assignment import FindDevice, HandOver
from emu.hypervisor.bitmaps import first_free
from emu.hypervisor.domain import Domain
from emu.hypervisor.ops import EINVAL, ENODEV, OK
from emu.hypervisor.smmu.flush import arm_smmu_tlb_inv_context, vmid_of
from emu.hypervisor.smmu.state import NO_BANK, DriverState, SmmuIommu
from emu.iommus.smmu.formats import (
    CBA2R_64BIT,
    CBAR_STAGE_2,
    S2CR_FAULT,
    S2CR_TRANSLATE,
    SCTLR_ACCESS_FLAG,
    SCTLR_ENABLE,
    SCTLR_FAULT_INTERRUPT,
    SCTLR_FAULT_REPORT,
    SCTLR_TEX_REMAP,
    encode_smr,
    encode_ttbcr,
)
from emu.iommus.smmu.registers import BANKS, SCTLR, STREAMS, TTBCR, TTBR0_HIGH, TTBR0_LOW, Registers, StoreRegister
from emu.memory import HALF_MASK, WORDS, table_words
from emu.units import Maddr

CONTROL = SCTLR_ENABLE | SCTLR_ACCESS_FLAG | SCTLR_TEX_REMAP | SCTLR_FAULT_REPORT | SCTLR_FAULT_INTERRUPT

Writes = list[tuple[Maddr, int, str]]
"""Registers with the values that are stored to them, in order."""


class StoreStreamControl(StoreRegister):
    """Store an S2CR that lets a stream be translated by the tables of a domain from then on.

    A walk may read a word of these tables only after that, so whether it may find a value that is replaced depends on
    the order of the two stores. So this one reads the tables.
    """

    __slots__ = ("domain",)

    saved_as = StoreRegister.__name__

    def __init__(self, registers: Registers, address: Maddr, value: int, domain: Domain, bdf: str) -> None:
        super().__init__(registers, address, value, "s2cr", bdf)
        self.domain = domain

    def accesses(self) -> tuple[Access, ...]:
        return (*super().accesses(), Access(WORDS, *table_words(self.domain.index), Kind.READ))


def bank_writes(registers: Registers, bank: int, domain: Domain, ipa_bits: int) -> Writes:
    """Return the stores that make a context bank translate by a domain's tables, the one that enables it last.

    (Xen: arm/smmu.c, arm_smmu_init_context_bank)
    """
    return [
        (registers.cbar(bank), CBAR_STAGE_2 | vmid_of(bank), "cbar"),
        (registers.cba2r(bank), CBA2R_64BIT, "cba2r"),
        (registers.of_bank(bank, TTBR0_LOW), domain.pgd & HALF_MASK, "ttbr0_low"),
        (registers.of_bank(bank, TTBR0_HIGH), domain.pgd >> 32, "ttbr0_high"),
        (registers.of_bank(bank, TTBCR), encode_ttbcr(ipa_bits), "ttbcr"),
        (registers.of_bank(bank, SCTLR), CONTROL, "sctlr"),
    ]


async def arm_smmu_attach_dev(cpu: Cpu, driver: DriverState, domain: Domain, device: Device) -> int:
    """Let a domain's tables translate for a device (Xen: arm/smmu.c, arm_smmu_attach_dev).

    The domain's first device behind a unit takes a context bank. Nothing is invalidated: what the TLB holds under the
    VMID of the bank stays.

    Returns:
        0; or -EINVAL if the device is attached already, or no bank or stream match register is free.
    """
    xen_domain, iommu = driver.domains[domain.number], driver.iommu_of(device)
    async with xen_domain.lock.held(cpu):
        if await driver.streams[device.bdf].read() is not None:
            return EINVAL
        bank = await xen_domain.context(iommu.index).read()
        if bank == NO_BANK:
            free = first_free(await iommu.context_map.read(), BANKS)
            if free is None:
                return EINVAL
            bank = free
            await iommu.context_map.set(bank)
            await xen_domain.context(iommu.index).write(bank)
            writes = bank_writes(iommu.unit.registers, bank, domain, iommu.unit.settings.ipa_bits)
            await write_all(iommu, writes, device)
        stream = first_free(await iommu.smr_map.read(), STREAMS)
        if stream is None:
            return EINVAL
        await iommu.smr_map.set(stream)
        await driver.streams[device.bdf].write(stream)
        registers = iommu.unit.registers
        await write_all(iommu, [(registers.smr(stream), encode_smr(device.source_id), "smr")], device)
        await StoreStreamControl(registers, registers.s2cr(stream), S2CR_TRANSLATE | bank, domain, device.bdf)
    await HandOver(device, domain.number)
    return OK


async def arm_smmu_detach_dev(cpu: Cpu, driver: DriverState, domain: Domain, device: Device) -> int:
    """Let a device's requests fault (Xen: arm/smmu.c, arm_smmu_detach_dev).

    Nothing is invalidated, and nothing drained, unless the device was the domain's last behind its unit: then its
    context bank is freed.

    Returns:
        0; or -ENODEV if the domain does not have the device.
    """
    if not await FindDevice(domain, [device]):
        return ENODEV
    xen_domain, iommu = driver.domains[domain.number], driver.iommu_of(device)
    async with xen_domain.lock.held(cpu):
        stream, registers = await driver.streams[device.bdf].read(), iommu.unit.registers
        if stream is None:
            return ENODEV
        await driver.streams[device.bdf].write(None)
        await write_all(iommu, [(registers.s2cr(stream), S2CR_FAULT, "s2cr"), (registers.smr(stream), 0, "smr")])
        await iommu.smr_map.clear(stream)
        others = [other for other in driver.devices.values() if other.unit is device.unit and other is not device]
        if not await FindDevice(domain, others):
            await arm_smmu_destroy_domain_context(cpu, driver, domain, device)
    await HandOver(device, None)
    return OK


async def arm_smmu_destroy_domain_context(cpu: Cpu, driver: DriverState, domain: Domain, device: Device) -> None:
    """Disable a domain's context bank on a device's unit, invalidate what is cached through it, and free it.

    If the poll for the invalidation gives up, the bank is free all the same, and with it the VMID.

    (Xen: arm/smmu.c, arm_smmu_destroy_domain_context)
    """
    iommu = driver.iommu_of(device)
    context = driver.domains[domain.number].context(iommu.index)
    bank = await context.read()
    await write_all(iommu, [(iommu.unit.registers.of_bank(bank, SCTLR), 0, "sctlr")], device)
    await arm_smmu_tlb_inv_context(cpu, driver, iommu, bank)
    await iommu.context_map.clear(bank)
    await context.write(NO_BANK)


async def write_all(iommu: SmmuIommu, writes: Writes, device: Device) -> None:
    """Store to registers for a device, in the order given."""
    for address, value, name in writes:
        await StoreRegister(iommu.unit.registers, address, value, name, device.bdf)


async def arm_smmu_reassign_dev(cpu: Cpu, driver: DriverState, source: Domain, target: Domain, device: Device) -> int:
    """Move a device from one domain to another (Xen: arm/smmu.c, arm_smmu_reassign_dev)."""
    result = await arm_smmu_detach_dev(cpu, driver, source, device)
    return result or await arm_smmu_attach_dev(cpu, driver, target, device)
