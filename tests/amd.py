"""A machine's AMD-Vi units and driver, with what only they have."""

from emu.hypervisor.amd import AmdDriver
from emu.iommus.amd.formats import Command, decode_command
from emu.iommus.amd.settings import AmdSettings
from emu.iommus.amd.unit import AmdUnit
from emu.machine.description import Description
from emu.machine.machine import Machine
from emu.platforms import AMD
from emu.units import WORD_BYTES


def amd_machine(settings: AmdSettings | None = None, *, revision: str = "v1", is_checking: bool = True) -> Machine:
    """Return a machine with one AMD-Vi unit; its tables have two levels unless the settings say more."""
    return Machine(Description(revision, AMD, settings or AmdSettings(levels=2), is_checking=is_checking))


def unit_of(machine: Machine, number: int = 0) -> AmdUnit:
    """Return a unit of a machine."""
    unit = machine.units[number]
    assert isinstance(unit, AmdUnit)
    return unit


def driver_of(machine: Machine) -> AmdDriver:
    """Return the driver of a machine."""
    driver = machine.driver
    assert isinstance(driver, AmdDriver)
    return driver


def submitted(machine: Machine, number: int = 0) -> list[Command | None]:
    """Return the commands that lie in a unit's ring, in the order in which they were submitted."""
    queue, memory = unit_of(machine, number).queue, machine.memory
    words = [queue.slot_address(slot) for slot in range(queue.count)]
    return [decode_command(memory.peek(at) | memory.peek(at + WORD_BYTES) << 64) for at in words]
