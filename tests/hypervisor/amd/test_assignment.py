"""Devices are attached to domains and taken away: what is stored in which order, what is flushed, who has them."""

from collections.abc import Awaitable, Callable

import pytest

from emu.checks.findings import Finding, FindingKind, StaleAssignment
from emu.cpus import Cpu
from emu.engine import Event
from emu.hypervisor.domain import Domain
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import ENODEV, OK
from emu.iommus.amd.formats import (
    Command,
    CompletionWait,
    DeviceTableEntry,
    InvalidateDeviceEntry,
    InvalidatePages,
    decode_device_entry,
)
from emu.iommus.amd.settings import AmdSettings
from emu.machine.machine import Machine
from emu.units import Dfn
from tests.amd import amd_machine, driver_of, submitted, unit_of
from tests.events import steps

Execute = Callable[..., list[Finding]]
Body = Callable[[Machine, Cpu], Awaitable[object]]

G = Dfn(0x10)
NIC, DISK, FAR = "00:1f.0", "00:02.0", "01:00.0"
OF_NIC = InvalidateDeviceEntry(0xF8)
WAIT = CompletionWait(interrupt=True)


def machine_with(*fixes: Fix) -> Machine:
    """Return a machine on which domain 1 has a NIC, which has used its page G; domain 2 has a page and no device."""
    machine = amd_machine()
    for number, devices in ((1, (NIC,)), (2, ())):
        machine.premap(machine.domain(number, devices=devices), G, machine.allocate(), cached=True)
    machine.plug(DISK)
    machine.driver.fixes.update(fixes)
    return machine


def run(execute: Execute, machine: Machine, body: Body) -> tuple[list[Event], list[Finding]]:
    """Have CPU 0 do something; return the events and what shows."""

    @machine.cpu(0)
    async def only(cpu: Cpu) -> None:
        await body(machine, cpu)

    findings = execute(machine)
    return list(machine.trace.events()), findings


async def attach(m: Machine, cpu: Cpu) -> None:
    assert await m.assignment.attach(cpu, m.domains[2], m.devices[DISK]) == OK


async def attach_over(m: Machine, cpu: Cpu) -> None:
    assert await m.assignment.attach(cpu, m.domains[2], m.devices[NIC]) == OK


async def detach(m: Machine, cpu: Cpu) -> None:
    assert await m.assignment.detach(cpu, m.domains[1], m.devices[NIC]) == OK


async def reassign(m: Machine, cpu: Cpu) -> None:
    assert await m.assignment.reassign(cpu, m.domains[1], m.domains[2], m.devices[NIC]) == OK


def entry_of(machine: Machine, bdf: str) -> DeviceTableEntry | None:
    """Return a device's entry as it stands."""
    return decode_device_entry(unit_of(machine).device_table.seen(machine.devices[bdf].source_id))


def translates_by(domain: Domain) -> DeviceTableEntry:
    return DeviceTableEntry(mode=2, root=domain.pgd, domain_id=domain.number)


def dwords(events: list[Event]) -> list[int]:
    """Return the numbers of the 32-bit words of an entry that were stored, in order."""
    return [event.fields["dword"] for event in events if event.name == "device_entry.write"]


def first(events: list[Event], *names: str) -> list[int]:
    """Return the steps at which events of these names first happened."""
    return [steps(events, name)[0] for name in names]


# Attaching


def test_attach_stores_the_domain_id_the_high_half_of_the_root_and_then_what_makes_the_entry_valid(
    execute: Execute,
) -> None:
    machine = machine_with()
    events, findings = run(execute, machine, attach)
    assert findings == []
    assert dwords(events) == [2, 1, 0]
    assert entry_of(machine, DISK) == translates_by(machine.domains[2])


@pytest.mark.parametrize("levels", [1, 4, 6])
def test_attach_enters_as_many_levels_as_the_domains_tables_have(execute: Execute, levels: int) -> None:
    machine = amd_machine(AmdSettings(levels=levels))
    machine.domain(2)
    machine.plug(DISK)
    run(execute, machine, attach)
    entry = entry_of(machine, DISK)
    assert entry is not None
    assert entry.mode == levels


def test_until_the_last_store_the_entry_lets_requests_through_as_before(execute: Execute) -> None:
    machine = machine_with()
    run(execute, machine, attach)
    ever = [entry for entry, *_ in unit_of(machine).device_table.lifetimes(machine.devices[DISK].source_id)]
    assert [entry.is_valid for entry in ever] == [True, False, False, False]


def test_attach_flushes_the_devices_entry_on_its_unit_and_no_page(execute: Execute) -> None:
    machine = machine_with()
    run(execute, machine, attach)
    assert submitted(machine) == [InvalidateDeviceEntry(0x10), WAIT]


def test_attach_over_an_entry_that_translates_writes_and_flushes_nothing(execute: Execute) -> None:
    machine = machine_with()
    before = entry_of(machine, NIC)
    events, findings = run(execute, machine, attach_over)
    assert (dwords(events), submitted(machine)) == ([], [])
    assert entry_of(machine, NIC) == before
    assert machine.devices[NIC].assigned_to == 2
    assert [(type(one), one.kind) for one in findings] == [(StaleAssignment, FindingKind.STALE)]


def test_a_device_of_a_unit_of_its_own_is_flushed_there(execute: Execute) -> None:
    machine = amd_machine()
    machine.scope(1, DISK)
    machine.domain(2)
    machine.plug(DISK)
    run(execute, machine, attach)
    assert [submitted(machine, number) for number in (0, 1)] == [[], [InvalidateDeviceEntry(0x10), WAIT]]


