"""A machine's VT-d units and driver, with what only they have."""

from emu.hypervisor.bitmaps import Bitmap
from emu.hypervisor.vtd import VtdDriver
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
