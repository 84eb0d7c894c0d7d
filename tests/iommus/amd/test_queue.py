"""The command buffer as a ring: how much it holds, that nothing is lost in it, and what stops the unit."""

from collections.abc import Callable, Sequence

import attrs
import pytest

from emu.checks.findings import Finding, FindingKind
from emu.cpus import Cpu
from emu.engine import Agent, Choose
from emu.engine.hosts import direct
from emu.iommus.amd.formats import Command, CompletionWait, InvalidateDeviceEntry, InvalidatePages, encode_command
from emu.iommus.amd.queue import ENTRIES
from emu.iommus.amd.settings import AmdSettings
from emu.iommus.ring import ReadHead, WriteTail
from emu.machine.machine import Machine
from emu.units import Dfn, Maddr
from tests.amd import amd_machine, driver_of, post, settle, status_word, unit_of, wait
from tests.events import steps

Execute = Callable[..., list[Finding]]

G = Dfn(0x10)


def machine_with(entries: int = ENTRIES, *, synchronous: bool = False) -> Machine:
    machine = amd_machine(AmdSettings(levels=2, queue_entries=entries, synchronous=synchronous))
    machine.premap(machine.domain(1, devices=("00:1f.0",)), G, machine.allocate(), cached=True)
    return machine


def page(number: int) -> InvalidatePages:
    """Return a command that is told by its number."""
    return InvalidatePages(1, Dfn(number))


@attrs.define
class UnitLast:
    """Let the unit go on when no CPU can."""

    def pick(self, enabled: Sequence[Agent]) -> Agent:
        return next((agent for agent in enabled if "cpu" in agent.labels), enabled[0])

    def choose(self, choice: Choose) -> int:
        return 0


@pytest.mark.parametrize("entries", [2, 3, 16])
def test_the_ring_is_full_when_it_holds_one_command_less_than_it_has_slots(entries: int) -> None:
    machine = machine_with(entries)
    full: list[bool] = []

    @machine.cpu(0)
    async def poster(cpu: Cpu) -> None:
        for number in range(entries - 1):
            full.append(await ReadHead(unit_of(machine).queue))
            await post(machine, cpu, page(number))
        full.append(await ReadHead(unit_of(machine).queue))

    direct.run(machine.execution(UnitLast()))
    assert full == [False] * (entries - 1) + [True]


def test_there_is_room_again_once_the_unit_has_fetched_a_command() -> None:
    machine = machine_with(2)
    full: list[bool] = []

    @machine.cpu(0)
    async def poster(cpu: Cpu) -> None:
        await settle(machine, cpu)
        full.append(await ReadHead(unit_of(machine).queue))

    assert unit_of(machine).queue.room() is None
    execution = machine.execution(UnitLast())
    direct.run(execution)
    assert machine.conclude(execution) == []
    room = unit_of(machine).queue.room()
    assert full == [False]
    assert room is not None
    assert room.is_set


@pytest.mark.parametrize("synchronous", [False, True])
@pytest.mark.parametrize("entries", [3, ENTRIES])
def test_the_ring_wraps_round_and_no_command_is_lost(execute: Execute, entries: int, synchronous: bool) -> None:
    machine = machine_with(entries, synchronous=synchronous)
    count = 2 * entries

    @machine.cpu(0)
    async def busy(cpu: Cpu) -> None:
        for number in range(count):
            await settle(machine, cpu, page(number))
            machine.memory.put(status_word(machine), 0)

    assert execute(machine) == []
    queue = unit_of(machine).queue
    assert queue.count == queue.fetched == 2 * count
    asked = [event.fields["dfn"] for event in machine.trace.events() if event.name == "invalidate.complete"]
    assert asked == list(range(count))


def test_commands_lie_16_bytes_apart_from_the_base_on() -> None:
    queue = unit_of(machine_with(4)).queue
    assert [queue.slot_address(slot) - queue.base for slot in range(5)] == [0, 16, 32, 48, 0]


@pytest.mark.parametrize(
    ("command", "address"),
    [
        (CompletionWait(), None),
        (CompletionWait(Maddr(0x5000), 1, store=True), 0x5000),
        (CompletionWait(Maddr(0x5000), 1), None),
        (InvalidateDeviceEntry(1), None),
    ],
)
def test_a_wait_names_the_word_to_which_it_stores(command: Command, address: int | None) -> None:
    assert unit_of(machine_with()).queue.status_address(command) == address


def test_a_wait_with_an_interrupt_names_the_status_register() -> None:
    queue = unit_of(machine_with()).queue
    assert queue.status_address(CompletionWait(interrupt=True)) == queue.status


@pytest.mark.parametrize("synchronous", [False, True])
def test_a_command_that_is_not_valid_stops_the_unit_and_the_cpu_that_waits_is_reported(
    execute: Execute, synchronous: bool
) -> None:
    machine = machine_with(synchronous=synchronous)

    @machine.cpu(0)
    async def submitter(cpu: Cpu) -> None:
        queue = unit_of(machine).queue
        await cpu.store128(queue.slot_address(0), 0xF << 60)
        await WriteTail(queue, 1)
        await post(machine, cpu, page(G))
        await settle(machine, cpu)

    (finding,) = execute(machine)
    assert finding.kind is FindingKind.DEADLOCK
    assert unit_of(machine).queue.error
    assert len(steps(machine.trace.events(), "queue.error")) == 1
    assert steps(machine.trace.events(), "queue.fetch", "invalidate.begin") == []


@pytest.mark.parametrize("synchronous", [False, True])
def test_what_comes_before_a_command_that_is_not_valid_is_executed(execute: Execute, synchronous: bool) -> None:
    machine = machine_with(synchronous=synchronous)
    commands: tuple[Command, ...] = (page(G), wait(machine))

    @machine.cpu(0)
    async def submitter(cpu: Cpu) -> None:
        queue = unit_of(machine).queue
        for slot, command in enumerate(commands):
            await cpu.store128(queue.slot_address(slot), encode_command(command))
        await cpu.store128(queue.slot_address(2), 0xF << 60)
        await WriteTail(queue, 3)

    assert execute(machine) == []
    assert len(machine.unit.iotlb) == 0
    assert unit_of(machine).queue.error
    if synchronous:
        assert machine.memory.peek(status_word(machine)) == 7


def test_units_of_one_driver_have_rings_of_their_own(execute: Execute) -> None:
    machine = amd_machine()
    machine.scope(1, "01:00.0")
    machine.domain(1, devices=("00:1f.0", "01:00.0"))

    @machine.cpu(0)
    async def submitter(cpu: Cpu) -> None:
        await settle(machine, cpu, page(0))

    assert execute(machine) == []
    assert [unit_of(machine, number).queue.count for number in (0, 1)] == [2, 0]
    assert len({iommu.unit.queue.base for iommu in driver_of(machine).iommus}) == 2
