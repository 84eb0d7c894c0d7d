"""A machine's VT-d units and driver, with what only they have."""

from emu.cpus import Cpu
from emu.engine import Wait
from emu.hypervisor.bitmaps import Bitmap
from emu.hypervisor.vtd import VtdDriver
from emu.hypervisor.vtd.queue import qinval_update
from emu.iommus.vtd.formats import Descriptor, WaitDescriptor
from emu.iommus.vtd.unit import VtdUnit
from emu.machine.machine import Machine


def unit_of(machine: Machine, number: int = 0) -> VtdUnit:
    """Return a unit of a machine."""
    unit = machine.units[number]
    assert isinstance(unit, VtdUnit)
    return unit


def driver_of(machine: Machine) -> VtdDriver:
    """Return the driver of a machine."""
    driver = machine.driver
    assert isinstance(driver, VtdDriver)
    return driver


def bitmap_of(machine: Machine, domain: int) -> Bitmap:
    """Return a domain's iommu_bitmap."""
    return driver_of(machine).iommu_bitmap(machine.domains[domain])


async def settle(machine: Machine, cpu: Cpu, *descriptors: Descriptor) -> None:
    """Post descriptors to unit 0, and wait until they have completed."""
    address = driver_of(machine).poll_slot(cpu)
    done = cpu.memory.latch(address, 7)
    for descriptor in (*descriptors, WaitDescriptor(address, 7)):
        await qinval_update(cpu, driver_of(machine).iommus[0], descriptor)
    await Wait(done)
