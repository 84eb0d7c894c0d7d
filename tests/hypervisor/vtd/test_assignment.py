"""Devices are attached to domains and taken away: context entries, what is flushed in which order, ids and bitmaps."""

import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from math import inf

import attrs
import pytest

from emu.checks.details import Evidence
from emu.checks.findings import Finding, FindingKind, Released
from emu.cpus import Cpu
from emu.devices.device import Device
from emu.engine import Choose, Event, Execution, Exploration, Strategy
from emu.engine.hosts import direct
from emu.engine.strategies.optimal import Optimal
from emu.engine.strategies.round_robin import RoundRobinStrategy
from emu.errors import ModelError
from emu.hypervisor.domain import DOMID_IO, Domain
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import EINVAL, ENODEV, ETIMEDOUT, OK
from emu.hypervisor.vtd.assignment import context_entry, write_context
from emu.hypervisor.vtd.domain_ids import NDOMS
from emu.hypervisor.vtd.flush import iommu_flush_context_device, iommu_flush_iotlb_dsi
from emu.iommus.vtd.formats import ContextEntry, encode_context_entry
from emu.iommus.vtd.settings import VtdSettings
from emu.iommus.vtd.unit import VtdUnit
from emu.machine.description import Description
from emu.machine.machine import Machine
from emu.memory import LINE_BYTES
from emu.running.exploration import ScenarioExploration
from emu.scenarios.expectation import CLEAN, RELEASED
from emu.scenarios.scenario import Build, scenario
from emu.units import Dfn, Maddr, Mfn
from tests.events import steps
from tests.vtd import bitmap_of, driver_of, unit_of

Execute = Callable[..., list[Finding]]
Body = Callable[[Machine, Cpu], Awaitable[object]]
Detach = Callable[[Machine, Cpu, Domain, Device], Awaitable[object]]

G = Dfn(0x1000)
NIC, DISK, FAR = "00:1f.0", "00:02.0", "01:00.0"
CONTEXT_THEN_IOTLB = ["context", "wait", "iotlb", "wait"]


def machine_with(vtd: VtdSettings | None = None, *, levels: int = 4) -> Machine:
    """Return a machine on which domain 1 has a NIC, which has used its page G; domain 2 has a page G and no device."""
    machine = Machine(Description(settings=attrs.evolve(vtd or VtdSettings(), levels=levels), is_checking=True))
    first, second = machine.domain(1, devices=(NIC,)), machine.domain(2)
    machine.premap(first, G, machine.allocate(domain=first), cached=True)
    machine.premap(second, G, machine.allocate(domain=second))
    machine.memory.put(frame_of(machine, 1) << 12, 0x111)
    machine.memory.put(frame_of(machine, 2) << 12, 0x222)
    return machine


def run(execute: Execute, machine: Machine, body: Body) -> list[Event]:
    """Have CPU 0 do something that breaks nothing; return the events."""

    @machine.cpu(0)
    async def only(cpu: Cpu) -> None:
        async with cpu.hypercall("domctl"):
            await body(machine, cpu)

    assert execute(machine) == []
    return list(machine.trace.events())


async def attach(machine: Machine, cpu: Cpu, number: int, bdf: str) -> int:
    return await machine.assignment.attach(cpu, machine.domains[number], machine.devices[bdf])


async def detach(machine: Machine, cpu: Cpu, number: int, bdf: str) -> int:
    return await machine.assignment.detach(cpu, machine.domains[number], machine.devices[bdf])


async def reassign(machine: Machine, cpu: Cpu, source: int, target: int, bdf: str) -> int:
    domains = machine.domains
    return await machine.assignment.reassign(cpu, domains[source], domains[target], machine.devices[bdf])


def frame_of(machine: Machine, number: int) -> Mfn:
    return machine.domains[number].p2m[G]


def context_of(machine: Machine, bdf: str) -> int:
    """Return the 128 bits of a device's context entry."""
    address = context_entry(driver_of(machine), machine.devices[bdf])
    return machine.memory.peek(address) | machine.memory.peek(address + 8) << 64


def ids_of(machine: Machine, number: int) -> list[int | None]:
    """Return the id that a domain has on each unit."""
    return [iommu.domids.peek(number) for iommu in driver_of(machine).iommus]


def fetched(events: Sequence[Event], unit: str = "vtd0") -> list[str]:
    """Return what a unit was asked for, in order."""
    queued = [event for event in events if event.name == "queue.fetch" and event.fields["iommu"] == unit]
    return [str(event.fields["descriptor"]) for event in queued]


class Faulty(RoundRobinStrategy):
    """Have every fault happen that may."""

    def choose(self, choice: Choose) -> int:
        return choice.count - 1


# What is written


