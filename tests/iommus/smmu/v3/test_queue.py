"""The command queue: how much it holds, when it is empty, what stops the unit, what is read without snooping."""

from collections.abc import Callable

import pytest

from emu.checks.findings import Finding, FindingKind
from emu.cpus import Cpu
from emu.engine import Wait
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import OK
from emu.iommus.ring import ReadHead, WriteTail
from emu.iommus.smmu.v3.formats import Command, InvalidatePage, InvalidateVmid, Prefetch, Sync, encode_command
from emu.iommus.smmu.v3.queue import ENTRIES, CompleteSync
from emu.iommus.smmu.v3.settings import Smmuv3Settings
from emu.machine.machine import Machine
from emu.units import Dfn
from tests.events import steps
from tests.smmuv3 import ahead_of_units, driver_of, held_back, post, settle, smmuv3_machine, submitted, unit_of

Execute = Callable[..., list[Finding]]

G = Dfn(0x10)


def machine_with(
    entries: int = ENTRIES, *, synchronous: bool = False, coherent: bool = True, repaired: bool = True
) -> Machine:
    settings = Smmuv3Settings(ipa_bits=32, queue_entries=entries, synchronous=synchronous, coherent=coherent)
    machine = smmuv3_machine(settings)
    machine.premap(machine.domain(1, devices=("00:1f.0",)), G, machine.allocate(), cached=True)
    if not repaired:
        driver_of(machine).fixes.discard(Fix.QUEUE_CLEAN)
    return machine


def page(number: int) -> InvalidatePage:
    """Return a command that is told by its number."""
    return InvalidatePage(1, Dfn(number))


@pytest.mark.parametrize("entries", [2, 3, 16])
def test_the_queue_is_full_when_it_holds_as_many_commands_as_it_has_slots(entries: int) -> None:
    machine = machine_with(entries)
    full: list[bool] = []

    @machine.cpu(0)
    async def poster(cpu: Cpu) -> None:
        for number in range(entries):
            full.append(await ReadHead(unit_of(machine).queue))
            await post(machine, cpu, page(number))
        full.append(await ReadHead(unit_of(machine).queue))

    ahead_of_units(machine)
    assert full == [False] * entries + [True]


@pytest.mark.parametrize("entries", [2, 3, ENTRIES])
@pytest.mark.parametrize("seed", range(3))
def test_no_command_is_lost_however_small_the_queue_is(execute: Execute, entries: int, seed: int) -> None:
    machine = machine_with(entries)
    for number in range(2):

        @machine.cpu(number)
        async def poster(cpu: Cpu) -> None:
            for _ in range(5):
                await settle(machine, cpu, page(cpu.number))

    assert execute(machine, seed) == []
    events = list(machine.trace.events())
    for number in range(2):
        posted = steps(events, "queue.post", agent=f"cpu{number}")
        assert len(posted) == 2 * len(steps(events, "queue.fetch", dfn=number)) == 10
    assert len(steps(events, "queue.complete")) == 10


def test_a_wait_ends_only_when_the_unit_has_completed_the_cmd_sync() -> None:
    machine = machine_with()

    @machine.cpu(0)
    async def poster(cpu: Cpu) -> None:
        assert await settle(machine, cpu, page(0)) == OK
        cpu.note("told")

    assert held_back(machine, lambda pending: isinstance(pending, CompleteSync)) == []
    events = list(machine.trace.events())
    assert steps(events, "queue.fetch", descriptor="wait") < steps(events, "queue.complete") < steps(events, "told")


def test_the_head_stays_at_a_cmd_sync_until_it_has_completed() -> None:
    queue = unit_of(machine_with()).queue
    queue.fetch(0, page(0), 1)
    queue.fetch(1, Sync(), 2)
    assert queue.fetched == 1
    CompleteSync(queue, 1).perform(3)
    assert queue.fetched_at == [1, 3]


