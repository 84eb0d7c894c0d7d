"""The command processor: what completes before a wait, what may overtake it, what it drains, and how it tells."""

from collections.abc import Callable, Sequence
from math import inf

import attrs
import pytest

from emu.checks.findings import Finding
from emu.cpus import Cpu
from emu.devices.device import Commit, Device
from emu.engine import Agent, Choose, Event, Exploration, Strategy, Wait
from emu.engine.execution import Execution
from emu.engine.hosts import direct
from emu.engine.strategies.optimal import Optimal
from emu.iommus.amd.engine import COM_WAIT_INT
from emu.iommus.amd.formats import (
    Command,
    CompletionWait,
    DeviceTableEntry,
    InvalidateAll,
    InvalidateDeviceEntry,
    InvalidatePages,
)
from emu.machine.machine import Machine
from emu.units import Dfn, frame_address, offset
from tests.amd import TOLD, amd_machine, enter, post, settle, status_word, unit_of, wait
from tests.turns import held_back

Execute = Callable[..., list[Finding]]

G = Dfn(0x10)
NIC, DISK = "00:1f.0", "00:02.0"
OF_NIC = InvalidateDeviceEntry(0xF8)


def page(number: int = 0) -> InvalidatePages:
    return InvalidatePages(1, offset(G, number))


def machine_with() -> Machine:
    """Return a machine with two pages that its device has cached."""
    machine = amd_machine()
    machine.premap(machine.domain(1, devices=(NIC,)), G, machine.allocate(page_order=1), page_order=1, cached=True)
    return machine


@attrs.define
class InTurn:
    """Let devices go on up to their accesses, then CPUs, then the unit, and devices last.

    Attributes:
        last: leave waits as long as can be.
    """

    last: bool = False

    def pick(self, enabled: Sequence[Agent]) -> Agent:
        devices = [agent for agent in enabled if "device" in agent.labels]
        translating = [agent for agent in devices if not isinstance(agent.pending, Commit)]
        others = [agent for agent in enabled if "device" not in agent.labels]
        return (translating or [one for one in others if "cpu" in one.labels] or others or devices)[0]

    def choose(self, choice: Choose) -> int:
        return choice.count - 1 if self.last else 0


def submitted(machine: Machine, strategy: Strategy, *commands: Command, awaited: Sequence[int] = ()) -> list[Event]:
    """Have a CPU post commands, and wait for what some waits store; return the events."""

    @machine.cpu(0)
    async def submitter(cpu: Cpu) -> None:
        latches = [cpu.memory.latch(status_word(machine, number), TOLD) for number in awaited]
        await post(machine, cpu, *commands)
        for number, latch in zip(awaited, latches, strict=True):
            await Wait(latch)
            cpu.note("told", slot=number)

    execution = machine.execution(strategy)
    direct.run(execution)
    assert machine.conclude(execution) == []
    return list(machine.trace.events())


def said(machine: Machine, events: Sequence[Event], *names: str) -> list[tuple[str, object]]:
    """Return what happened, and to which slot or by which wait."""
    waits = {status_word(machine, number): number for number in range(4)}
    return [
        (event.name, event.fields.get("slot", waits.get(event.fields.get("address", 0))))
        for event in events
        if event.name in names
    ]


DONE = ("queue.status", "invalidate.begin", "invalidate.complete")


# How a wait tells


def test_a_wait_with_s_stores_its_64_bits_at_its_address() -> None:
    machine = machine_with()
    command = CompletionWait(status_word(machine, 1), 0xDEAD_BEEF_0123_4567, store=True)
    submitted(machine, InTurn(), command, wait(machine), awaited=[0])
    assert machine.memory.peek(status_word(machine, 1)) == 0xDEAD_BEEF_0123_4567
    assert machine.memory.peek(unit_of(machine).queue.status) == 0


def test_a_wait_with_i_sets_com_wait_int_and_stores_nothing_else() -> None:
    machine = machine_with()
    command = CompletionWait(status_word(machine, 1), TOLD, interrupt=True)
    submitted(machine, InTurn(), command, wait(machine), awaited=[0])
    assert machine.memory.peek(unit_of(machine).queue.status) == COM_WAIT_INT == 4
    assert machine.memory.peek(status_word(machine, 1)) == 0