@pytest.mark.parametrize(("levels", "width"), [(3, 1), (4, 2)])
def test_attach_writes_the_id_the_width_and_the_tables_and_marks_them_present(
    execute: Execute, levels: int, width: int
) -> None:
    machine = machine_with(levels=levels)
    machine.plug(DISK)
    run(execute, machine, lambda m, cpu: attach(m, cpu, 2, DISK))
    low, high = context_of(machine, DISK) & (1 << 64) - 1, context_of(machine, DISK) >> 64
    assert low == machine.domains[2].pgd | 1
    assert high == width | 2 << 8
    assert context_of(machine, DISK) == encode_context_entry(ContextEntry(2, Maddr(low & ~1), levels))


def test_attach_makes_the_entry_present_last(execute: Execute) -> None:
    machine = machine_with()
    machine.plug(DISK)
    events = run(execute, machine, lambda m, cpu: attach(m, cpu, 2, DISK))
    address = context_entry(driver_of(machine), machine.devices[DISK])
    assert [event.fields["address"] for event in events if event.name == "context.write"] == [address + 8, address]


def test_detach_makes_the_entry_not_present_first_and_leaves_nothing_of_it(execute: Execute) -> None:
    machine = machine_with()
    events = run(execute, machine, lambda m, cpu: detach(m, cpu, 1, NIC))
    address = context_entry(driver_of(machine), machine.devices[NIC])
    assert [event.fields["address"] for event in events if event.name == "context.write"] == [address, address + 8]
    assert context_of(machine, NIC) == 0


def test_a_device_never_had_another_entry_than_those_of_its_domains(execute: Execute) -> None:
    machine = machine_with()
    run(execute, machine, lambda m, cpu: reassign(m, cpu, 1, 2, NIC))
    first, second = machine.domains[1], machine.domains[2]
    entries = [entry for entry, *_ in unit_of(machine).contexts.lifetimes(machine.devices[NIC].source_id)]
    assert entries == [ContextEntry(1, second.pgd, 4), ContextEntry(1, first.pgd, 4)]


def test_the_entries_of_other_devices_of_the_bus_stay_as_they_are(execute: Execute) -> None:
    machine = machine_with()
    machine.domain(3, devices=("00:1e.7", "00:1f.1"))
    before = [context_of(machine, bdf) for bdf in ("00:1e.7", "00:1f.1")]
    run(execute, machine, lambda m, cpu: reassign(m, cpu, 1, 2, NIC))
    assert [context_of(machine, bdf) for bdf in ("00:1e.7", "00:1f.1")] == before


@pytest.mark.parametrize("call", [attach, detach])
def test_the_context_line_is_written_back_before_the_unit_is_asked_for_anything(
    execute: Execute, call: Callable[[Machine, Cpu, int, str], Awaitable[int]]
) -> None:
    machine = machine_with(VtdSettings(coherent=False, caching_mode=True))
    machine.plug(DISK)
    number, bdf = (2, DISK) if call is attach else (1, NIC)
    events = run(execute, machine, lambda m, cpu: call(m, cpu, number, bdf))
    (written_back,) = [event for event in events if event.name == "line.write_back"]
    assert written_back.fields["address"] == context_entry(driver_of(machine), machine.devices[bdf]) & -LINE_BYTES
    assert max(steps(events, "context.write")) < written_back.step < min(steps(events, "queue.write"))


@pytest.mark.parametrize("coherent", [True, False])
def test_the_unit_sees_the_new_entry_when_a_call_has_returned(execute: Execute, coherent: bool) -> None:
    machine = machine_with(VtdSettings(coherent=coherent))
    events = run(execute, machine, lambda m, cpu: reassign(m, cpu, 1, 2, NIC))
    address = context_entry(driver_of(machine), machine.devices[NIC])
    assert machine.memory.seen(address) == machine.domains[2].pgd | 1
    assert len(steps(events, "line.write_back")) == (0 if coherent else 2)


@pytest.mark.parametrize("coherent", [True, False])
def test_attach_drains_the_write_buffer_where_it_asks_the_unit_for_nothing(execute: Execute, coherent: bool) -> None:
    machine = machine_with(VtdSettings(coherent=coherent, write_buffer=True))
    machine.plug(DISK)
    events = run(execute, machine, lambda m, cpu: attach(m, cpu, 2, DISK))
    assert len(steps(events, "buffer.drain")) == 1
    assert machine.memory.seen(context_entry(driver_of(machine), machine.devices[DISK])) == machine.domains[2].pgd | 1


# What is flushed


