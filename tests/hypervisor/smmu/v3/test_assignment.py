"""Devices are attached to domains and taken away: what is stored in which order, what is flushed, who has a VMID."""

from collections.abc import Awaitable, Callable

import pytest

from emu.checks.details import Act
from emu.checks.findings import Finding, FindingKind, NotIsolated, StaleAssignment
from emu.cpus import Cpu
from emu.engine import Event
from emu.hypervisor.ops import ENODEV, ENOSPC, OK, READ_WRITE
from emu.hypervisor.smmu.v3.state import VMIDS
from emu.iommus.smmu.v3.formats import (
    ABORT,
    InvalidateStream,
    Prefetch,
    StreamTableEntry,
    Sync,
    decode_entry,
    translating,
)
from emu.machine.machine import Machine
from emu.units import Dfn, parse_source_id
from tests.events import steps
from tests.smmuv3 import ahead_of_units, driver_of, smmuv3_machine, submitted, unit_of, words_of

Execute = Callable[..., list[Finding]]
Body = Callable[[Machine, Cpu], Awaitable[object]]

G = Dfn(0x10)
NIC, DISK, FAR = "00:1f.0", "00:02.0", "01:00.0"
FLUSH_OF_NIC = [InvalidateStream(parse_source_id(NIC)), Sync()]


def machine_with() -> Machine:
    """Return a machine on which domain 1 has a NIC, which has used its page G; domain 2 has a page and no device."""
    machine = smmuv3_machine()
    for number, devices in ((1, (NIC,)), (2, ())):
        machine.premap(
            machine.domain(number, devices=devices), G, machine.allocate(domain=machine.domains[number]), cached=True
        )
    machine.plug(DISK)
    return machine


def run(execute: Execute, machine: Machine, body: Body) -> tuple[list[Event], list[Finding]]:
    """Have CPU 0 do something; return the events and what shows."""

    @machine.cpu(0)
    async def only(cpu: Cpu) -> None:
        await body(machine, cpu)

    findings = execute(machine)
    return list(machine.trace.events()), findings


def entry_of(machine: Machine, bdf: str) -> StreamTableEntry:
    """Return the entry of a device as it stands in memory."""
    first, _, third, fourth = (machine.memory.peek(address) for address in words_of(machine, bdf))
    return decode_entry(first, third, fourth)


def stores(events: list[Event]) -> list[object]:
    """Return the order in which words of an entry were stored, and flushes of it waited for."""
    named = {"device_entry.write", "flush.done"}
    return [event.fields.get("dword", "flushed") for event in events if event.name in named]


async def detach(m: Machine, cpu: Cpu) -> None:
    assert await m.assignment.detach(cpu, m.domains[1], m.devices[NIC]) == OK


async def attach(m: Machine, cpu: Cpu) -> None:
    assert await m.assignment.attach(cpu, m.domains[2], m.devices[DISK]) == OK


async def reassign(m: Machine, cpu: Cpu) -> None:
    assert await m.assignment.reassign(cpu, m.domains[1], m.domains[2], m.devices[NIC]) == OK


def test_before_the_first_step_a_device_is_aborted_or_translated_under_the_first_free_vmid() -> None:
    machine = machine_with()
    assert entry_of(machine, DISK) == ABORT
    assert entry_of(machine, NIC) == translating(1, 32, machine.domains[1].pgd)
    assert driver_of(machine).iommus[0].vmid_map.value == 0b11, "VMID 0 is no domain's"


def test_an_attach_stores_the_word_that_lets_requests_through_last_and_flushes_before_and_after_it(
    execute: Execute,
) -> None:
    machine = machine_with()
    events, findings = run(execute, machine, attach)
    assert findings == []
    assert stores(events) == [4, 6, 2, "flushed", 0, "flushed"]
    of_disk = parse_source_id(DISK)
    flush = [InvalidateStream(of_disk), Sync()]
    assert submitted(machine) == [*flush, *flush, Prefetch(of_disk)]
    assert entry_of(machine, DISK) == translating(2, 32, machine.domains[2].pgd)


def test_a_detach_clears_vmid_and_control_before_its_one_flush_and_invalidates_no_translation(execute: Execute) -> None:
    machine = machine_with()
    root = machine.domains[1].pgd
    events, findings = run(execute, machine, detach)
    assert findings == []
    assert stores(events) == [0, 2, 4, "flushed"]
    assert submitted(machine) == FLUSH_OF_NIC
    words = [machine.memory.peek(address) for address in words_of(machine, NIC)]
    assert words == [1, 1 << 44, 0, root]
    assert len(machine.unit.iotlb) == 1


