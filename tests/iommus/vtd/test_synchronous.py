"""Two parameters that are not architectural: descriptors executed where they are posted, and walks in one step."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from emu.checks.findings import Finding, FindingKind
from emu.cpus import Cpu
from emu.devices.device import Commit, Device, Refuse
from emu.engine import Agent, Choose, Event
from emu.engine.hosts import direct
from emu.hypervisor.ops import READ_WRITE, MapFlags
from emu.hypervisor.vtd.queue import qinval_update
from emu.iommus.iotlb import Lookup
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
from emu.units import Dfn, Mfn
from tests.vtd import driver_of, unit_of

Execute = Callable[..., list[Finding]]

G = Dfn(0x200)
DEVICE = "00:1f.0"
SYNCHRONOUS = VtdSettings(synchronous=True)
BOTH = VtdSettings(synchronous=True, walk_at_once=True)
PAGE = IotlbInvalidation(Granularity.NARROW, 1, G, 0)

ENGINE = ("queue.fetch", "invalidate.begin", "iotlb.invalidate", "invalidate.complete", "queue.status")


def machine_with(settings: VtdSettings, *, cached: bool = True, flags: MapFlags = READ_WRITE) -> tuple[Machine, Mfn]:
    """Return a machine with a domain, a device and a page of it, and the page's frame."""
    machine = Machine(Description(settings=settings))
    domain = machine.domain(1, devices=(DEVICE,))
    old = machine.allocate()
    machine.premap(domain, G, old, cached=cached, flags=flags)
    return machine, old


def submit(execute: Execute, settings: VtdSettings, *descriptors: Descriptor) -> tuple[Machine, list[Any]]:
    """Have a CPU submit descriptors; return what it found cached right after posting each of them."""
    machine, _ = machine_with(settings)
    left: list[Any] = []

    @machine.cpu(0)
    async def submitter(cpu: Cpu) -> None:
        for descriptor in descriptors:
            await qinval_update(cpu, driver_of(machine).iommus[0], descriptor)
            left.append((len(machine.unit.iotlb), machine.unit.ledger.completed.since(1, G)))

    execute(machine)
    return machine, left


def events(machine: Machine, *names: str) -> list[Event]:
    return [event for event in machine.trace.events() if event.name in names]


def test_a_posted_invalidation_has_completed_by_the_end_of_the_step_that_posted_it(execute: Execute) -> None:
    machine, left = submit(execute, SYNCHRONOUS, PAGE)
    (post,) = events(machine, "queue.post")
    assert left == [(0, post.step)]
    assert [(event.name, event.step) for event in events(machine, *ENGINE)] == [
        (name, post.step) for name in ENGINE if name != "queue.status"
    ]


def test_in_an_asynchronous_unit_a_posted_invalidation_has_not_completed_by_then(execute: Execute) -> None:
    assert submit(execute, VtdSettings(), PAGE)[1] == [(1, 0)]


def test_a_posted_wait_descriptor_has_written_its_status(execute: Execute) -> None:
    machine, _ = machine_with(SYNCHRONOUS)
    seen = []

    @machine.cpu(0)
    async def submitter(cpu: Cpu) -> None:
        address = driver_of(machine).poll_slot(cpu)
        await qinval_update(cpu, driver_of(machine).iommus[0], WaitDescriptor(address, 7))
        seen.append(machine.memory.peek(address))

    execute(machine)
    assert seen == [7]


def test_a_posted_context_invalidation_has_removed_its_entries(execute: Execute) -> None:
    machine, _ = machine_with(SYNCHRONOUS)
    source_id = machine.devices[DEVICE].source_id
    unit_of(machine).contexts.entries[source_id] = (unit_of(machine).contexts.lifetimes(source_id)[0][0], ())
    left = []

    @machine.cpu(0)
    async def submitter(cpu: Cpu) -> None:
        await qinval_update(cpu, driver_of(machine).iommus[0], ContextInvalidation(Granularity.DOMAIN, 1))
        left.append(len(unit_of(machine).contexts.entries))

    execute(machine)
    assert left == [0]


def test_there_is_no_agent_for_the_unit() -> None:
    assert [agent.name for agent in machine_with(SYNCHRONOUS)[0].agents] == []
    assert [agent.name for agent in machine_with(VtdSettings())[0].agents] == ["vtd0"]