def test_detach_flushes_the_context_cache_and_then_the_iotlb_and_waits_for_each(execute: Execute) -> None:
    machine = machine_with()
    events = run(execute, machine, lambda m, cpu: detach(m, cpu, 1, NIC))
    assert fetched(events) == CONTEXT_THEN_IOTLB
    context, _, iotlb, _ = [event.fields for event in events if event.name == "queue.fetch"]
    assert (context["granularity"], context["tag"]) == ("device", 1)
    assert context["source_id"] == machine.devices[NIC].source_id
    assert (iotlb["granularity"], iotlb["tag"]) == ("domain", 1)
    (dropped,), (begun, *_) = steps(events, "context.invalidate"), steps(events, "invalidate.begin", tag=1)
    first_done, second_done = steps(events, "flush.done")
    assert max(steps(events, "context.write")) < dropped < first_done < begun
    assert begun < min(steps(events, "invalidate.complete")) < second_done < max(steps(events, "device.find"))


def test_detach_holds_the_lock_of_the_unit_until_it_has_flushed(execute: Execute) -> None:
    events = run(execute, machine_with(), lambda m, cpu: detach(m, cpu, 1, NIC))
    (taken,), (released,) = (steps(events, f"lock.{verb}", lock="vtd0.lock") for verb in ("acquire", "release"))
    assert taken < min(steps(events, "context.read"))
    assert max(steps(events, "flush.done")) < released < max(steps(events, "device.find"))


def test_attach_flushes_nothing_where_nothing_that_is_not_present_is_cached(execute: Execute) -> None:
    machine = machine_with()
    machine.plug(DISK)
    assert fetched(run(execute, machine, lambda m, cpu: attach(m, cpu, 2, DISK))) == []


def test_attach_flushes_what_caching_mode_tags_with_id_0_the_context_cache_first(execute: Execute) -> None:
    machine = machine_with(VtdSettings(caching_mode=True))
    machine.plug(DISK)
    events = run(execute, machine, lambda m, cpu: attach(m, cpu, 2, DISK))
    assert fetched(events) == CONTEXT_THEN_IOTLB
    asked = [event.fields for event in events if event.name == "queue.fetch"]
    assert [asked[0]["tag"], asked[2]["tag"]] == [0, 0]


@pytest.mark.parametrize("bodies", ["attach", "detach"])
def test_the_call_returns_when_its_flushes_have_completed(execute: Execute, bodies: str) -> None:
    machine = machine_with(VtdSettings(caching_mode=True))
    machine.plug(DISK)
    call, number, bdf = (attach, 2, DISK) if bodies == "attach" else (detach, 1, NIC)
    events = run(execute, machine, lambda m, cpu: call(m, cpu, number, bdf))
    assert len(steps(events, "flush.done")) == 2
    assert max(steps(events, "invalidate.complete", "context.invalidate")) < max(steps(events, "flush.done"))


# Bits, ids and results


def test_attach_sets_the_bit_of_the_unit_when_it_has_flushed(execute: Execute) -> None:
    machine = machine_with(VtdSettings(caching_mode=True))
    machine.plug(DISK)
    assert not bitmap_of(machine, 2).has(0)
    events = run(execute, machine, lambda m, cpu: attach(m, cpu, 2, DISK))
    (written,) = steps(events, "bitmap.set", bitmap="d2.iommu_bitmap", bit=0)
    assert max(steps(events, "flush.done")) < written
    assert bitmap_of(machine, 2).value == 1


def test_attach_takes_an_id_under_the_lock_of_the_unit(execute: Execute) -> None:
    machine = machine_with()
    machine.plug(DISK)
    events = run(execute, machine, lambda m, cpu: attach(m, cpu, 2, DISK))
    (taken,), (released,) = (steps(events, f"lock.{verb}", lock="vtd0.lock") for verb in ("acquire", "release"))
    (marked,) = steps(events, "bitmap.set", bitmap="vtd0.domid_bitmap", bit=2)
    assert taken < marked < released
    assert ids_of(machine, 2) == [2]


def test_a_second_device_of_a_domain_gets_the_same_id(execute: Execute) -> None:
    machine = machine_with()
    machine.plug(DISK)
    events = run(execute, machine, lambda m, cpu: attach(m, cpu, 1, DISK))
    assert context_of(machine, DISK) == context_of(machine, NIC)
    assert steps(events, "bitmap.set", bitmap="vtd0.domid_bitmap") == []


@pytest.mark.parametrize("is_repaired", [False, True])
def test_detach_of_the_last_device_clears_the_bit_of_the_unit_and_then_frees_the_id(
    execute: Execute, is_repaired: bool
) -> None:
    machine = machine_with()
    if is_repaired:
        machine.driver.fixes.add(Fix.XSA_399)
    events = run(execute, machine, lambda m, cpu: detach(m, cpu, 1, NIC))
    assert bitmap_of(machine, 1).value == 0
    assert ids_of(machine, 1) == [None]
    (bit,) = steps(events, "bitmap.clear", bitmap="d1.iommu_bitmap", bit=0)
    (id_bit,) = steps(events, "bitmap.clear", bitmap="vtd0.domid_bitmap", bit=1)
    (owner,) = steps(events, "variable.write")
    assert bit < min(id_bit, owner)
    assert (owner < id_bit) is is_repaired


