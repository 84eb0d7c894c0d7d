"""A machine's SMMUv3 units and driver, with what only they have."""

from collections.abc import Callable, Sequence

import attrs

from emu.checks.findings import Finding
from emu.cpus import Cpu
from emu.engine import Agent, Choose, Operation
from emu.engine.hosts import direct
from emu.hypervisor.smmu.v3 import Smmuv3Driver
from emu.hypervisor.smmu.v3.queue import arm_smmu_cmdq_issue_cmd, arm_smmu_cmdq_issue_sync
from emu.iommus.smmu.v3.formats import Command, StreamTableEntry, decode_command, encode_entry
from emu.iommus.smmu.v3.settings import Smmuv3Settings
from emu.iommus.smmu.v3.unit import Smmuv3Unit
from emu.machine.description import Description
from emu.machine.machine import Machine
from emu.platforms import SMMUV3
from emu.units import WORD_BYTES, Maddr
from tests.turns import HoldBack


def smmuv3_machine(settings: Smmuv3Settings | None = None, *, is_checking: bool = True) -> Machine:
    """Return a machine with one SMMUv3; its tables have three levels unless the settings say more."""
    return Machine(Description("today", SMMUV3, settings or Smmuv3Settings(ipa_bits=32), is_checking=is_checking))


def unit_of(machine: Machine, number: int = 0) -> Smmuv3Unit:
    """Return a unit of a machine."""
    unit = machine.units[number]
    assert isinstance(unit, Smmuv3Unit)
    return unit


def driver_of(machine: Machine) -> Smmuv3Driver:
    """Return the driver of a machine."""
    driver = machine.driver
    assert isinstance(driver, Smmuv3Driver)
    return driver


def submitted(machine: Machine, number: int = 0) -> list[Command | None]:
    """Return the commands that lie in a unit's queue, in the order in which they were submitted."""
    queue, memory = unit_of(machine, number).queue, machine.memory
    words = [queue.slot_address(slot) for slot in range(queue.count)]
    return [decode_command(memory.peek(at) | memory.peek(at + WORD_BYTES) << 64) for at in words]


def words_of(machine: Machine, bdf: str) -> range:
    """Return the addresses of the words of a device's entry."""
    device = machine.devices[bdf]
    return unit_of(machine, machine.units.index(device.unit)).device_table.words(device.source_id)


def enter(machine: Machine, bdf: str, entry: StreamTableEntry) -> None:
    """Write a device's entry before the first step."""
    for address, word in zip(words_of(machine, bdf), encode_entry(entry), strict=True):
        machine.memory.put(Maddr(address), word)


async def post(machine: Machine, cpu: Cpu, *commands: Command) -> None:
    """Post commands to unit 0."""
    driver = driver_of(machine)
    for command in commands:
        await arm_smmu_cmdq_issue_cmd(cpu, driver, driver.iommus[0], command)


async def settle(machine: Machine, cpu: Cpu, *commands: Command) -> int:
    """Post commands to unit 0, and wait until they have completed; return what the wait returned."""
    driver = driver_of(machine)
    await post(machine, cpu, *commands)
    return await arm_smmu_cmdq_issue_sync(cpu, driver, driver.iommus[0])


@attrs.define
class UnitLast:
    """Let the units go on when no CPU can.

    Attributes:
        chosen: what is chosen, where there is so much.
    """

    chosen: int = 0

    def pick(self, enabled: Sequence[Agent]) -> Agent:
        return next((agent for agent in enabled if "cpu" in agent.labels), enabled[0])

    def choose(self, choice: Choose) -> int:
        return min(self.chosen, choice.count - 1)


def ahead_of_units(machine: Machine, *, chosen: int = 0) -> list[Finding]:
    """Run a machine whose units go on only when no CPU can; return the findings."""
    execution = machine.execution(UnitLast(chosen))
    direct.run(execution)
    return machine.conclude(execution)


def held_back(machine: Machine, holds: Callable[[Operation[object] | None], bool]) -> list[Finding]:
    """Run a machine whose devices do some operations only when nobody else can go on; return the findings."""
    execution = machine.execution(HoldBack(holds))
    direct.run(execution)
    return machine.conclude(execution)