# Detaching


@pytest.mark.parametrize("aborts", [False, True])
def test_detach_clears_v_and_tv_in_one_store_of_one_half_and_tv_alone_since_1b00c16bdf(
    execute: Execute, aborts: bool
) -> None:
    machine = machine_with(*[Fix.ABORT] * aborts)
    (first_word, *_) = unit_of(machine).device_table.words(machine.devices[NIC].source_id)
    before = machine.memory.peek(first_word)
    events, _ = run(execute, machine, detach)
    assert dwords(events) == [0]
    assert machine.memory.peek(first_word) == before & ~(2 if aborts else 3)


def test_detach_flushes_the_devices_entry_and_no_page(execute: Execute) -> None:
    machine = machine_with()
    run(execute, machine, detach)
    assert submitted(machine) == [OF_NIC, WAIT]
    assert len(machine.unit.iotlb) == 1


@pytest.mark.parametrize("aborts", [False, True])
def test_a_detached_device_reaches_all_memory_until_1b00c16bdf(execute: Execute, aborts: bool) -> None:
    machine = machine_with(*[Fix.ABORT] * aborts)
    _, findings = run(execute, machine, detach)
    assert [isinstance(one, StaleAssignment) and one.is_untranslated for one in findings] == [True] * (not aborts)
    assert machine.devices[NIC].assigned_to is None


def test_detach_of_a_device_that_the_domain_does_not_have_does_nothing_and_says_so(execute: Execute) -> None:
    machine = machine_with()

    async def detach_other(m: Machine, cpu: Cpu) -> None:
        assert await m.assignment.detach(cpu, m.domains[2], m.devices[NIC]) == ENODEV

    events, findings = run(execute, machine, detach_other)
    assert (dwords(events), submitted(machine), findings) == ([], [], [])
    assert machine.devices[NIC].assigned_to == 1


@pytest.mark.parametrize("body", [attach, detach])
def test_stores_flush_wait_and_change_of_the_owner_follow_one_another(execute: Execute, body: Body) -> None:
    events, _ = run(execute, machine_with(), body)
    order = first(events, "device_entry.read", "device_entry.write", "queue.post", "flush.done", "device.hand_over")
    assert order == sorted(order)
    (invalidated,) = steps(events, "device_entry.invalidate")
    assert max(steps(events, "device_entry.write")) < invalidated < order[3]


@pytest.mark.parametrize("body", [attach, detach])
def test_the_lock_of_the_unit_is_held_from_the_test_of_the_entry_until_the_wait_is_over(
    execute: Execute, body: Body
) -> None:
    events, _ = run(execute, machine_with(), body)
    (taken,), (released,) = (steps(events, f"lock.{verb}", lock="amd0.lock") for verb in ("acquire", "release"))
    assert taken < first(events, "device_entry.read")[0]
    assert max(steps(events, "flush.done")) < released < first(events, "device.hand_over")[0]
    assert steps(events, "lock.acquire", lock="d1.mapping_lock") == []


# Moving


def test_reassign_detaches_and_then_attaches(execute: Execute) -> None:
    machine = machine_with()
    events, findings = run(execute, machine, reassign)
    assert dwords(events) == [0, 2, 1, 0]
    assert submitted(machine) == [OF_NIC, WAIT, OF_NIC, WAIT]
    assert [event.fields["domain"] for event in events if event.name == "device.hand_over"] == [None, 2]
    assert entry_of(machine, NIC) == translates_by(machine.domains[2])
    assert [isinstance(one, StaleAssignment) and one.is_untranslated for one in findings] == [True]


def test_reassign_between_domains_of_which_the_device_has_neither_does_nothing(execute: Execute) -> None:
    machine = machine_with()

    async def reassign_other(m: Machine, cpu: Cpu) -> None:
        assert await m.assignment.reassign(cpu, m.domains[2], m.domains[1], m.devices[NIC]) == ENODEV

    events, _ = run(execute, machine, reassign_other)
    assert (dwords(events), submitted(machine)) == ([], [])


@pytest.mark.parametrize(("whole", "stores"), [(False, 2), (True, 1)])
def test_since_1fa6e9aa36_the_new_entry_replaces_the_old_one_and_its_old_id_is_flushed(
    execute: Execute, whole: bool, stores: int
) -> None:
    machine = machine_with(Fix.LIVE_ENTRY, *[Fix.WHOLE_ENTRY] * whole)
    events, findings = run(execute, machine, reassign)
    expected: list[Command] = [OF_NIC, WAIT, InvalidatePages(1, Dfn(0), None, directory=True), WAIT]
    assert submitted(machine) == expected
    assert len(steps(events, "device_entry.write")) == stores
    ever = [entry for entry, *_ in unit_of(machine).device_table.lifetimes(machine.devices[NIC].source_id)]
    first_domain, second = machine.domains[1], machine.domains[2]
    torn = DeviceTableEntry(mode=2, root=second.pgd, domain_id=first_domain.number)
    assert ever == [translates_by(second), *[torn] * (not whole), translates_by(first_domain)]
    assert findings == []


def test_the_driver_finds_the_unit_of_each_device() -> None:
    machine = amd_machine()
    machine.scope(1, FAR)
    machine.domain(1, devices=(NIC, FAR))
    driver = driver_of(machine)
    assert [driver.iommu_of(machine.devices[bdf]).index for bdf in (NIC, FAR)] == [0, 1]