def test_several_descriptors_handed_over_in_one_step_are_all_executed_in_order(execute: Execute) -> None:
    machine, _ = machine_with(SYNCHRONOUS)

    @machine.cpu(0)
    async def submitter(cpu: Cpu) -> None:
        queue = unit_of(machine).queue
        await cpu.store128(queue.slot_address(0), encode_descriptor(PAGE))
        await cpu.store128(queue.slot_address(1), encode_descriptor(WaitDescriptor(driver_of(machine).poll_slots, 7)))
        await WriteTail(queue, 2)

    execute(machine)
    assert [event.name for event in events(machine, *ENGINE)] == [*ENGINE[:4], "queue.fetch", "queue.status"]
    assert len({event.step for event in events(machine, *ENGINE)}) == 1
    assert unit_of(machine).queue.fetched == 2


def test_a_ring_that_wraps_round_is_executed_slot_by_slot(execute: Execute) -> None:
    machine, _ = machine_with(SYNCHRONOUS)

    @machine.cpu(0)
    async def busy(cpu: Cpu) -> None:
        for _ in range(200):
            await machine.hypervisor.flush(cpu, machine.domains[1], G, pages=1)

    assert execute(machine) == []
    assert unit_of(machine).queue.fetched == unit_of(machine).queue.count == 400


def test_a_descriptor_that_is_not_valid_stops_the_engine(execute: Execute) -> None:
    machine, _ = machine_with(SYNCHRONOUS)

    @machine.cpu(0)
    async def submitter(cpu: Cpu) -> None:
        queue = unit_of(machine).queue
        await cpu.store128(queue.slot_address(0), encode_descriptor(PAGE) | 0xF)
        await WriteTail(queue, 1)
        await machine.hypervisor.flush(cpu, machine.domains[1], G, pages=1)

    (finding,) = execute(machine)
    assert finding.kind is FindingKind.DEADLOCK
    assert unit_of(machine).queue.error
    assert [event.name for event in events(machine, *ENGINE, "queue.error")] == ["queue.error"]


class HoldBack:
    """Let the device go on up to an operation of one type, for the first time; then let the CPU go first."""

    def __init__(self, operation: type) -> None:
        self.operation = operation
        self.is_held = False

    def pick(self, enabled: Sequence[Agent]) -> Agent:
        device = next((agent for agent in enabled if agent.name == DEVICE), None)
        cpu = next((agent for agent in enabled if agent.name == "cpu0"), None)
        self.is_held = self.is_held or (device is not None and isinstance(device.pending, self.operation))
        return cpu if cpu is not None and (self.is_held or device is None) else device or enabled[0]

    def choose(self, choice: Choose) -> int:
        return 0


def replaced_under_a_device(
    settings: VtdSettings,
    operation: type,
    *,
    is_write: bool = False,
    unmapped: bool = False,
    flags: MapFlags = READ_WRITE,
) -> tuple[Machine, list[Any], Mfn, Mfn]:
    """Replace a page, or unmap it, while a device is about to do an operation; return what the device got."""
    machine, old = machine_with(settings, flags=flags)
    new = machine.allocate()
    domain = machine.domains[1]
    machine.memory.put(old << 12, 0x01D)
    machine.memory.put(new << 12, 0x2E3)
    got: list[Any] = []

    @machine.cpu(0)
    async def changer(cpu: Cpu) -> None:
        if unmapped:
            await machine.hypervisor.unmap(cpu, domain, G)
        else:
            await machine.hypervisor.map(cpu, domain, G, new)

    @machine.device(DEVICE)
    async def user(device: Device) -> None:
        got.append(await (device.write(G, 0xD) if is_write else device.read(G)))

    execution = machine.execution(HoldBack(operation))
    direct.run(execution)
    assert machine.conclude(execution) == []
    return machine, got, old, new


@pytest.mark.parametrize("settings", [SYNCHRONOUS, BOTH])
def test_a_request_that_is_recalled_begins_again_and_is_committed_once(settings: VtdSettings) -> None:
    machine, got, _, new = replaced_under_a_device(settings, Commit)
    (again,) = events(machine, "dma.again")
    (read,) = events(machine, "dma.read")
    (invalidate,) = events(machine, "iotlb.invalidate")
    assert invalidate.fields["draining"] == 1
    assert invalidate.step < again.step < read.step
    assert (got, read.fields["mfn"]) == ([0x2E3], new)
    assert machine.unit.requests.in_flight == {}


