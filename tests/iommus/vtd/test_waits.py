"""Wait descriptors: what completes before them, what may overtake them, and what their status words hold."""

from collections.abc import Callable, Sequence

import attrs
import pytest

from emu.checks.findings import FindingKind
from emu.cpus import Cpu
from emu.devices.device import Commit, Device
from emu.engine import Agent, Choose, Event, Exploration, Strategy, Wait
from emu.engine.execution import Execution
from emu.engine.hosts import direct
from emu.engine.strategies.optimal import Optimal
from emu.hypervisor.commands import AwaitUnit
from emu.hypervisor.ops import iommu_dont_flush_iotlb
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
from emu.running.exploration import ScenarioExploration
from emu.scenarios.expectation import CLEAN, RELEASED
from emu.scenarios.scenario import scenario
from emu.units import Dfn, Maddr, offset
from tests.vtd import driver_of

G = Dfn(0x1000)
NIC = "00:1f.0"
ONE, OTHER = 1, 2
"""What the two waits write."""

CONTEXT = ContextInvalidation(Granularity.DOMAIN, 1)


def page(number: int = 0) -> IotlbInvalidation:
    return IotlbInvalidation(Granularity.NARROW, 1, offset(G, number))


def status(machine: Machine, number: int) -> Maddr:
    """Return where a wait of a number writes: a word of its own."""
    return Maddr(driver_of(machine).poll_slots + 0x100 + 8 * number)


def wait(machine: Machine, number: int, *, fence: bool = True) -> WaitDescriptor:
    return WaitDescriptor(status(machine, number), number, fence=fence)


def kinds(done: ScenarioExploration) -> set[FindingKind]:
    """Return what an exploration has found that has come to its end."""
    assert done.failure is None
    assert done.is_exhausted
    return {cause.signature.kind for cause in done.causes.values()}


# A driver that posts two batches


@pytest.mark.parametrize("second_fence", [False, True])
@pytest.mark.parametrize(
    ("fence", "awaited", "found"),
    [
        (False, (OTHER,), {FindingKind.RELEASED}),
        (True, (OTHER,), set()),
        (False, (ONE, OTHER), set()),
        (False, (ONE,), set()),
    ],
)
@pytest.mark.parametrize("at_once", [False, True])
def test_a_later_wait_tells_of_an_earlier_batch_only_if_the_wait_between_fences(
    at_once: bool, fence: bool, awaited: tuple[int, ...], found: set[FindingKind], second_fence: bool
) -> None:
    @scenario(expect=RELEASED if found else CLEAN)
    def two_batches(m: Machine) -> None:
        """A page is unmapped, a batch invalidates it, another batch another page; then the frame is released."""
        domain, owner = m.domain(1, devices=(NIC,)), m.domain(2)
        frame = m.allocate(domain=owner)
        m.let_map(frame, domain)
        m.premap(domain, G, frame, cached=True)

        @m.cpu(0)
        async def driver(cpu: Cpu) -> None:
            latches = [cpu.memory.latch(status(m, number), number) for number in awaited]
            batches: list[Descriptor] = [page(), wait(m, ONE, fence=fence), page(1), wait(m, OTHER, fence=second_fence)]
            async with cpu.hypercall("unmap"):
                await cpu.write(iommu_dont_flush_iotlb, True)
                await m.hypervisor.unmap(cpu, domain, G)
                await cpu.write(iommu_dont_flush_iotlb, False)
                await post(m, cpu, batches, at_once=at_once)
                for latch in latches:
                    await AwaitUnit(latch, "flush.done", "vtd0")
                await m.pages.put(cpu, frame)

        @m.device(NIC)
        async def reader(device: Device) -> None:
            await device.read(G)

    done = ScenarioExploration(
        two_batches.bind({"levels": "3", "walk_at_once": "true", "revision": "merged"}), __file__
    )
    done.on("direct")
    assert kinds(done) == found
    assert all(cause.is_observed for cause in done.causes.values())


async def post(machine: Machine, cpu: Cpu, descriptors: Sequence[Descriptor], *, at_once: bool = False) -> None:
    """Post descriptors, one by one or all at once."""
    iommu = driver_of(machine).iommus[0]
    if not at_once:
        for descriptor in descriptors:
            await qinval_update(cpu, iommu, descriptor)
        return
    queue = iommu.unit.queue
    for slot, descriptor in enumerate(descriptors):
        await cpu.store128(queue.slot_address(slot), encode_descriptor(descriptor))
    await WriteTail(queue, len(descriptors))


