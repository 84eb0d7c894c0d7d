"""Devices are attached to domains and taken away: which registers are stored in which order, and what is flushed."""

from collections.abc import Sequence

import pytest

from emu.checks.findings import StaleAssignment
from emu.cpus import Cpu
from emu.engine import Event
from emu.errors import LimitReached
from emu.hypervisor.ops import EINVAL, ENODEV, OK
from emu.iommus.paths import Tables
from emu.iommus.smmu.formats import encode_smr
from emu.iommus.smmu.queue import SYNC
from emu.iommus.smmu.registers import BANKS, STREAMS
from emu.machine.machine import Machine
from emu.units import Dfn
from tests.events import steps
from tests.hypervisor.smmu.p2m import DISK, FAR, NIC, Body, banks_of, driver_of, names, p2m_machine, run, unit_of

G = Dfn(0x10)
ATTACH_FIRST = ["cbar", "cba2r", "ttbr0_low", "ttbr0_high", "ttbcr", "sctlr", "smr", "s2cr"]
DETACH, DETACH_LAST = ["s2cr", "smr"], ["s2cr", "smr", "sctlr"]


def machine_with(*devices: str) -> Machine:
    """Return a machine on which domain 1 has a NIC, and perhaps more, which have used a page; domain 2 has none."""
    machine, domain = p2m_machine()
    for bdf in devices:
        machine.driver.assign(domain, machine.plug(bdf))
        machine.devices[bdf].assigned_to = 1
    machine.premap(domain, G, machine.allocate(domain=domain), cached=True)
    machine.domain(2)
    return machine


def attaches(bdf: str, number: int = 2, *, result: int = OK) -> Body:
    """Return what a CPU does that attaches a device to a domain."""

    async def body(m: Machine, cpu: Cpu) -> None:
        assert await m.assignment.attach(cpu, m.domains[number], m.devices[bdf]) == result

    return body


def detaches(bdf: str, number: int = 1, *, result: int = OK) -> Body:
    """Return what a CPU does that detaches a device from a domain."""

    async def body(m: Machine, cpu: Cpu) -> None:
        assert await m.assignment.detach(cpu, m.domains[number], m.devices[bdf]) == result

    return body


async def reassigns(m: Machine, cpu: Cpu) -> None:
    assert await m.assignment.reassign(cpu, m.domains[1], m.domains[2], m.devices[NIC]) == OK


def stored(events: Sequence[Event]) -> list[str]:
    """Return the names of the registers that were stored, in order."""
    return [event.fields["register"] for event in events if event.name == "stream.write"]


def tables_now(machine: Machine, bdf: str) -> Tables | None:
    """Return what the registers say of a device's stream."""
    registers, source_id = unit_of(machine).registers, machine.devices[bdf].source_id
    return registers.snapshot(source_id, registers.value)[0]


# Attaching


def test_the_first_device_of_a_domain_takes_a_bank_whose_sctlr_is_stored_last_before_the_stream_is_matched() -> None:
    machine = machine_with()
    machine.plug(DISK)
    events, findings = run(machine, attaches(DISK))
    assert (stored(events), findings) == (ATTACH_FIRST, [])
    assert tables_now(machine, DISK) == Tables(2, machine.domains[2].pgd, 3)
    assert machine.devices[DISK].assigned_to == 2


def test_a_second_device_behind_the_unit_shares_the_bank() -> None:
    machine = machine_with()
    machine.plug(DISK)
    events, _ = run(machine, attaches(DISK, 1))
    assert stored(events) == ["smr", "s2cr"]
    assert tables_now(machine, DISK) == tables_now(machine, NIC) == Tables(1, machine.domains[1].pgd, 3)


def test_behind_another_unit_a_domain_takes_another_bank() -> None:
    machine, _ = p2m_machine()
    machine.scope(1, FAR)
    machine.plug(FAR)
    events, _ = run(machine, attaches(FAR, 1))
    assert stored(events) == ATTACH_FIRST
    assert banks_of(machine, 1) == [0, 0]


def test_attach_invalidates_nothing() -> None:
    machine = machine_with()
    machine.plug(DISK)
    run(machine, attaches(DISK))
    assert machine.counters.posted == 0


def test_until_its_s2cr_is_stored_the_streams_requests_fault() -> None:
    machine = machine_with()
    source_id = machine.plug(DISK).source_id
    run(machine, attaches(DISK))
    ever = [tables for tables, *_ in unit_of(machine).registers.lifetimes(source_id)]
    assert ever == [Tables(2, machine.domains[2].pgd, 3), None]


def test_the_first_free_bank_and_the_first_free_stream_match_register_are_taken() -> None:
    machine = machine_with(DISK)
    machine.plug("00:03.0")

    async def body(m: Machine, cpu: Cpu) -> None:
        await detaches(NIC)(m, cpu)
        await attaches("00:03.0")(m, cpu)

    run(machine, body)
    driver, registers = driver_of(machine), unit_of(machine).registers
    streams = {bdf: one.value.stream for bdf, one in driver.attached.items() if one.value is not None}
    assert streams == {DISK: 1, "00:03.0": 0}
    assert registers.value(registers.smr(0)) == encode_smr(machine.devices["00:03.0"].source_id)
    assert banks_of(machine, 2) == [1]


def test_attach_of_a_device_that_is_attached_is_refused_and_stores_nothing() -> None:
    machine = machine_with()
    events, findings = run(machine, attaches(NIC, result=EINVAL))
    assert (stored(events), findings) == ([], [])
    assert machine.devices[NIC].assigned_to == 1