def test_the_id_goes_with_the_last_device_of_the_domain_behind_the_unit_and_not_before(execute: Execute) -> None:
    machine = Machine(Description())
    machine.domain(1, devices=(NIC, DISK))
    machine.domain(2)
    seen: list[tuple[list[int | None], int]] = []

    async def body(m: Machine, cpu: Cpu) -> None:
        for bdf in (NIC, DISK):
            assert await reassign(m, cpu, 1, 2, bdf) == OK
            seen.append((ids_of(m, 1), bitmap_of(m, 1).value))

    run(execute, machine, body)
    assert seen == [([1], 1), ([None], 0)]


def test_a_device_behind_another_unit_does_not_keep_the_id(execute: Execute) -> None:
    machine = Machine(Description())
    machine.scope(1, FAR)
    machine.domain(1, devices=(NIC, FAR))
    run(execute, machine, lambda m, cpu: detach(m, cpu, 1, NIC))
    assert ids_of(machine, 1) == [None, 1]
    assert bitmap_of(machine, 1).value == 0b10


def test_a_device_of_another_domain_does_not_keep_the_id(execute: Execute) -> None:
    machine = machine_with()
    machine.domain(3, devices=(DISK,))
    run(execute, machine, lambda m, cpu: detach(m, cpu, 1, NIC))
    assert (ids_of(machine, 1), ids_of(machine, 3)) == ([None], [2])


def test_the_id_goes_with_the_last_device_though_none_was_given_to_another_domain(execute: Execute) -> None:
    machine = Machine(Description())
    machine.domain(1, devices=(NIC, DISK))

    async def body(m: Machine, cpu: Cpu) -> None:
        for bdf in (NIC, DISK):
            assert await detach(m, cpu, 1, bdf) == OK

    run(execute, machine, body)
    assert (ids_of(machine, 1), bitmap_of(machine, 1).value) == ([None], 0)


def test_a_device_that_was_plugged_and_attached_keeps_the_id(execute: Execute) -> None:
    machine = machine_with()
    machine.plug(DISK)
    machine.plug("00:03.0")

    async def body(m: Machine, cpu: Cpu) -> None:
        for bdf in (DISK, "00:03.0"):
            assert await attach(m, cpu, 2, bdf) == OK
        assert await detach(m, cpu, 2, DISK) == OK

    run(execute, machine, body)
    assert (ids_of(machine, 2), bitmap_of(machine, 2).value) == ([2], 1)


def test_attach_of_a_device_that_is_attached_changes_nothing_and_is_refused_to_another_domain(execute: Execute) -> None:
    machine = machine_with()
    before = context_of(machine, NIC)
    results: list[int] = []

    async def body(m: Machine, cpu: Cpu) -> None:
        results.extend([await attach(m, cpu, 2, NIC), await attach(m, cpu, 1, NIC)])

    events = run(execute, machine, body)
    assert results == [EINVAL, OK]
    assert context_of(machine, NIC) == before
    assert steps(events, "context.write", "queue.post", "bitmap.set") == []
    assert (ids_of(machine, 2), bitmap_of(machine, 2).value) == ([None], 0)


def test_detach_of_a_device_that_the_domain_does_not_have_is_refused_and_does_nothing(execute: Execute) -> None:
    machine = machine_with()
    machine.plug(DISK)
    results: list[int] = []

    async def body(m: Machine, cpu: Cpu) -> None:
        results.append(await detach(m, cpu, 1, DISK))

    events = run(execute, machine, body)
    assert results == [ENODEV]
    assert steps(events, "context.write", "queue.post", "bitmap.clear") == []


def test_detach_from_another_domain_is_refused_and_leaves_the_device_where_it_is(execute: Execute) -> None:
    machine = machine_with()
    before = context_of(machine, NIC)
    results: list[int] = []

    async def body(m: Machine, cpu: Cpu) -> None:
        results.append(await detach(m, cpu, 2, NIC))

    assert fetched(run(execute, machine, body)) == []
    assert results == [ENODEV]
    assert context_of(machine, NIC) == before