@attrs.define
class InTurn:
    """Let devices go on up to their accesses, then CPUs, then the unit, and devices last.

    Attributes:
        last: choose the last of the possibilities: waits are left as long as can be. Otherwise the first.
    """

    last: bool = False

    def pick(self, enabled: Sequence[Agent]) -> Agent:
        devices = [agent for agent in enabled if "device" in agent.labels]
        translating = [agent for agent in devices if not isinstance(agent.pending, Commit)]
        others = [agent for agent in enabled if "device" not in agent.labels]
        return (translating or [one for one in others if "cpu" in one.labels] or others or devices)[0]

    def choose(self, choice: Choose) -> int:
        return choice.count - 1 if self.last else 0


def submitted(
    execute: Callable[[Machine], object], machine: Machine, *descriptors: Descriptor, awaited: Sequence[int] = ()
) -> list[Event]:
    """Have a CPU post descriptors, and wait for some statuses in order; return the events."""

    @machine.cpu(0)
    async def submitter(cpu: Cpu) -> None:
        latches = [cpu.memory.latch(status(machine, number), number) for number in awaited]
        await post(machine, cpu, descriptors)
        for number, latch in zip(awaited, latches, strict=True):
            await Wait(latch)
            cpu.note("told", slot=number)

    execute(machine)
    return list(machine.trace.events())


def machine_with(settings: VtdSettings | None = None) -> Machine:
    """Return a machine with a page that its device has cached."""
    machine = Machine(Description("v1", settings=attrs.evolve(settings or VtdSettings(), levels=3), is_checking=True))
    machine.premap(machine.domain(1, devices=(NIC,)), G, machine.allocate(page_order=1), page_order=1, cached=True)
    return machine


def writes(machine: Machine) -> None:
    """Have the device write to the page."""

    @machine.device(NIC)
    async def writer(device: Device) -> None:
        await device.write(G, 7)


def by(strategy: Strategy) -> Callable[[Machine], None]:
    def execute(machine: Machine) -> None:
        execution = machine.execution(strategy)
        direct.run(execution)
        assert machine.conclude(execution) == []

    return execute


def said(events: Sequence[Event], *names: str) -> list[tuple[str, object]]:
    """Return what happened, and to which slot or with which value."""
    return [
        (event.name, event.fields.get("value", event.fields.get("slot", event.fields.get("dfn"))))
        for event in events
        if event.name in names
    ]


DONE = ("queue.status", "invalidate.begin", "iotlb.invalidate", "invalidate.complete", "context.invalidate")


# What comes before a wait, and what may overtake it


def test_nothing_behind_a_wait_that_fences_begins_before_it_has_completed() -> None:
    machine = machine_with()
    events = submitted(by(InTurn(last=True)), machine, page(), wait(machine, ONE), page(1), wait(machine, OTHER))
    stages = ["invalidate.begin", "iotlb.invalidate", "invalidate.complete"]
    first, second = [(name, 0) for name in stages], [(name, 2) for name in stages]
    assert said(events, *DONE) == [*first, ("queue.status", ONE), *second, ("queue.status", OTHER)]


def test_a_later_wait_may_complete_before_a_wait_that_does_not_fence_and_before_its_segment() -> None:
    machine = machine_with()
    loose = wait(machine, ONE, fence=False)
    events = submitted(by(InTurn(last=True)), machine, page(), loose, page(1), wait(machine, OTHER), awaited=[ONE])
    assert said(events, *DONE) == [
        ("invalidate.begin", 0),
        ("invalidate.begin", 2),
        ("iotlb.invalidate", 2),
        ("invalidate.complete", 2),
        ("queue.status", OTHER),
        ("iotlb.invalidate", 0),
        ("invalidate.complete", 0),
        ("queue.status", ONE),
    ]
    assert machine.unit.ledger.completed.since(1, G) < machine.unit.ledger.completed.since(1, offset(G, 1))
    starts = [removal.start for removal in machine.unit.requests.removals]
    assert starts == sorted(starts)


