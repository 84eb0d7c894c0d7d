"""Queued invalidation: what a descriptor removes, when it counts, and what a wait descriptor tells."""

from collections.abc import Callable

import pytest

from emu.checks.findings import Finding, Stuck
from emu.cpus import Cpu
from emu.engine import Wait
from emu.hypervisor.vtd.queue import qinval_update
from emu.iommus.ring import WriteTail
from emu.iommus.vtd.formats import (
    ContextInvalidation,
    Descriptor,
    Granularity,
    IotlbInvalidation,
    WaitDescriptor,
    encode_descriptor,
)
from emu.iommus.vtd.settings import VtdSettings
from emu.machine.description import Description
from emu.machine.machine import Machine
from emu.units import Dfn, Maddr, offset
from tests.vtd import driver_of, unit_of

Execute = Callable[..., list[Finding]]

G = Dfn(0x200)
PAGES = 8


def two_domains(settings: VtdSettings | None = None) -> Machine:
    """Return a machine with two domains, each with the same eight pages cached for two devices."""
    machine = Machine(Description(settings=settings or VtdSettings()))
    for number, devices in ((1, ("00:1f.0", "00:1f.1")), (2, ("00:02.0", "00:02.1"))):
        domain = machine.domain(number, devices=devices)
        machine.premap(domain, G, machine.allocate(page_order=3), page_order=3, cached=True)
    return machine


def submit(execute: Execute, machine: Machine, *descriptors: Descriptor) -> None:
    """Have CPU 0 submit descriptors and wait for the last of them."""

    @machine.cpu(0)
    async def submitter(cpu: Cpu) -> None:
        iommu = driver_of(machine).iommus[0]
        address = driver_of(machine).poll_slot(cpu)
        done = cpu.memory.latch(address, 7)
        for descriptor in (*descriptors, WaitDescriptor(address, 7)):
            await qinval_update(cpu, iommu, descriptor)
        await Wait(done)

    execute(machine)


def cached(machine: Machine, device: str) -> list[int]:
    """Return which of the eight pages are cached for a device."""
    source_id = machine.devices[device].source_id
    return [page for page in range(PAGES) if machine.unit.iotlb.find(source_id, offset(G, page))]


def page_selective(page: int, order: int) -> IotlbInvalidation:
    return IotlbInvalidation(Granularity.NARROW, 1, offset(G, page), order)


@pytest.mark.parametrize(
    ("descriptor", "left"),
    [
        (page_selective(3, 0), [0, 1, 2, 4, 5, 6, 7]),
        (page_selective(4, 1), [0, 1, 2, 3, 6, 7]),
        (page_selective(5, 2), [0, 1, 2, 3]),
        (IotlbInvalidation(Granularity.DOMAIN, 1), []),
        (IotlbInvalidation(Granularity.DOMAIN, 3), list(range(PAGES))),
    ],
)
def test_an_invalidation_removes_what_it_covers_for_every_device_of_the_domain_and_nothing_else(
    execute: Execute, descriptor: IotlbInvalidation, left: list[int]
) -> None:
    machine = two_domains()
    submit(execute, machine, descriptor)
    assert cached(machine, "00:1f.0") == cached(machine, "00:1f.1") == left
    assert cached(machine, "00:02.0") == cached(machine, "00:02.1") == list(range(PAGES))


def test_a_global_invalidation_removes_everything(execute: Execute) -> None:
    machine = two_domains()
    submit(execute, machine, IotlbInvalidation(Granularity.GLOBAL))
    assert len(machine.unit.iotlb) == 0


def test_an_address_mask_beyond_what_the_unit_supports_invalidates_the_domain(execute: Execute) -> None:
    machine = two_domains(VtdSettings(mamv=1))
    submit(execute, machine, page_selective(0, 2))
    assert cached(machine, "00:1f.0") == []


def test_submitting_beginning_removing_and_completing_are_steps_of_their_own(execute: Execute) -> None:
    machine = two_domains()
    submit(execute, machine, page_selective(3, 0))
    stages = ["queue.post", "queue.fetch", "invalidate.begin", "iotlb.invalidate", "invalidate.complete"]
    steps = [next(event.step for event in machine.trace.events() if event.name == stage) for stage in stages]
    assert steps == sorted(set(steps))


def test_the_ledger_counts_an_invalidation_from_its_start(execute: Execute) -> None:
    machine = two_domains()
    submit(execute, machine, page_selective(3, 0))
    begin = next(event.step for event in machine.trace.events() if event.name == "invalidate.begin")
    ledger = machine.unit.ledger
    assert [ledger.completed.since(1, offset(G, page)) for page in (2, 3)] == [0, begin]


def test_a_wait_descriptor_without_a_status_write_writes_nothing(execute: Execute) -> None:
    machine = two_domains()
    status = Maddr(driver_of(machine).poll_slots + 64)
    submit(execute, machine, WaitDescriptor(status, 5, status_write=False))
    assert machine.memory.peek(status) == 0


@pytest.mark.parametrize("half", [0, 4])
def test_a_wait_descriptor_writes_its_status_as_32_bits(execute: Execute, half: int) -> None:
    machine = two_domains()
    status = Maddr(driver_of(machine).poll_slots + 64)
    machine.memory.put(status, 0x1111_1111_2222_2222)
    submit(execute, machine, WaitDescriptor(Maddr(status + half), 0x5555_5555))
    assert machine.memory.peek(status) == (0x5555_5555_2222_2222 if half else 0x1111_1111_5555_5555)


def test_a_context_invalidation_drops_cached_context_entries(execute: Execute) -> None:
    machine = two_domains()
    contexts = unit_of(machine).contexts
    for device in machine.devices.values():
        contexts.entries[device.source_id] = (contexts.lifetimes(device.source_id)[0][0], ())
    submit(execute, machine, ContextInvalidation(Granularity.DOMAIN, 2))
    assert sorted(contexts.entries) == [machine.devices[bdf].source_id for bdf in ("00:1f.0", "00:1f.1")]


def test_the_ring_wraps_round(execute: Execute) -> None:
    machine = two_domains()

    @machine.cpu(0)
    async def busy(cpu: Cpu) -> None:
        for _ in range(200):
            await machine.hypervisor.flush(cpu, machine.domains[1], G, pages=1)

    assert execute(machine) == []
    assert unit_of(machine).queue.count == 400


def test_a_descriptor_that_is_not_valid_stops_the_engine_and_the_cpu_that_waits_is_reported(execute: Execute) -> None:
    machine = two_domains()

    @machine.cpu(0)
    async def submitter(cpu: Cpu) -> None:
        queue = unit_of(machine).queue
        await cpu.store128(queue.slot_address(0), encode_descriptor(page_selective(0, 0)) | 0xF)
        await WriteTail(queue, 1)
        await machine.hypervisor.flush(cpu, machine.domains[1], G, pages=1)

    (finding,) = execute(machine)
    assert isinstance(finding, Stuck)
    (waiter,) = finding.deadlock.waiters
    assert waiter.agent == "cpu0"
    assert waiter.waits_for.startswith("the 32-bit word at")
    assert unit_of(machine).queue.error
