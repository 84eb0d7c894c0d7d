"""The command buffer as the driver uses it: what it does when the ring is full, and when a wait takes too long."""

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import pytest

from emu.checks.findings import Finding, FindingKind, Stale, StaleAssignment
from emu.cpus import Cpu
from emu.devices.device import Commit, Device
from emu.engine import Agent, Choose, Operation
from emu.engine.hosts import direct
from emu.hypervisor.amd import flush_command_buffer, send_iommu_command
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import OK
from emu.iommus.amd.engine import COM_WAIT_INT
from emu.iommus.amd.formats import CompletionWait, InvalidatePages, encode_command
from emu.iommus.amd.settings import AmdSettings
from emu.machine.machine import Machine
from emu.units import Dfn, offset
from tests.amd import amd_machine, driver_of, submitted, unit_of
from tests.events import steps

Execute = Callable[..., list[Finding]]

G = Dfn(0x10)
H = offset(G, 1)
NIC = "00:1f.0"
WAIT = CompletionWait(interrupt=True)


@attrs.define
class UnitLast:
    """Let CPUs go first and the unit when none can, devices up to an access before both and the access last.

    Attributes:
        given_up: how many waits CPUs give up, where they may.
        late: they give one up when the unit cannot go on.
    """

    given_up: int = 0
    late: bool = False

    def pick(self, enabled: Sequence[Agent]) -> Agent:
        translating = [one for one in enabled if "device" in one.labels and not isinstance(one.pending, Commit)]
        cpus = [agent for agent in enabled if "cpu" in agent.labels]
        units = [agent for agent in enabled if "iommu" in agent.labels]
        if self.late and units and any(gives_up(agent.pending) for agent in cpus):
            return units[0]
        return (translating or cpus or units or list(enabled))[0]

    def choose(self, choice: Choose) -> int:
        if not gives_up(choice) or not self.given_up:
            return 0
        self.given_up -= 1
        return 1


def gives_up(operation: Operation[Any] | None) -> bool:
    """Whether an operation chooses whether a wait is given up."""
    return isinstance(operation, Choose) and operation.about == "wait fault"


def run(machine: Machine, given_up: int = 0, *, late: bool = False) -> list[Finding]:
    execution = machine.execution(UnitLast(given_up, late))
    direct.run(execution)
    return machine.conclude(execution)


def machine_with(*fixes: Fix, entries: int = 256) -> Machine:
    """Return a machine with two pages that a device has used, on which each CPU may give up a wait."""
    machine = amd_machine(AmdSettings(levels=2, queue_entries=entries))
    domain = machine.domain(1, devices=(NIC,))
    machine.premap(domain, G, machine.allocate(page_order=1), page_order=1, cached=True)
    machine.allow_faults(waits=1)
    machine.driver.fixes.update(fixes)
    return machine


def unmaps(machine: Machine, *pages: Dfn) -> None:
    """Have CPU 0 unmap pages, each by a call that succeeds."""

    @machine.cpu(0)
    async def unmapper(cpu: Cpu) -> None:
        for page in pages:
            assert await machine.hypervisor.unmap(cpu, machine.domains[1], page) == OK


def stale(findings: list[Finding]) -> list[Dfn]:
    """Return the pages that are found stale, and nothing else is found."""
    assert {finding.kind for finding in findings} <= {FindingKind.STALE}
    return [finding.dfn for finding in findings if isinstance(finding, Stale)]


# How a CPU waits


def test_a_flush_clears_the_status_posts_the_command_and_a_wait_and_clears_the_status_when_it_is_set(
    execute: Execute,
) -> None:
    machine = machine_with()
    unmaps(machine, G)
    assert execute(machine) == []
    assert submitted(machine) == [InvalidatePages(1, G), WAIT]
    events = list(machine.trace.events())
    before, after = steps(events, "register.clear")
    (command, wait), (status,), (done,) = (steps(events, name) for name in ("queue.post", "queue.status", "flush.done"))
    assert [command, before, wait, status, done, after] == sorted([command, before, wait, status, done, after])
    assert machine.memory.peek(unit_of(machine).queue.status) == 0


def test_since_e4fee66043_the_status_stays_set_until_the_next_flush(execute: Execute) -> None:
    machine = machine_with(Fix.WAIT_FOR_EVER)
    unmaps(machine, G, H)
    assert execute(machine) == []
    assert len(steps(machine.trace.events(), "register.clear")) == 2
    assert machine.memory.peek(unit_of(machine).queue.status) == COM_WAIT_INT