def test_its_entries_may_be_dropped_before_it_counts() -> None:
    @attrs.define
    class DropAtOnce(InTurn):
        def choose(self, choice: Choose) -> int:
            return choice.count - 1 if choice.about == "wait to complete" else 0

    machine = machine_with()
    loose = wait(machine, ONE, fence=False)
    events = submitted(by(DropAtOnce()), machine, page(), loose, wait(machine, OTHER))
    assert said(events, *DONE) == [
        ("invalidate.begin", 0),
        ("iotlb.invalidate", 0),
        ("queue.status", OTHER),
        ("invalidate.complete", 0),
        ("queue.status", ONE),
    ]


def test_an_iotlb_invalidation_begins_after_all_earlier_context_invalidations_whatever_was_left() -> None:
    machine = machine_with()
    loose = wait(machine, ONE, fence=False)
    events = submitted(by(InTurn(last=True)), machine, CONTEXT, loose, page(), CONTEXT, wait(machine, OTHER))
    (begun,) = [event.step for event in events if event.name == "iotlb.invalidate"]
    first, second = [event.step for event in events if event.name == "context.invalidate"]
    assert first < begun < second
    assert said(events, "queue.status") == [("queue.status", OTHER), ("queue.status", ONE)]


def test_a_context_invalidation_does_not_count_before_its_wait_if_that_can_be_left() -> None:
    machine = machine_with()
    loose = wait(machine, ONE, fence=False)
    events = submitted(by(InTurn(last=True)), machine, CONTEXT, loose, wait(machine, OTHER))
    assert said(events, *DONE) == [
        ("invalidate.begin", 0),
        ("queue.status", OTHER),
        ("context.invalidate", None),
        ("queue.status", ONE),
    ]


@pytest.mark.parametrize("awaited", [(ONE, OTHER), (OTHER, ONE)])
@pytest.mark.parametrize("last", [False, True])
def test_each_status_that_a_cpu_waits_for_is_written_at_last(awaited: tuple[int, ...], last: bool) -> None:
    machine = machine_with()
    waits = [wait(machine, number, fence=False) for number in (ONE, OTHER)]
    events = submitted(by(InTurn(last=last)), machine, page(), waits[0], page(1), waits[1], awaited=awaited)
    assert said(events, "told") == [("told", number) for number in awaited]


def test_no_schedule_lets_a_cpu_wait_for_ever() -> None:
    last: list[Machine] = []

    def program(strategy: Strategy) -> Execution:
        machine = machine_with()
        last[:] = [machine]

        async def waits(cpu: Cpu, number: int) -> None:
            done = cpu.memory.latch(status(machine, number), number)
            await post(machine, cpu, [wait(machine, number, fence=False)])
            await Wait(done)

        for number in (ONE, OTHER):
            machine.cpu(number).runs(waits, number)
        return machine.execution(strategy)

    orders = set()
    exploration = Exploration(program, Optimal)
    for execution in exploration.each():
        direct.run(execution)
        assert last[0].conclude(execution) == []
        events = list(last[0].trace.events())
        orders.add(tuple(event.fields["address"] for event in events if event.name in {"queue.fetch", "queue.status"}))
    one, other = status(last[0], ONE), status(last[0], OTHER)
    every = {(a, a, b, b) for a, b in ((one, other), (other, one))}
    every |= {(a, b, *order) for a, b in ((one, other), (other, one)) for order in ((one, other), (other, one))}
    assert orders == every


def test_descriptors_that_were_left_complete_before_the_engine_stops_at_one_that_is_not_valid() -> None:
    machine = machine_with()
    loose = wait(machine, ONE, fence=False)
    queue = driver_of(machine).iommus[0].unit.queue

    @machine.cpu(0)
    async def submitter(cpu: Cpu) -> None:
        done = cpu.memory.latch(status(machine, ONE), ONE)
        for slot, word in enumerate((encode_descriptor(page()), encode_descriptor(loose), 0xF)):
            await cpu.store128(queue.slot_address(slot), word)
        await WriteTail(queue, 3)
        await Wait(done)

    by(InTurn(last=True))(machine)
    assert queue.error
    assert machine.memory.peek(status(machine, ONE)) == ONE


