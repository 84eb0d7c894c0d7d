"""What the tests of the SMMU's software share: a machine with one, and looking into a p2m."""

from collections.abc import Awaitable, Callable

import attrs

from emu.checks.findings import Finding
from emu.cpus import Cpu
from emu.engine import Choose, Event, Wait
from emu.engine.hosts import direct
from emu.engine.strategies import Strategy
from emu.engine.strategies.round_robin import RoundRobinStrategy
from emu.hypervisor.domain import Domain
from emu.hypervisor.fixes import Fix
from emu.hypervisor.smmu import SmmuDriver
from emu.hypervisor.smmu.entries import is_p2m_valid, is_table, next_table
from emu.iommus.smmu.queue import SYNC, ReadTlbStatus, WriteTlbRegister
from emu.iommus.smmu.settings import SmmuSettings
from emu.iommus.smmu.unit import SmmuUnit
from emu.machine.description import Description
from emu.machine.machine import Machine
from emu.platforms import SMMU
from emu.units import Dfn, Maddr

Body = Callable[[Machine, Cpu], Awaitable[object]]

NIC, DISK, FAR = "00:1f.0", "00:02.0", "01:00.0"
REVISIONS = ("implicit", "v1", "merged", "flush_on_error")

SMALL = SmmuSettings(ipa_bits=32, superpage_bits=2)
"""Tables of three levels, four entries each; superpages have 4 and 16 pages."""


def p2m_machine(
    *fixes: Fix, revision: str = "v1", settings: SmmuSettings = SMALL, number: int = 1, is_checking: bool = True
) -> tuple[Machine, Domain]:
    """Return a machine with one SMMU, and a domain of this number with a device behind it."""
    machine = Machine(Description(revision, SMMU, settings, is_checking=is_checking))
    machine.driver.fixes.update(fixes)
    return machine, machine.domain(number, devices=(NIC,))


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


def banks_of(machine: Machine, domain: int) -> list[int]:
    """Return the context bank by which each unit translates for a domain that uses it."""
    return [context.bank for context in driver_of(machine).domains[domain].contexts.value]


async def settle(machine: Machine, vmid: int) -> None:
    """Ask unit 0 for the invalidation of a VMID, and wait until it has completed."""
    queue = unit_of(machine).queue
    await WriteTlbRegister(queue, vmid)
    await WriteTlbRegister(queue, SYNC)
    while (latch := await ReadTlbStatus(queue)) is not None:
        await Wait(latch)


class Faulty(RoundRobinStrategy):
    """Have every fault happen that may."""

    def choose(self, choice: Choose) -> int:
        return choice.count - 1


@attrs.define
class Scripted(RoundRobinStrategy):
    """Choose by a list; nothing happens when it is used up."""

    choices: list[int] = attrs.field(factory=list)

    def choose(self, choice: Choose) -> int:
        return self.choices.pop(0) if self.choices else 0


def run(machine: Machine, *bodies: Body, strategy: Strategy | None = None) -> tuple[list[Event], list[Finding]]:
    """Have each CPU do something in a hypercall; return the events and the findings."""

    async def does(cpu: Cpu) -> None:
        async with cpu.hypercall("memory_op"):
            await bodies[cpu.number](machine, cpu)

    for number in range(len(bodies)):
        machine.cpu(number).runs(does)
    execution = machine.execution(strategy or RoundRobinStrategy())
    direct.run(execution)
    findings = machine.conclude(execution)
    return list(machine.trace.events()), findings


def entry_at(machine: Machine, domain: Domain, gfn: Dfn) -> tuple[int, int]:
    """Return the level and the word of the entry at which Xen's walk for a gfn ends."""
    table, level = domain.pgd, domain.levels
    while True:
        word = machine.memory.peek(address_of(domain, table, gfn, level))
        if not is_p2m_valid(word) or not is_table(word, level):
            return level, word
        table, level = next_table(word), level - 1


def address_of(domain: Domain, table: Maddr, gfn: Dfn, level: int) -> Maddr:
    """Return the address of a gfn's entry in a table."""
    return domain.format.entry_address(table, gfn, level)


def names(events: list[Event], *wanted: str) -> list[str]:
    """Return the names of the events that have one of these names, in order."""
    return [event.name for event in events if event.name in wanted]
