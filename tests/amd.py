"""A machine's AMD-Vi units and driver, with what only they have."""

from emu.cpus import Cpu
from emu.engine import Wait
from emu.hypervisor.amd import AmdDriver, send_iommu_command
from emu.iommus.amd.formats import (
    Command,
    CompletionWait,
    DeviceTableEntry,
    decode_command,
    encode_command,
    encode_device_entry,
)
from emu.iommus.amd.settings import AmdSettings
from emu.iommus.amd.unit import AmdUnit
from emu.machine.description import Description
from emu.machine.machine import Machine
from emu.platforms import AMD
from emu.units import WORD_BYTES, Maddr

TOLD = 7
"""What `settle` lets its wait store."""


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


def enter(machine: Machine, bdf: str, entry: DeviceTableEntry) -> None:
    """Write a device's table entry before the first step."""
    device = machine.devices[bdf]
    table = unit_of(machine, machine.units.index(device.unit)).device_table
    for address, word in zip(table.words(device.source_id), encode_device_entry(entry), strict=True):
        machine.memory.put(address, word)


def status_word(machine: Machine, number: int = 0) -> Maddr:
    """Return where a wait may store: a word of its own, beside the status register of unit 0."""
    return Maddr(unit_of(machine).queue.status + 0x100 + 8 * number)


def wait(machine: Machine, number: int = 0, *, flush: bool = False) -> CompletionWait:
    """Return a wait that stores to a word of its own."""
    return CompletionWait(status_word(machine, number), TOLD, store=True, flush=flush)


async def post(machine: Machine, cpu: Cpu, *commands: Command) -> None:
    """Post commands to unit 0."""
    driver = driver_of(machine)
    for command in commands:
        assert await send_iommu_command(cpu, driver, driver.iommus[0], encode_command(command))


async def settle(machine: Machine, cpu: Cpu, *commands: Command) -> None:
    """Post commands to unit 0, and wait until they have completed."""
    done = cpu.memory.latch(status_word(machine), TOLD)
    await post(machine, cpu, *commands, wait(machine))
    await Wait(done)