@pytest.mark.parametrize("at_once", [False, True])
def test_where_descriptors_are_executed_at_once_every_wait_fences(at_once: bool) -> None:
    machine = machine_with(VtdSettings(synchronous=True))
    waits = [wait(machine, number, fence=False) for number in (ONE, OTHER)]

    @machine.cpu(0)
    async def submitter(cpu: Cpu) -> None:
        await post(machine, cpu, [page(), waits[0], page(1), waits[1]], at_once=at_once)

    by(InTurn(last=True))(machine)
    assert said(list(machine.trace.events()), "queue.status", "invalidate.complete", "queue.look", "choice") == [
        ("invalidate.complete", 0),
        ("queue.status", ONE),
        ("invalidate.complete", 2),
        ("queue.status", OTHER),
    ]


# Draining


def test_a_request_to_drain_holds_up_the_next_wait_and_no_invalidation_of_another_cpu() -> None:
    machine = machine_with()
    writes(machine)

    @machine.cpu(0)
    async def first(cpu: Cpu) -> None:
        await post(machine, cpu, [page()])

    @machine.cpu(1)
    async def second(cpu: Cpu) -> None:
        done = cpu.memory.latch(status(machine, OTHER), OTHER)
        await post(machine, cpu, [page(1), wait(machine, OTHER)])
        await Wait(done)

    by(InTurn())(machine)
    assert said(list(machine.trace.events()), *DONE, "dma.write") == [
        ("invalidate.begin", 0),
        ("iotlb.invalidate", 0),
        ("invalidate.begin", 1),
        ("iotlb.invalidate", 1),
        ("invalidate.complete", 1),
        ("dma.write", 7),
        ("invalidate.complete", 0),
        ("queue.status", OTHER),
    ]


def test_a_request_to_drain_does_not_hold_up_a_wait_that_overtakes() -> None:
    machine = machine_with()
    writes(machine)
    loose = wait(machine, ONE, fence=False)
    events = submitted(by(InTurn(last=True)), machine, page(), loose, page(1), wait(machine, OTHER))
    assert said(events, "queue.status", "dma.write") == [
        ("queue.status", OTHER),
        ("dma.write", 7),
        ("queue.status", ONE),
    ]


# Status words


@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize("synchronous", ["false", "true"])
def test_a_wait_whose_status_word_was_not_reset_ends_at_once(resets: bool, synchronous: str) -> None:
    breaks = not resets and synchronous == "false"

    @scenario(expect=RELEASED if breaks else CLEAN)
    def two_flushes(m: Machine) -> None:
        """A driver unmaps, flushes and releases one page after the other, with one status word."""
        domain, owner = m.domain(1, devices=(NIC,)), m.domain(2)
        frames = [m.allocate(domain=owner) for _ in range(2)]
        for number, frame in enumerate(frames):
            m.let_map(frame, domain)
            m.premap(domain, offset(G, number), frame, cached=True)

        async def flush(cpu: Cpu, number: int) -> None:
            word = driver_of(m).poll_slot(cpu)
            if resets:
                await cpu.store32(word, 0)
            done = cpu.memory.latch(word, 1)
            await post(m, cpu, [page(number), WaitDescriptor(word, 1)])
            await AwaitUnit(done, "flush.done", "vtd0")

        @m.cpu(0)
        async def driver(cpu: Cpu) -> None:
            for number, frame in enumerate(frames):
                async with cpu.hypercall("remove"):
                    await cpu.write(iommu_dont_flush_iotlb, True)
                    await m.hypervisor.unmap(cpu, domain, offset(G, number))
                    await cpu.write(iommu_dont_flush_iotlb, False)
                    await flush(cpu, number)
                    await m.pages.put(cpu, frame)

        @m.device(NIC)
        async def reader(device: Device) -> None:
            await device.read(offset(G, 1))

    texts = {"levels": "3", "walk_at_once": "true", "revision": "merged", "synchronous": synchronous}
    done = ScenarioExploration(two_flushes.bind(texts), __file__)
    done.on("direct")
    assert done.failure is None
    assert done.is_exhausted
    assert {(cause.signature.kind, cause.signature.dfn) for cause in done.causes.values()} == (
        {(FindingKind.RELEASED, offset(G, 1))} if breaks else set()
    )