def test_a_wait_with_both_tells_in_both_ways() -> None:
    machine = machine_with()
    command = CompletionWait(status_word(machine, 1), TOLD, store=True, interrupt=True)
    submitted(machine, InTurn(), command, wait(machine), awaited=[0])
    assert machine.memory.peek(unit_of(machine).queue.status) == COM_WAIT_INT
    assert machine.memory.peek(status_word(machine, 1)) == TOLD


def test_a_wait_with_neither_tells_nothing() -> None:
    machine = machine_with()
    command = CompletionWait(status_word(machine, 1), TOLD)
    events = submitted(machine, InTurn(), command, wait(machine), awaited=[0])
    assert said(machine, events, "queue.status") == [("queue.status", 0)]


# What comes before a wait, and what may overtake it


@pytest.mark.parametrize("last", [False, True])
def test_a_wait_completes_after_every_command_before_it(last: bool) -> None:
    machine = machine_with()
    events = submitted(machine, InTurn(last), page(), page(1), wait(machine, 1), awaited=[1])
    assert said(machine, events, *DONE) == [
        *[(name, 0) for name in DONE[1:]],
        *[(name, 1) for name in DONE[1:]],
        ("queue.status", 1),
    ]


@pytest.mark.parametrize("last", [False, True])
def test_waits_complete_in_their_order(last: bool) -> None:
    machine = machine_with()
    waits = [wait(machine, number) for number in range(3)]
    events = submitted(machine, InTurn(last), *waits, awaited=[0, 1, 2])
    assert said(machine, events, "queue.status") == [("queue.status", number) for number in range(3)]


def test_a_command_may_begin_before_the_wait_ahead_of_it_has_completed() -> None:
    machine = machine_with()
    events = submitted(machine, InTurn(last=True), wait(machine, 1), page(), wait(machine, 2), awaited=[2])
    assert said(machine, events, "queue.status", "invalidate.begin") == [
        ("invalidate.begin", 1),
        ("queue.status", 1),
        ("queue.status", 2),
    ]


def test_nothing_behind_a_wait_with_f_begins_before_it_has_completed() -> None:
    machine = machine_with()
    fence = wait(machine, 1, flush=True)
    events = submitted(machine, InTurn(last=True), fence, page(), wait(machine, 2), awaited=[2])
    assert said(machine, events, "queue.status", "invalidate.begin") == [
        ("queue.status", 1),
        ("invalidate.begin", 1),
        ("queue.status", 2),
    ]


def test_nothing_behind_a_wait_with_f_begins_before_it_has_completed_where_an_older_wait_lacks_f() -> None:
    machine = machine_with()
    commands: list[Command] = [wait(machine, 1), wait(machine, 2, flush=True), page(), wait(machine, 3)]
    events = submitted(machine, InTurn(last=True), *commands, awaited=[3])
    assert said(machine, events, "queue.status", "invalidate.begin") == [
        ("queue.status", 1),
        ("queue.status", 2),
        ("invalidate.begin", 2),
        ("queue.status", 3),
    ]


@pytest.mark.parametrize(("flush", "orders"), [(False, 2), (True, 1)])
def test_both_orders_of_a_wait_and_the_command_behind_it_are_explored_if_it_lacks_f(flush: bool, orders: int) -> None:
    seen: set[tuple[tuple[str, object], ...]] = set()
    machines: list[Machine] = []

    def program(strategy: Strategy) -> Execution:
        machine = machine_with()
        machines[:] = [machine]

        @machine.cpu(0)
        async def submitter(cpu: Cpu) -> None:
            await post(machine, cpu, wait(machine, 1, flush=flush))
            await settle(machine, cpu, page())

        return machine.execution(strategy)

    exploration = Exploration(program, Optimal)
    for execution in exploration.each():
        direct.run(execution)
        (machine,) = machines
        events = said(machine, list(machine.trace.events()), "queue.status", "invalidate.begin")
        seen.add(tuple(one for one in events if one[1] != 0))
    assert exploration.is_exhausted
    assert len(seen) == orders