def test_without_a_free_bank_attach_is_refused() -> None:
    machine = machine_with()
    driver_of(machine).iommus[0].context_map.value = (1 << BANKS) - 1
    machine.plug(DISK)
    events, _ = run(machine, attaches(DISK, result=EINVAL))
    assert stored(events) == []
    assert banks_of(machine, 2) == []


@pytest.mark.parametrize(("number", "stores"), [(1, []), (2, [*ATTACH_FIRST[:-2], "sctlr"])])
def test_without_a_free_stream_match_register_attach_is_refused_and_a_bank_that_was_taken_for_it_is_freed(
    number: int, stores: list[str]
) -> None:
    machine = machine_with()
    iommu = driver_of(machine).iommus[0]
    iommu.smr_map.value = (1 << STREAMS) - 1
    machine.plug(DISK)
    events, findings = run(machine, attaches(DISK, number, result=EINVAL))
    assert (stored(events), findings) == (stores, [])
    assert iommu.context_map.value == 1
    assert machine.devices[DISK].assigned_to is None


@pytest.mark.parametrize(("count", "what"), [(BANKS, "context banks"), (STREAMS, "stream match registers")])
def test_before_the_first_step_the_machine_says_which_registers_are_used_up(count: int, what: str) -> None:
    machine, domain = p2m_machine()
    owners = [machine.domain(number) for number in range(2, BANKS + 2)] if count == BANKS else [domain] * STREAMS
    *fitting, (owner, last) = ((owner, machine.plug(f"{number:02x}:00.0")) for number, owner in enumerate(owners, 1))
    for other, device in fitting:
        machine.driver.assign(other, device)
    with pytest.raises(LimitReached, match=f"all {count} {what} of smmu0 are in use"):
        machine.driver.assign(owner, last)


# Detaching


def test_detach_lets_the_stream_fault_before_its_match_register_is_cleared() -> None:
    machine = machine_with(DISK)
    events, _ = run(machine, detaches(NIC))
    assert stored(events) == DETACH
    assert tables_now(machine, NIC) is None
    assert machine.devices[NIC].assigned_to is None


def test_detach_of_one_of_two_devices_flushes_nothing_so_that_requests_in_flight_may_go_on() -> None:
    machine = machine_with(DISK)
    events, findings = run(machine, detaches(NIC))
    assert machine.counters.posted == 0
    assert [one.left for one in findings if isinstance(one, StaleAssignment)] == [1]
    assert len(unit_of(machine).iotlb) == 1
    assert banks_of(machine, 1) == [0]
    assert steps(events, "queue.active") == []


def test_detach_of_the_last_disables_the_bank_invalidates_its_vmid_waits_and_frees_it() -> None:
    machine = machine_with()
    events, findings = run(machine, detaches(NIC))
    assert (stored(events), findings) == (DETACH_LAST, [])
    assert unit_of(machine).queue.asked == [1, SYNC]
    assert len(unit_of(machine).iotlb) == 0
    iommu = driver_of(machine).iommus[0]
    assert (iommu.context_map.value, iommu.smr_map.value) == (0, 0)
    assert banks_of(machine, 1) == []
    (freed,) = steps(events, "bitmap.clear", bitmap="smmu0.context_map")
    assert steps(events, "queue.active")[-1] < freed


def test_detach_of_a_device_that_the_domain_does_not_have_does_nothing_and_says_so() -> None:
    machine = machine_with()
    events, findings = run(machine, detaches(NIC, 2, result=ENODEV))
    assert (stored(events), machine.counters.posted, findings) == ([], 0, [])
    assert machine.devices[NIC].assigned_to == 1


@pytest.mark.parametrize(("body", "number"), [(attaches(DISK), 2), (detaches(NIC), 1)])
def test_the_lock_of_the_domains_contexts_is_held_from_the_first_store_until_the_last_step(
    body: Body, number: int
) -> None:
    machine = machine_with()
    machine.plug(DISK)
    events, _ = run(machine, body)
    (taken,), (released,) = (
        steps(events, f"lock.{verb}", lock=f"d{number}.xen_domain_lock") for verb in ("acquire", "release")
    )
    done = steps(events, "stream.write", "queue.post", "queue.active")
    assert taken < done[0] < done[-1] < released < steps(events, "device.hand_over")[0]


# Moving


def test_reassign_detaches_and_then_attaches() -> None:
    machine = machine_with()
    events, findings = run(machine, reassigns)
    assert stored(events) == [*DETACH_LAST, *ATTACH_FIRST]
    assert names(events, "queue.post") == ["queue.post"] * 2
    assert [event.fields["domain"] for event in events if event.name == "device.hand_over"] == [None, 2]
    assert tables_now(machine, NIC) == Tables(1, machine.domains[2].pgd, 3)
    assert findings == []


def test_reassign_from_a_domain_that_does_not_have_the_device_does_nothing() -> None:
    machine = machine_with()

    async def body(m: Machine, cpu: Cpu) -> None:
        assert await m.assignment.reassign(cpu, m.domains[2], m.domains[1], m.devices[NIC]) == ENODEV

    events, _ = run(machine, body)
    assert stored(events) == []


def test_of_two_devices_that_leave_the_second_flushes() -> None:
    machine = machine_with(DISK)

    async def body(m: Machine, cpu: Cpu) -> None:
        await detaches(NIC)(m, cpu)
        await detaches(DISK)(m, cpu)

    run(machine, body)
    assert unit_of(machine).queue.asked == [1, SYNC]
    assert driver_of(machine).iommus[0].context_map.value == 0