@pytest.mark.parametrize("call", ["attach", "detach"])
def test_an_argument_that_is_no_device_is_refused_with_the_place_where_devices_are(execute: Execute, call: str) -> None:
    async def body(m: Machine, cpu: Cpu) -> None:
        await getattr(m.assignment, call)(cpu, m.domains[1], NIC)

    with pytest.raises(ModelError, match=re.escape(f"write m.devices['{NIC}']")):
        run(execute, machine_with(), body)


def test_a_unit_has_room_for_as_many_domains_as_it_has_ids(execute: Execute) -> None:
    machine = Machine(Description())
    for number in range(1, NDOMS):
        machine.domain(number, devices=(f"{number:02x}:00.0",))
    machine.domain(NDOMS)

    async def body(m: Machine, cpu: Cpu) -> None:
        assert await reassign(m, cpu, 5, NDOMS, "05:00.0") == OK

    run(execute, machine, body)
    assert ids_of(machine, NDOMS) == [5]


# Who has the device


def test_reassign_takes_the_device_from_its_driver_before_it_gives_it_to_another(execute: Execute) -> None:
    machine = machine_with(VtdSettings(caching_mode=True))
    events = run(execute, machine, lambda m, cpu: reassign(m, cpu, 1, 2, NIC))
    (taken,), (given,) = (steps(events, "device.hand_over", bdf=NIC, domain=domain) for domain in (None, 2))
    done, written = steps(events, "flush.done"), steps(events, "context.write")
    assert max(*written[:2], *done[:2]) < taken < min(*written[2:], *done[2:])
    assert taken < given
    assert machine.devices[NIC].assigned_to == 2


def test_a_device_uses_the_memory_of_the_domain_that_has_it(execute: Execute) -> None:
    machine = machine_with()
    machine.domain(DOMID_IO)
    turns = {name: machine.signal(name) for name in ("read", "moved", "read again", "taken")}
    got: list[int | None] = []

    @machine.device(NIC)
    async def reader(device: Device) -> None:
        got.append(await device.read(G))
        await turns["read"].send()
        await turns["moved"].wait()
        got.append(await device.read(G))
        await turns["read again"].send()
        await turns["taken"].wait()
        got.append(await device.read(G))

    async def body(m: Machine, cpu: Cpu) -> None:
        await turns["read"].wait()
        assert await reassign(m, cpu, 1, 2, NIC) == OK
        await turns["moved"].send()
        await turns["read again"].wait()
        assert await reassign(m, cpu, 2, DOMID_IO, NIC) == OK
        await turns["taken"].send()

    run(execute, machine, body)
    assert got == [0x111, 0x222, None]


@pytest.mark.parametrize("vtd", [VtdSettings(), VtdSettings(coherent=False), VtdSettings(caching_mode=True)])
def test_a_device_faults_after_it_was_detached(execute: Execute, vtd: VtdSettings) -> None:
    machine = machine_with(vtd)
    detached = machine.signal("detached")
    got: list[object] = []

    @machine.device(NIC)
    async def user(device: Device) -> None:
        await detached.wait()
        got.extend([await device.read(G), await device.write(G, 0xBAD)])

    async def body(m: Machine, cpu: Cpu) -> None:
        await detach(m, cpu, 1, NIC)
        await detached.send()

    events = run(execute, machine, body)
    assert got == [None, False]
    assert len(steps(events, "dma.fault")) == 2
    assert machine.memory.peek(frame_of(machine, 1) << 12) == 0x111


@pytest.mark.parametrize(("fixes", "ids"), [((), ([None], 0)), ((Fix.KEEP_ID,), ([1], 1))])
def test_a_detach_whose_flush_timed_out_frees_the_id_all_the_same_until_f3401d65d9_and_gives_the_device_to_nobody(
    fixes: tuple[Fix, ...], ids: tuple[list[int | None], int]
) -> None:
    machine = machine_with()
    machine.driver.fixes |= set(fixes)
    machine.allow_faults(waits=1)
    results: list[int] = []

    @machine.cpu(0)
    async def only(cpu: Cpu) -> None:
        results.append(await reassign(machine, cpu, 1, 2, NIC))

    execution = machine.execution(Faulty())
    direct.run(execution)
    assert machine.conclude(execution) == []
    assert results == [ETIMEDOUT]
    assert (ids_of(machine, 1), bitmap_of(machine, 1).value) == ids
    assert machine.devices[NIC].assigned_to != 2
    assert context_of(machine, NIC) == 0
    assert fetched(list(machine.trace.events())) == CONTEXT_THEN_IOTLB


def test_after_a_detach_whose_flush_timed_out_another_one_cleans_up(execute: Execute) -> None:
    machine = machine_with()
    machine.driver.fixes.add(Fix.KEEP_ID)
    machine.allow_faults(waits=1)
    results: list[int] = []

    @machine.cpu(0)
    async def only(cpu: Cpu) -> None:
        results.extend([await detach(machine, cpu, 1, NIC), await detach(machine, cpu, 1, NIC)])

    direct.run(machine.execution(Faulty()))
    assert results == [ETIMEDOUT, OK]
    assert (ids_of(machine, 1), bitmap_of(machine, 1).value) == ([None], 0)
    assert machine.devices[NIC].assigned_to is None