def test_a_write_that_is_recalled_reaches_the_new_frame_only() -> None:
    machine, got, old, new = replaced_under_a_device(BOTH, Commit, is_write=True)
    assert got == [True]
    assert len(events(machine, "dma.write")) == 1
    assert (machine.memory.peek(old << 12), machine.memory.peek(new << 12)) == (0x01D, 0xD)


def test_a_request_that_is_recalled_may_find_no_translation_any_more() -> None:
    machine, got, _, _ = replaced_under_a_device(BOTH, Commit, unmapped=True)
    assert got == [None]
    assert [event.name for event in events(machine, "dma.again", "dma.read", "dma.fault")] == ["dma.again", "dma.fault"]


def test_a_refusal_that_is_recalled_is_none_where_the_new_translation_permits() -> None:
    machine, got, _, new = replaced_under_a_device(BOTH, Refuse, is_write=True, flags=MapFlags.READABLE)
    assert got == [True]
    assert [event.name for event in events(machine, "dma.again", "dma.fault", "dma.write")] == [
        "dma.again",
        "dma.write",
    ]
    assert machine.memory.peek(new << 12) == 0xD


def test_a_request_that_was_recalled_is_not_recalled_twice() -> None:
    requests = machine_with(BOTH)[0].unit.requests
    request = requests.open(1, G, is_write=False)
    request.translate(1)
    assert requests.translated(1, G, G) == [request]
    request.recall()
    assert requests.translated(1, G, G) == []


def test_a_request_that_is_not_yet_translated_is_not_recalled() -> None:
    machine, got, _, _ = replaced_under_a_device(BOTH, Lookup)
    assert got == [0x2E3]
    assert events(machine, "dma.again") == []


def test_without_the_parameter_the_invalidation_waits_and_nothing_is_recalled() -> None:
    machine, got, old, _ = replaced_under_a_device(VtdSettings(), Commit)
    (read,) = events(machine, "dma.read")
    (complete,) = events(machine, "invalidate.complete")
    assert (got, read.fields["mfn"]) == ([0x01D], old)
    assert read.step < complete.step
    assert events(machine, "dma.again") == []


def lived(settings: VtdSettings, execute: Execute) -> Machine:
    """Map, use, replace and unmap pages, one after the other."""
    machine, _ = machine_with(settings, cached=False)
    domain, frame = machine.domains[1], machine.allocate()
    turns = [machine.signal(f"turn {number}") for number in range(4)]

    @machine.cpu(0)
    async def owner(cpu: Cpu) -> None:
        await turns[0].wait()
        await machine.hypervisor.map(cpu, domain, G, frame)
        await turns[1].send()
        await turns[2].wait()
        await machine.hypervisor.unmap(cpu, domain, G)
        await turns[3].send()

    @machine.device(DEVICE)
    async def user(device: Device) -> None:
        await device.read(G)
        await turns[0].send()
        await turns[1].wait()
        await device.write(G, 1)
        await turns[2].send()
        await turns[3].wait()
        await device.read(G)

    assert execute(machine) == []
    return machine


def told(machine: Machine) -> Counter[tuple[str, tuple[tuple[str, str], ...]]]:
    """Return what a log tells, without the steps and without those walks that are now a step."""
    return Counter(
        (event.name, tuple((key, str(value)) for key, value in event.fields.items() if key not in {"began", "held"}))
        for event in machine.trace.events()
        if event.name != "walk"
    )


@pytest.mark.parametrize("settings", [SYNCHRONOUS, VtdSettings(walk_at_once=True), BOTH])
def test_a_log_still_tells_the_same_events(execute: Execute, settings: VtdSettings) -> None:
    plain, short = lived(VtdSettings(), execute), lived(settings, execute)
    assert told(plain) == told(short)
    assert short.trace.step < plain.trace.step


def test_a_walk_at_once_is_one_step_and_tells_every_word_that_it_reads(execute: Execute) -> None:
    machine, _ = machine_with(VtdSettings(walk_at_once=True), cached=False)

    @machine.device(DEVICE)
    async def reader(device: Device) -> None:
        await device.read(G)

    execute(machine)
    assert [(event.name, event.step) for event in machine.trace.events()] == [
        ("iotlb.miss", 1),
        ("walk", 2),
        ("context.miss", 2),
        ("walk.root", 2),
        ("walk.context", 2),
        ("context.fill", 2),
        *[("walk.read", 2)] * 4,
        ("iotlb.fill", 3),
        ("dma.read", 4),
    ]
    assert machine.unit.requests.in_flight == {}
