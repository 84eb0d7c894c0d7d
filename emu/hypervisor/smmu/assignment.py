"""Stream mapping and context banks of devices (Xen: arm/smmu.c)."""

from emu.cpus import Cpu
from emu.devices.device import Device
from emu.engine import Access, Kind
from emu.hypervisor.assignment import HandOver
from emu.hypervisor.domain import Domain
from emu.hypervisor.ops import EINVAL, ENODEV, OK
from emu.hypervisor.smmu.flush import arm_smmu_tlb_inv_context, vmid_of
from emu.hypervisor.smmu.state import Attached, Context, DriverState, SmmuIommu, context_on, with_devices
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
    attached, registers = driver.attached[device.bdf], iommu.unit.registers
    async with xen_domain.lock.held(cpu):
        if await attached.read() is not None:
            return EINVAL
        contexts = await xen_domain.contexts.read()
        context = context_on(contexts, iommu.index) or await arm_smmu_init_domain_context(iommu, domain, device)
        stream = None if context is None else await iommu.smr_map.take(STREAMS)
        if context is None or stream is None:
            if context is not None and not context.devices:
                await arm_smmu_destroy_domain_context(cpu, driver, device, context.bank)
            return EINVAL
        await xen_domain.contexts.write(with_devices(contexts, context, 1))
        await attached.write(Attached(domain.number, stream))
        await write_all(iommu, [(registers.smr(stream), encode_smr(device.source_id), "smr")], device)
        await StoreStreamControl(registers, registers.s2cr(stream), S2CR_TRANSLATE | context.bank, domain, device.bdf)
    await HandOver(device, domain.number)
    return OK


async def arm_smmu_init_domain_context(iommu: SmmuIommu, domain: Domain, device: Device) -> Context | None:
    """Let a context bank translate by a domain's tables; None if no bank is free.

    (Xen: arm/smmu.c, arm_smmu_init_domain_context)
    """
    bank = await iommu.context_map.take(BANKS)
    if bank is None:
        return None
    await write_all(iommu, bank_writes(iommu.unit.registers, bank, domain, iommu.unit.settings.ipa_bits), device)
    return Context(iommu.index, bank, 0)


async def arm_smmu_detach_dev(cpu: Cpu, driver: DriverState, domain: Domain, device: Device) -> int:
    """Let a device's requests fault (Xen: arm/smmu.c, arm_smmu_detach_dev).

    Nothing is invalidated, and nothing drained, unless the device was the domain's last behind its unit: then its
    context bank is freed.

    Returns:
        0; or -ENODEV if the domain does not have the device.
    """
    xen_domain, iommu = driver.domains[domain.number], driver.iommu_of(device)
    registers = iommu.unit.registers
    async with xen_domain.lock.held(cpu):
        attached = await driver.attached[device.bdf].read()
        if attached is None or attached.domain != domain.number:
            return ENODEV
        stream = attached.stream
        await driver.attached[device.bdf].write(None)
        writes: Writes = [(registers.s2cr(stream), S2CR_FAULT, "s2cr"), (registers.smr(stream), 0, "smr")]
        await write_all(iommu, writes, device)
        await iommu.smr_map.clear(stream)
        contexts = await xen_domain.contexts.read()
        context = context_on(contexts, iommu.index)
        if context is not None and context.devices == 1:
            await arm_smmu_destroy_domain_context(cpu, driver, device, context.bank)
        if context is not None:
            await xen_domain.contexts.write(with_devices(contexts, context, -1))
    await HandOver(device, None)
    return OK


async def arm_smmu_destroy_domain_context(cpu: Cpu, driver: DriverState, device: Device, bank: int) -> None:
    """Disable the context bank of a domain on a device's unit, invalidate what is cached through it, and free it.

    If the poll for the invalidation gives up, the bank is free all the same, and with it the VMID.

    (Xen: arm/smmu.c, arm_smmu_destroy_domain_context)
    """
    iommu = driver.iommu_of(device)
    await write_all(iommu, [(iommu.unit.registers.of_bank(bank, SCTLR), 0, "sctlr")], device)
    await arm_smmu_tlb_inv_context(cpu, driver, iommu, bank)
    await iommu.context_map.clear(bank)


async def write_all(iommu: SmmuIommu, writes: Writes, device: Device) -> None:
    """Store to registers for a device, in the order given."""
    for address, value, name in writes:
        await StoreRegister(iommu.unit.registers, address, value, name, device.bdf)


async def arm_smmu_reassign_dev(cpu: Cpu, driver: DriverState, source: Domain, target: Domain, device: Device) -> int:
    """Move a device from one domain to another (Xen: arm/smmu.c, arm_smmu_reassign_dev)."""
    result = await arm_smmu_detach_dev(cpu, driver, source, device)
    return result or await arm_smmu_attach_dev(cpu, driver, target, device)