@pytest.mark.parametrize("synchronous", [False, True])
def test_the_unit_stops_at_a_command_that_is_none_and_no_wait_ends_any_more(
    execute: Execute, synchronous: bool
) -> None:
    machine = machine_with(synchronous=synchronous)
    queue = unit_of(machine).queue

    @machine.cpu(0)
    async def poster(cpu: Cpu) -> None:
        await cpu.store128(queue.slot_address(0), 0xFF)
        await WriteTail(queue, 1)
        await settle(machine, cpu, InvalidateVmid(1))

    (stuck,) = execute(machine)
    assert stuck.kind is FindingKind.DEADLOCK
    assert queue.error
    assert queue.fetched == 0
    assert len(machine.unit.iotlb) == 1, "nothing behind it was executed"


def test_commands_are_counted_as_software_has_written_them(execute: Execute) -> None:
    machine = machine_with()

    @machine.cpu(0)
    async def poster(cpu: Cpu) -> None:
        await settle(machine, cpu, InvalidateVmid(1), page(3), Prefetch(8))

    assert execute(machine) == []
    counters = machine.unit.counters
    assert counters.commands == {"pages domain": 1, "pages order 0": 1, "prefetch": 1, "wait": 1}
    assert (counters.flushes, counters.waits) == (2, 1)


# A unit that does not snoop


def posts(machine: Machine, *commands: Command) -> None:
    @machine.cpu(0)
    async def poster(cpu: Cpu) -> None:
        await settle(machine, cpu, *commands)


@pytest.mark.parametrize("synchronous", [False, True])
def test_a_unit_that_does_not_snoop_executes_commands_whose_lines_are_written_back(
    execute: Execute, synchronous: bool
) -> None:
    machine = machine_with(coherent=False, synchronous=synchronous)
    posts(machine, InvalidateVmid(1))
    assert execute(machine) == []
    assert len(machine.unit.iotlb) == 0


@pytest.mark.parametrize("synchronous", [False, True])
def test_else_it_reads_what_stood_in_the_slot_before_and_stops(execute: Execute, synchronous: bool) -> None:
    machine = machine_with(coherent=False, repaired=False, synchronous=synchronous)
    posts(machine, InvalidateVmid(1))
    (stuck,) = execute(machine)
    assert stuck.kind is FindingKind.DEADLOCK
    assert submitted(machine) == [InvalidateVmid(1), Sync()]
    assert [one.name for one in machine.trace.events() if one.name.startswith("queue.f")] == []
    assert len(machine.unit.iotlb) == 1


def test_what_stood_there_may_be_a_command_of_the_lap_before_and_is_executed_in_place_of_the_new_one() -> None:
    machine = machine_with(2, coherent=False, repaired=False)
    queue = unit_of(machine).queue
    before: tuple[Command, ...] = (InvalidateVmid(7), Sync())
    for slot, command in enumerate(before):
        bits, address = encode_command(command), queue.slot_address(slot)
        machine.memory.put(address, bits & (1 << 64) - 1)
        machine.memory.put(address + 8, bits >> 64)
    posts(machine, InvalidateVmid(1))
    assert ahead_of_units(machine) == [], "the CPU believes that it has flushed"
    assert len(machine.unit.iotlb) == 1
    assert len(steps(machine.trace.events(), "queue.fetch", tag=7)) == 1


@pytest.mark.parametrize("repaired", [False, True])
def test_a_unit_that_snoops_sees_commands_that_are_not_written_back(execute: Execute, repaired: bool) -> None:
    machine = machine_with(repaired=repaired)
    posts(machine, InvalidateVmid(1))
    assert execute(machine) == []
    assert len(machine.unit.iotlb) == 0
    assert steps(machine.trace.events(), "line.write_back") == []


def test_a_cpu_that_waits_holds_the_lock_of_the_queue() -> None:
    machine = machine_with()
    done = machine.signal("posted")

    @machine.cpu(0)
    async def waiter(cpu: Cpu) -> None:
        await settle(machine, cpu)

    @machine.cpu(1)
    async def other(cpu: Cpu) -> None:
        await post(machine, cpu, page(0))
        await done.send()

    assert held_back(machine, lambda pending: isinstance(pending, Wait)) == []
    events = list(machine.trace.events())
    assert steps(events, "flush.done", agent="cpu0") < steps(events, "queue.post", agent="cpu1")