# Several units


def three_units() -> Machine:
    """Return a machine with three units, of which domain 1 uses the first and the last."""
    machine = Machine(Description(is_checking=True))
    machine.scope(1, "02:00.0")
    machine.scope(2, FAR)
    domain = machine.domain(1, devices=(NIC, FAR))
    machine.premap(domain, G, machine.allocate(), cached=True)
    machine.plug("02:00.0")
    return machine


def asked_by(machine: Machine, events: Sequence[Event], since: int = 0) -> list[int]:
    """Return how many IOTLB invalidations each unit has executed after a step."""
    return [
        len([step for step in steps(events, "invalidate.complete", iommu=unit.name) if step > since])
        for unit in machine.units
    ]


def test_a_flush_reaches_the_units_whose_bit_is_set_and_no_other(execute: Execute) -> None:
    machine = three_units()
    assert bitmap_of(machine, 1).value == 0b101
    events = run(execute, machine, lambda m, cpu: m.hypervisor.unmap(cpu, m.domains[1], G))
    assert asked_by(machine, events) == [1, 0, 1]
    assert [len(unit.iotlb) for unit in machine.units] == [0, 0, 0]


def test_a_flush_reaches_a_unit_after_a_device_behind_it_was_attached(execute: Execute) -> None:
    machine = three_units()

    async def body(m: Machine, cpu: Cpu) -> None:
        await attach(m, cpu, 1, "02:00.0")
        await m.hypervisor.unmap(cpu, m.domains[1], G)

    assert asked_by(machine, run(execute, machine, body)) == [1, 1, 1]


def test_a_flush_does_not_reach_a_unit_any_more_from_which_the_last_device_was_detached(execute: Execute) -> None:
    machine = three_units()

    async def body(m: Machine, cpu: Cpu) -> None:
        await detach(m, cpu, 1, FAR)
        await m.hypervisor.flush_all(cpu, m.domains[1])

    events = run(execute, machine, body)
    (called,) = steps(events, "call.enter")
    assert asked_by(machine, events) == [1, 0, 1]
    assert asked_by(machine, events, called) == [1, 0, 0]


def test_a_unit_whose_bit_is_set_while_the_domain_has_no_id_there_is_passed_over(execute: Execute) -> None:
    machine = machine_with()
    bitmap_of(machine, 2).put(0)
    events = run(execute, machine, lambda m, cpu: m.hypervisor.unmap(cpu, m.domains[2], G))
    assert len(steps(events, "flush.skip", iommu="vtd0", domain=2)) == 1
    assert fetched(events) == []


def test_a_unit_whose_bit_is_clear_is_not_asked_though_the_domain_has_an_id_there(execute: Execute) -> None:
    machine = machine_with()
    driver_of(machine).iommus[0].domids.put(2)
    events = run(execute, machine, lambda m, cpu: m.hypervisor.unmap(cpu, m.domains[2], G))
    assert steps(events, "flush.skip") == []
    assert fetched(events) == []


def test_each_unit_gives_a_domain_an_id_of_its_own(execute: Execute) -> None:
    machine = three_units()
    machine.domain(2, devices=("00:03.0",))

    async def body(m: Machine, cpu: Cpu) -> None:
        assert await attach(m, cpu, 2, "02:00.0") == OK

    run(execute, machine, body)
    assert (ids_of(machine, 1), ids_of(machine, 2)) == ([1, None, 1], [2, 1, None])


def test_a_context_table_belongs_to_the_unit_of_its_device(execute: Execute) -> None:
    machine = Machine(Description())
    machine.scope(1, "00:02.1")
    machine.domain(1, devices=("00:02.0", "00:02.1"))
    run(execute, machine, lambda m, cpu: detach(m, cpu, 1, "00:02.1"))
    near, far = (machine.devices[bdf] for bdf in ("00:02.0", "00:02.1"))
    assert in_force(near) == 1
    assert in_force(far) == 0


def in_force(device: Device) -> int:
    """Return how many context entries the unit of a device may use for it now."""
    assert isinstance(device.unit, VtdUnit)
    return sum(dropped == inf for _, _, dropped in device.unit.contexts.lifetimes(device.source_id))


# What is left of the old domain


def legal(machine: Machine) -> set[object]:
    """Return all that a unit may still use for page G of a NIC that ever had it: translations and faults."""
    tables_ever = machine.unit.tables_ever(machine.devices[NIC].source_id)
    return {one for tables in tables_ever for one in machine.unit.ledger.legal(tables, G)}