def test_a_domain_keeps_its_vmid_as_long_as_it_has_a_device_behind_the_unit(execute: Execute) -> None:
    machine = smmuv3_machine()
    machine.domain(1, devices=(NIC, DISK))

    async def body(m: Machine, cpu: Cpu) -> None:
        for bdf in (NIC, DISK):
            await m.assignment.detach(cpu, m.domains[1], m.devices[bdf])
            cpu.note("taken", value=driver_of(m).iommus[0].vmid_map.value)

    events, findings = run(execute, machine, body)
    assert findings == []
    assert [event.fields["value"] for event in events if event.name == "taken"] == [0b11, 0b01]
    assert driver_of(machine).domains[1].contexts.value == ()


def test_each_unit_has_vmids_of_its_own(execute: Execute) -> None:
    machine = smmuv3_machine()
    machine.scope(1, FAR)
    machine.domain(1, devices=(NIC,))
    machine.domain(2, devices=(FAR,))
    assert [entry_of(machine, bdf).vmid for bdf in (NIC, FAR)] == [1, 1]
    assert [len(unit_of(machine, number).device_table.words(0x100)) for number in (0, 1)] == [0, 4]


def test_a_vmid_that_another_domain_takes_finds_what_was_cached_for_the_first_one(execute: Execute) -> None:
    machine = machine_with()
    _, findings = run(execute, machine, reassign)
    (found,) = findings
    assert isinstance(found, NotIsolated)
    assert (found.domain, found.owner, found.dfn, found.act) == (2, 1, G, Act.ATTACH)


@pytest.mark.parametrize("is_mapped", [False, True])
def test_so_it_does_only_if_something_is_cached_that_the_other_domain_may_not_use(
    execute: Execute, is_mapped: bool
) -> None:
    machine = machine_with()
    page = machine.pages.page(next(iter(machine.domains[1].ever_mapped)))
    if is_mapped:
        page.let_map(machine.domains[2], READ_WRITE)
    _, findings = run(execute, machine, reassign)
    assert bool(findings) is not is_mapped


def test_a_domain_that_gets_its_vmid_back_finds_pages_that_were_removed_meanwhile(execute: Execute) -> None:
    machine = machine_with()
    frame = next(iter(machine.domains[1].ever_mapped))

    async def body(m: Machine, cpu: Cpu) -> None:
        await detach(m, cpu)
        assert await m.hypervisor.guest_physmap_remove_page(cpu, m.domains[1], G, frame) == OK
        await m.assignment.attach(cpu, m.domains[1], m.devices[NIC])

    events, findings = run(execute, machine, body)
    (found,) = findings
    assert isinstance(found, StaleAssignment)
    assert found.revived is not None
    assert steps(events, "queue.post", descriptor="pages") == [], "a domain without a context is not flushed"


def test_a_device_is_detached_only_from_its_domain(execute: Execute) -> None:
    machine = machine_with()

    async def body(m: Machine, cpu: Cpu) -> None:
        assert await m.assignment.detach(cpu, m.domains[2], m.devices[NIC]) == ENODEV

    events, findings = run(execute, machine, body)
    assert (stores(events), findings) == ([], [])


def test_a_device_that_is_attached_already_is_taken_off_its_tables_first(execute: Execute) -> None:
    machine = machine_with()

    async def body(m: Machine, cpu: Cpu) -> None:
        assert await m.assignment.attach(cpu, m.domains[2], m.devices[NIC]) == OK

    events, findings = run(execute, machine, body)
    assert findings == []
    assert stores(events) == [0, 2, 4, "flushed", 4, 6, 2, "flushed", 0, "flushed"]
    assert entry_of(machine, NIC).vmid == 2, "the first domain keeps its VMID"


def test_an_attach_fails_where_no_vmid_is_free(execute: Execute) -> None:
    machine = machine_with()
    driver_of(machine).iommus[0].vmid_map.value = (1 << VMIDS) - 1

    async def body(m: Machine, cpu: Cpu) -> None:
        assert await m.assignment.attach(cpu, m.domains[2], m.devices[DISK]) == ENOSPC

    events, findings = run(execute, machine, body)
    assert (stores(events), findings) == ([], [])
    assert entry_of(machine, DISK) == ABORT


def test_a_flush_of_an_entry_that_was_given_up_passes_for_completed() -> None:
    machine = machine_with()
    machine.allow_faults(waits=1)

    @machine.cpu(0)
    async def only(cpu: Cpu) -> None:
        await detach(machine, cpu)

    (found,) = ahead_of_units(machine, chosen=1)
    assert found.kind is FindingKind.STALE
