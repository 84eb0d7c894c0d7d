"""A machine's SMMUs and driver, with what only they have."""

from emu.engine import Wait
from emu.hypervisor.smmu import SmmuDriver
from emu.hypervisor.smmu.flush import vmid_of
from emu.iommus.smmu.queue import SYNC, ReadTlbStatus, WriteTlbRegister
from emu.iommus.smmu.registers import Registers, StoreRegister
from emu.iommus.smmu.settings import SmmuSettings
from emu.iommus.smmu.unit import SmmuUnit
from emu.machine.description import Description
from emu.machine.machine import Machine
from emu.platforms import SMMU
from emu.units import Maddr

SMALL = SmmuSettings(ipa_bits=32)
"""Tables of three levels, with one table of four entries at the top."""


def smmu_machine(settings: SmmuSettings = SMALL, *, revision: str = "v1", is_checking: bool = True) -> Machine:
    """Return a machine with one SMMU."""
    return Machine(Description(revision, SMMU, settings, is_checking=is_checking))


def unit_of(machine: Machine, number: int = 0) -> SmmuUnit:
    """Return a unit of a machine."""
    unit = machine.units[number]
    assert isinstance(unit, SmmuUnit)
    return unit


def driver_of(machine: Machine) -> SmmuDriver:
    """Return the driver of a machine."""
    driver = machine.driver
    assert isinstance(driver, SmmuDriver)
    return driver


def registers_of(machine: Machine) -> Registers:
    """Return the registers of unit 0 that say which tables translate for a stream."""
    return unit_of(machine).registers


def bank_of(machine: Machine, domain: int) -> int:
    """Return the context bank by which unit 0 translates for a domain."""
    contexts = driver_of(machine).domains[domain].contexts.value
    return next(context.bank for context in contexts if context.iommu == 0)


def vmid(machine: Machine, domain: int) -> int:
    """Return the VMID under which unit 0 caches what a domain's tables say."""
    return vmid_of(bank_of(machine, domain))


def stream_of(machine: Machine, bdf: str) -> int:
    """Return the number of the registers that match a device's stream."""
    attached = driver_of(machine).attached[bdf].value
    assert attached is not None
    return attached.stream


def enter(machine: Machine, address: Maddr, value: int) -> None:
    """Write a register of unit 0 before the first step."""
    registers_of(machine).put(address, value)


def store(machine: Machine, address: Maddr, value: int) -> StoreRegister:
    """Return the store of a register of unit 0."""
    return StoreRegister(registers_of(machine), address, value, "any", "00:1f.0")


async def ask(machine: Machine, *asked: int) -> None:
    """Ask unit 0 for invalidations and synchronisations."""
    for one in asked:
        await WriteTlbRegister(unit_of(machine).queue, one)


async def poll(machine: Machine) -> None:
    """Poll until no synchronisation of unit 0 is active."""
    while (latch := await ReadTlbStatus(unit_of(machine).queue)) is not None:
        await Wait(latch)


async def settle(machine: Machine, *asked: int) -> None:
    """Ask unit 0 for invalidations, and wait until they have completed."""
    await ask(machine, *asked, SYNC)
    await poll(machine)