async def detach_in_order(m: Machine, cpu: Cpu, domain: Domain, device: Device) -> None:
    """Detach as Xen does."""
    assert await m.assignment.detach(cpu, domain, device) == OK


async def detach_iotlb_first(m: Machine, cpu: Cpu, domain: Domain, device: Device) -> None:
    """Detach, but flush the IOTLB before the context cache."""
    iommu = driver_of(m).iommu_of(device)
    async with iommu.lock.held(cpu):
        await write_context(cpu, driver_of(m), device, [(0, 0), (1, 0)])
        did = await iommu.domids.find(domain.number)
        assert did is not None
        assert await iommu_flush_iotlb_dsi(cpu, driver_of(m), iommu, did, non_present=False) == OK
        source_id = device.source_id
        assert await iommu_flush_context_device(cpu, driver_of(m), iommu, did, source_id, non_present=False) == OK


@pytest.mark.parametrize("vtd", [VtdSettings(), VtdSettings(coherent=False), VtdSettings(caching_mode=True)])
def test_after_a_detach_nothing_of_the_old_domain_is_legal(execute: Execute, vtd: VtdSettings) -> None:
    machine = machine_with(vtd)
    assert legal(machine) != set()
    run(execute, machine, lambda m, cpu: detach(m, cpu, 1, NIC))
    assert in_force(machine.devices[NIC]) == 0
    assert legal(machine) == set()
    assert len(machine.unit.iotlb) == 0


def test_before_its_flushes_everything_of_the_old_domain_is_legal(execute: Execute) -> None:
    machine = machine_with()
    before = legal(machine)

    async def body(m: Machine, cpu: Cpu) -> None:
        await write_context(cpu, driver_of(m), m.devices[NIC], [(0, 0), (1, 0)])

    run(execute, machine, body)
    assert legal(machine) == before


@pytest.mark.parametrize("is_flushed", [False, True])
def test_until_the_iotlb_is_flushed_a_request_in_flight_may_find_what_was_mapped_after_its_context_entry_was_dropped(
    execute: Execute, is_flushed: bool
) -> None:
    machine = machine_with()
    page, frame = Dfn(1 << 27), machine.allocate()

    async def body(m: Machine, cpu: Cpu) -> None:
        iommu, source_id = driver_of(m).iommus[0], m.devices[NIC].source_id
        await write_context(cpu, driver_of(m), m.devices[NIC], [(0, 0), (1, 0)])
        await iommu_flush_context_device(cpu, driver_of(m), iommu, 1, source_id, non_present=False)
        if is_flushed:
            await iommu_flush_iotlb_dsi(cpu, driver_of(m), iommu, 1, non_present=False)
        await m.hypervisor.map(cpu, m.domains[1], page, frame)

    run(execute, machine, body)
    (tables,) = machine.unit.tables_ever(machine.devices[NIC].source_id)
    found = {one.leaf for one in machine.unit.ledger.legal(tables, page) if one.leaf}
    assert len(found) == (0 if is_flushed else 1)


def test_after_the_flushes_in_the_wrong_order_the_old_translation_stays_legal(execute: Execute) -> None:
    machine = machine_with()
    before = legal(machine)
    run(execute, machine, lambda m, cpu: detach_iotlb_first(m, cpu, m.domains[1], m.devices[NIC]))
    assert in_force(machine.devices[NIC]) == 0
    assert legal(machine) == before


def test_a_flush_of_the_iotlb_that_follows_mends_the_wrong_order(execute: Execute) -> None:
    machine = machine_with()

    async def body(m: Machine, cpu: Cpu) -> None:
        await detach_iotlb_first(m, cpu, m.domains[1], m.devices[NIC])
        await m.hypervisor.flush_all(cpu, m.domains[1])
        await m.pages.put(cpu, frame_of(m, 1))

    run(execute, machine, body)
    assert legal(machine) == set()


def test_an_id_that_another_domain_has_taken_brings_nothing_of_the_old_one_back(execute: Execute) -> None:
    machine = machine_with()

    async def body(m: Machine, cpu: Cpu) -> None:
        await reassign(m, cpu, 1, 2, NIC)
        await m.pages.put(cpu, frame_of(m, 1))

    run(execute, machine, body)
    assert ids_of(machine, 2) == [1]
    assert len(legal(machine)) == 1