@pytest.mark.parametrize("status", [0, COM_WAIT_INT, 0x13 | COM_WAIT_INT, 0x13])
def test_clearing_the_bit_leaves_the_other_bits_of_the_status_as_they_are(execute: Execute, status: int) -> None:
    machine = machine_with(Fix.WAIT_FOR_EVER)
    register = unit_of(machine).queue.status
    machine.memory.put(register, 0xFFFF_FFFF_0000_0000 | status)

    @machine.cpu(0)
    async def flusher(cpu: Cpu) -> None:
        driver = driver_of(machine)
        await flush_command_buffer(cpu, driver, driver.iommus[0])

    execute(machine)
    (cleared,) = [event for event in machine.trace.events() if event.name == "register.clear"]
    assert (cleared.fields["old"], cleared.fields["value"]) == (status, status & ~COM_WAIT_INT)
    (after,) = [version.value for version in machine.memory.history(register) if version.stored == cleared.step]
    assert after == 0xFFFF_FFFF_0000_0000 | status & ~COM_WAIT_INT


# A wait that takes too long


def test_a_wait_that_is_given_up_is_reported_as_success_and_the_page_may_still_be_used() -> None:
    machine = machine_with()
    unmaps(machine, G)
    assert stale(run(machine, given_up=1)) == [G]
    assert steps(machine.trace.events(), "flush.done") == []


def test_a_wait_that_is_not_given_up_leaves_nothing() -> None:
    machine = machine_with()
    unmaps(machine, G, H)
    assert run(machine) == []


def test_a_wait_that_completes_after_it_was_given_up_ends_the_next_wait_early() -> None:
    machine = machine_with()
    unmaps(machine, G, H)
    assert stale(run(machine, given_up=1)) == [G, H]
    events = list(machine.trace.events())
    (told,) = steps(events, "flush.done")
    assert [step for step in steps(events, "invalidate.begin", dfn=H) if step < told] == []


def test_since_e4fee66043_no_wait_is_given_up() -> None:
    machine = machine_with(Fix.WAIT_FOR_EVER)
    unmaps(machine, G, H)
    assert run(machine, given_up=2) == []
    assert steps(machine.trace.events(), "fault.inject") == []


@pytest.mark.parametrize("late", [False, True], ids=["nothing has begun", "its access is to be drained"])
def test_a_device_whose_detach_gave_up_the_wait_may_still_reach_the_domain_that_it_has_left(late: bool) -> None:
    machine = machine_with(Fix.ABORT)

    @machine.cpu(0)
    async def detacher(cpu: Cpu) -> None:
        assert await machine.assignment.detach(cpu, machine.domains[1], machine.devices[NIC]) == OK

    @machine.device(NIC)
    async def writer(device: Device) -> None:
        await device.write(G, 7)

    findings = run(machine, given_up=1, late=late)
    events = list(machine.trace.events())
    (dropped,), (handed_over,) = (steps(events, name) for name in ("device_entry.invalidate", "device.hand_over"))
    assert (dropped < handed_over) is late
    assert [(type(one), getattr(one, "left", None)) for one in findings] == [(StaleAssignment, 1)]


# A ring that is full


def posts(machine: Machine, count: int) -> list[bool]:
    """Have CPU 0 post so many commands; return the list of whether there was room for each."""
    room: list[bool] = []

    @machine.cpu(0)
    async def poster(cpu: Cpu) -> None:
        driver = driver_of(machine)
        for number in range(count):
            bits = encode_command(InvalidatePages(1, Dfn(number)))
            room.append(await send_iommu_command(cpu, driver, driver.iommus[0], bits))

    return room


def executed(machine: Machine) -> list[int]:
    return [event.fields["dfn"] for event in machine.trace.events() if event.name == "invalidate.complete"]


def test_a_command_for_which_there_is_no_room_is_dropped() -> None:
    machine = machine_with(entries=3)
    room = posts(machine, 4)
    run(machine)
    assert room == [True, True, False, False]
    assert len(steps(machine.trace.events(), "queue.drop")) == 2
    assert submitted(machine) == [InvalidatePages(1, Dfn(0)), InvalidatePages(1, Dfn(1))]


def test_since_c4e4434357_a_cpu_waits_for_room_and_nothing_is_dropped() -> None:
    machine = machine_with(Fix.RING_ROOM, entries=3)
    room = posts(machine, 4)
    run(machine)
    assert room == [True] * 4
    assert steps(machine.trace.events(), "queue.drop") == []
    assert executed(machine)[:2] == [0, 1]
    assert unit_of(machine).queue.count == 4


@pytest.mark.parametrize(("fixes", "pages"), [((), [G]), ((Fix.RING_ROOM,), [])])
def test_a_dropped_invalidation_is_reported_as_success_and_leaves_the_page_in_use(
    fixes: Sequence[Fix], pages: list[Dfn]
) -> None:
    machine = machine_with(*fixes, entries=2)

    @machine.cpu(0)
    async def unmapper(cpu: Cpu) -> None:
        driver = driver_of(machine)
        await send_iommu_command(cpu, driver, driver.iommus[0], encode_command(InvalidatePages(1, Dfn(0x1FF))))
        assert await machine.hypervisor.unmap(cpu, machine.domains[1], G) == OK

    assert stale(run(machine)) == pages