# What a wait drains


def uses(machine: Machine, bdf: str, dfn: Dfn, *, is_write: bool = False) -> None:
    """Have a device make one access to a page."""

    @machine.device(bdf)
    async def user(device: Device) -> None:
        await (device.write(dfn, TOLD) if is_write else device.read(dfn))


def is_drained(machine: Machine, *commands: Command) -> bool:
    """Whether a translated access that is held back has been made when a CPU learns that commands have completed."""

    @machine.cpu(0)
    async def submitter(cpu: Cpu) -> None:
        await settle(machine, cpu, *commands)
        cpu.note("told")

    assert held_back(machine, Commit) == []
    (told,) = [event.step for event in machine.trace.events() if event.name == "told"]
    (made,) = [event.step for event in machine.trace.events() if event.name in {"dma.read", "dma.write"}]
    return made < told


EVERYTHING = InvalidatePages(1, Dfn(0), None, directory=True)


@pytest.mark.parametrize("is_write", [False, True])
@pytest.mark.parametrize("command", [page(), InvalidatePages(1, G, 1), EVERYTHING, InvalidateAll(), OF_NIC])
def test_a_wait_has_drained_the_accesses_that_were_translated_by_what_was_invalidated_before_it(
    command: Command, is_write: bool
) -> None:
    machine = machine_with()
    uses(machine, NIC, G, is_write=is_write)
    assert is_drained(machine, command)


@pytest.mark.parametrize("command", [page(1), InvalidatePages(2, G), InvalidateDeviceEntry(0x10), CompletionWait()])
def test_a_wait_does_not_drain_other_accesses(command: Command) -> None:
    machine = machine_with()
    uses(machine, NIC, G)
    assert not is_drained(machine, command)


@pytest.mark.parametrize("entry", [DeviceTableEntry(is_valid=False), DeviceTableEntry(mode=0)])
@pytest.mark.parametrize(("command", "drains"), [(OF_NIC, True), (InvalidateAll(), True), (EVERYTHING, False)])
def test_an_access_that_passes_through_is_drained_by_an_invalidation_of_its_devices_entry(
    entry: DeviceTableEntry, command: Command, drains: bool
) -> None:
    machine = machine_with()
    enter(machine, NIC, entry)
    uses(machine, NIC, Dfn(frame_address(machine.allocate()) >> 12))
    assert is_drained(machine, command) is drains


def test_an_access_of_another_device_of_the_domain_is_drained_with_the_domains_pages_alone() -> None:
    def of_two() -> Machine:
        machine = amd_machine()
        machine.premap(machine.domain(1, devices=(NIC, DISK)), G, machine.allocate(), cached=True)
        uses(machine, DISK, G)
        return machine

    assert is_drained(of_two(), page())
    assert not is_drained(of_two(), OF_NIC)


def test_what_was_to_be_drained_before_an_earlier_wait_is_drained_before_a_later_one() -> None:
    machine = machine_with()
    uses(machine, NIC, G)
    assert is_drained(machine, OF_NIC, wait(machine, 1), page(1))


@pytest.mark.parametrize("command", [OF_NIC, InvalidateAll()])
def test_a_devices_old_entry_counts_as_in_use_until_the_accesses_that_it_let_through_are_drained(
    command: Command,
) -> None:
    machine = machine_with()
    table, device = unit_of(machine).device_table, machine.devices[NIC]
    uses(machine, NIC, G)

    @machine.cpu(0)
    async def detacher(cpu: Cpu) -> None:
        await cpu.store64(table.address(device.source_id), 0)
        await settle(machine, cpu, command)

    assert held_back(machine, Commit) == []
    (made,) = [event.step for event in machine.trace.events() if event.name == "dma.read"]
    new, old = table.lifetimes(device.source_id)
    assert new[2] == inf
    assert made < old[2] < inf