def freed_after(detaching: Detach) -> Build:
    """Return a scenario: a device reads a page; a CPU takes the device away and frees the frame, still mapped."""

    def frame_freed_after_detach(m: Machine) -> None:
        domain = m.domain(1, devices=(NIC,))
        frame = m.allocate(domain=domain)
        m.premap(domain, G, frame)

        @m.cpu(0)
        async def toolstack(cpu: Cpu) -> None:
            await detaching(m, cpu, domain, m.devices[NIC])
            await m.pages.put(cpu, frame)

        @m.device(NIC)
        async def reader(device: Device) -> None:
            await device.read(G)

    return frame_freed_after_detach


SMALL = {"levels": "3", "synchronous": "true", "walk_at_once": "true"}


def test_a_frame_that_is_freed_after_a_detach_is_found_in_no_trace() -> None:
    bound = scenario(expect=CLEAN)(freed_after(detach_in_order)).bind({"levels": "3", "synchronous": "true"})
    done = ScenarioExploration(bound, __file__)
    done.on("direct")
    assert done.is_exhausted
    assert done.causes == {}


def test_after_flushes_in_the_wrong_order_it_is_found_and_a_device_that_had_refilled_uses_it() -> None:
    bound = scenario(expect=RELEASED)(freed_after(detach_iotlb_first)).bind(SMALL)
    done = ScenarioExploration(bound, __file__)
    done.on("direct")
    assert done.is_exhausted
    (cause,) = done.causes.values()
    assert cause.executions == done.done
    assert isinstance(cause.finding, Released)
    assert (cause.finding.kind, cause.finding.dfn) == (FindingKind.RELEASED, G)
    assert cause.finding.evidence is Evidence.OBSERVED


@pytest.mark.parametrize("seed", range(40))
def test_with_every_step_of_hardware_too_no_schedule_finds_a_frame_that_is_freed_after_a_detach(
    execute: Execute, seed: int
) -> None:
    machine = Machine(Description(settings=VtdSettings(coherent=seed % 2 == 0), is_checking=True))
    freed_after(detach_in_order)(machine)
    assert execute(machine, seed) == []


# Two CPUs


def every_trace(build: Callable[[Machine], None]) -> Iterator[Machine]:
    """Yield the machine at the end of every trace; nothing is found in any."""
    last: list[Machine] = []

    def program(strategy: Strategy) -> Execution:
        last[:] = [Machine(Description(settings=VtdSettings(levels=3, synchronous=True), is_checking=True))]
        build(last[0])
        return last[0].execution(strategy)

    for execution in Exploration(program, Optimal).each():
        direct.run(execution)
        assert last[0].conclude(execution) == []
        yield last[0]


def attached_by_two(bdfs: tuple[str, str]) -> tuple[list[Machine], list[tuple[int, ...]]]:
    """Have two CPUs attach a device each to a domain each; return the machines and the results over all traces."""
    all_results: list[list[int]] = []

    def build(m: Machine) -> None:
        devices = {bdf: m.plug(bdf) for bdf in dict.fromkeys(bdfs)}
        results = [EINVAL, EINVAL]
        all_results.append(results)

        async def attacher(cpu: Cpu, domain: Domain, device: Device) -> None:
            results[cpu.number] = await m.assignment.attach(cpu, domain, device)

        for number, bdf in enumerate(bdfs):
            m.cpu(number).runs(attacher, m.domain(1 + number), devices[bdf])

    machines = list(every_trace(build))
    return machines, [tuple(results) for results in all_results]


def test_of_two_cpus_that_attach_one_device_exactly_one_succeeds() -> None:
    machines, results = attached_by_two((NIC, NIC))
    assert set(results) == {(OK, EINVAL), (EINVAL, OK)}
    for machine, (first, _) in zip(machines, results, strict=True):
        winner = machine.domains[1 if first == OK else 2]
        assert context_of(machine, NIC) == encode_context_entry(ContextEntry(1, winner.pgd, 3))
        assert [bitmap_of(machine, one).value for one in machine.domains if one != winner.number] == [0]


def test_two_cpus_that_attach_devices_of_two_domains_give_them_two_ids() -> None:
    machines, results = attached_by_two((NIC, DISK))
    assert set(results) == {(OK, OK)}
    assert {(*ids_of(machine, 1), *ids_of(machine, 2)) for machine in machines} == {(1, 2), (2, 1)}


def test_a_page_that_was_unmapped_before_the_device_came_was_never_in_its_reach(execute: Execute) -> None:
    machine = Machine(Description(is_checking=True))
    domain = machine.domain(1)
    machine.plug(NIC)
    frame = machine.allocate(domain=domain)
    machine.premap(domain, G, frame)

    async def body(m: Machine, cpu: Cpu) -> None:
        await m.hypervisor.unmap(cpu, domain, G)
        assert await attach(m, cpu, 1, NIC) == OK
        await m.pages.put(cpu, frame)

    run(execute, machine, body)
    assert machine.findings == []
