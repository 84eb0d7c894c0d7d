"""The invalidation queue as a ring: how much it holds, who waits when it is full, and that nothing is lost in it."""

from collections.abc import Sequence

import attrs
import pytest

from emu.checks.findings import Finding, Stuck
from emu.cpus import Cpu
from emu.engine import Agent, Choose, Event, Execution, Exploration, Strategy, Wait
from emu.engine.hosts import direct
from emu.engine.strategies.optimal import Optimal
from emu.engine.strategies.random import RandomStrategy
from emu.engine.strategies.round_robin import RoundRobinStrategy
from emu.errors import ScenarioError
from emu.hypervisor.vtd.queue import qinval_update
from emu.iommus.ring import WriteTail
from emu.iommus.vtd.formats import (
    Descriptor,
    Granularity,
    IotlbInvalidation,
    WaitDescriptor,
    decode_descriptor,
    encode_descriptor,
)
from emu.iommus.vtd.queue import ENTRIES, InvalidationQueue
from emu.iommus.vtd.settings import VtdSettings
from emu.machine.description import Description
from emu.machine.machine import Machine
from emu.scenarios.library import find
from emu.units import Dfn, Maddr
from tests.events import steps
from tests.vtd import driver_of, unit_of

Told = tuple[object, object]

DONE = 7


def machine_with(entries: int = ENTRIES, *, synchronous: bool = False) -> Machine:
    return Machine(Description(settings=VtdSettings(queue_entries=entries, synchronous=synchronous), is_checking=True))


def page(number: int) -> IotlbInvalidation:
    """Return a descriptor that is told by its number."""
    return IotlbInvalidation(Granularity.NARROW, 1, Dfn(number))


def posts(machine: Machine, cpu_number: int, count: int, *, waits: bool = False) -> None:
    """Have a CPU post so many descriptors, none of which any other has; and wait for all of them at last."""

    @machine.cpu(cpu_number)
    async def poster(cpu: Cpu) -> None:
        iommu, address = driver_of(machine).iommus[0], driver_of(machine).poll_slot(cpu)
        for i in range(count):
            await qinval_update(cpu, iommu, page(cpu_number << 8 | i))
        if waits:
            done = cpu.memory.latch(address, DONE)
            await qinval_update(cpu, iommu, WaitDescriptor(address, DONE))
            await Wait(done)
            cpu.note("done")


def run(machine: Machine, strategy: Strategy) -> tuple[list[Event], list[Finding]]:
    execution = machine.execution(strategy)
    direct.run(execution)
    return list(machine.trace.events()), machine.conclude(execution)


@attrs.define
class UnitLast:
    """Let CPUs take turns, and the unit go on when none of them can; look how full its ring gets.

    Attributes:
        most: how many descriptors were posted and not fetched, at most.
        stops: the unit never goes on.
    """

    queue: InvalidationQueue | None = None
    most: int = 0
    stops: bool = False
    turns: RoundRobinStrategy = attrs.field(factory=RoundRobinStrategy)

    def pick(self, enabled: Sequence[Agent]) -> Agent | None:
        if self.queue is not None:
            self.most = max(self.most, self.queue.count - self.queue.fetched)
        cpus = [agent for agent in enabled if "cpu" in agent.labels]
        if not cpus and self.stops:
            return None
        return self.turns.pick(cpus or enabled)

    def choose(self, choice: Choose) -> int:
        return 0


def told(descriptor: Descriptor | None) -> Told:
    """Return what tells a descriptor from every other."""
    if isinstance(descriptor, WaitDescriptor):
        return "wait", descriptor.status_address
    assert isinstance(descriptor, IotlbInvalidation)
    return "iotlb", descriptor.dfn


def posted(events: Sequence[Event]) -> list[tuple[str, Told]]:
    """Return who has posted what, in order."""
    written = [event for event in events if event.name == "queue.write"]
    return [(event.agent.name, told(decode_descriptor(int(event.fields["value"], 16)))) for event in written]


def fetched(events: Sequence[Event]) -> list[Told]:
    """Return what the unit has fetched, in order."""
    got = [event.fields for event in events if event.name == "queue.fetch"]
    assert [fields["slot"] for fields in got] == list(range(len(got)))
    return [(fields["descriptor"], fields.get("dfn", fields.get("address"))) for fields in got]


# How much it holds


@pytest.mark.parametrize("entries", [2, 3, 4, 16])
def test_a_ring_holds_one_descriptor_less_than_it_has_entries(entries: int) -> None:
    machine = machine_with(entries)
    posts(machine, 0, 3 * entries)
    strategy = UnitLast(queue=unit_of(machine).queue)
    events, findings = run(machine, strategy)
    assert findings == []
    assert strategy.most == entries - 1
    assert len(fetched(events)) == 3 * entries


@pytest.mark.parametrize("entries", [2, 3, 4, 16])
def test_an_empty_ring_fills_all_slots_but_one_before_a_cpu_waits(entries: int) -> None:
    machine = machine_with(entries)
    posts(machine, 0, entries)
    events, _ = run(machine, UnitLast(stops=True))
    assert len(steps(events, "queue.post")) == entries - 1
    assert steps(events, "queue.room") == []


def test_a_full_ring_is_distinguished_from_an_empty_ring() -> None:
    machine = machine_with(4)
    posts(machine, 0, 9)
    run(machine, UnitLast(stops=True))
    queue = unit_of(machine).queue
    assert (queue.tail, queue.count, queue.fetched) == (3, 3, 0)


def test_the_default_ring_has_256_entries_and_nobody_waits_while_fewer_than_255_are_outstanding() -> None:
    assert VtdSettings().queue_entries == 256
    machine = machine_with()
    posts(machine, 0, 300)
    strategy = UnitLast(queue=unit_of(machine).queue)
    events, findings = run(machine, strategy)
    assert findings == []
    assert strategy.most == 255
    assert steps(events, "queue.post")[254] < steps(events, "queue.fetch")[0] < steps(events, "queue.post")[255]
    assert steps(events, "queue.room")[0] > steps(events, "queue.fetch")[0]


@pytest.mark.parametrize("cpus", [1, 3])
def test_cpus_that_wait_for_each_flush_never_wait_for_room_in_the_default_ring(cpus: int) -> None:
    machine = machine_with()
    for number in range(cpus):
        posts(machine, number, 80, waits=True)
    events, findings = run(machine, RoundRobinStrategy())
    assert findings == []
    assert steps(events, "queue.room") == []


def test_a_ring_of_fewer_than_two_entries_is_refused() -> None:
    with pytest.raises(ValueError, match="queue_entries"):
        VtdSettings(queue_entries=1)
    with pytest.raises(ScenarioError, match="parameter queue_entries takes"):
        find("remap_before_flush").bind({"queue_entries": "1"})


def test_a_scenario_may_set_the_entries() -> None:
    machine = find("remap_before_flush").bind({"queue_entries": "5"}).build()
    assert unit_of(machine).queue.entries == 5


# Who waits


def test_a_cpu_waits_for_room_under_the_lock_after_it_has_read_the_tail_and_before_it_writes_the_slot() -> None:
    machine = machine_with(2)
    posts(machine, 0, 2)
    events, _ = run(machine, UnitLast())
    wanted = ("lock.acquire", "queue.tail", "queue.room", "queue.write", "queue.post", "lock.release")
    names = [event.name for event in events if event.agent.name == "cpu0" and event.name in wanted]
    without = [name for name in wanted if name != "queue.room"]
    assert names == [*without, *wanted]
    (room,) = steps(events, "queue.room")
    assert steps(events, "queue.fetch")[0] < room


def test_while_one_cpu_waits_for_room_another_waits_for_its_lock() -> None:
    machine = machine_with(2)
    posts(machine, 0, 2)
    posts(machine, 1, 1)
    events, findings = run(machine, UnitLast())
    assert findings == []
    (holder,) = {event.agent.name for event in events if event.name == "queue.room"} - {"cpu0"}
    room, fetched_at = steps(events, "queue.room", agent=holder)[0], steps(events, "queue.fetch")[0]
    contended = [event for event in events if event.name == "lock.contend" and event.fields["holder"] == holder]
    assert [event.agent.name for event in contended] == ["cpu0"]
    assert contended[0].fields["held_since"] < contended[0].step < fetched_at < room
    released = next(step for step in steps(events, "lock.release", agent=holder) if step > room)
    assert released < next(step for step in steps(events, "lock.acquire", agent="cpu0") if step > contended[0].step)


def test_a_ring_that_is_never_emptied_is_reported_with_the_cpus_that_wait_for_it() -> None:
    machine = machine_with(2)
    iommu = driver_of(machine).iommus[0]

    @machine.cpu(0)
    async def spoiler(cpu: Cpu) -> None:
        await cpu.store128(unit_of(machine).queue.slot_address(0), encode_descriptor(page(0)) | 0xF)
        await WriteTail(unit_of(machine).queue, 1)
        for number in range(3):
            await qinval_update(cpu, iommu, page(number))

    _, (finding,) = run(machine, RoundRobinStrategy())
    assert isinstance(finding, Stuck)
    (waiter,) = finding.deadlock.waiters
    assert (waiter.agent, waiter.waits_for) == ("cpu0", "a free slot in vtd0's invalidation queue")
    assert unit_of(machine).queue.fetched == 1


@pytest.mark.parametrize("synchronous", [False, True])
def test_there_is_room_as_soon_as_a_descriptor_was_fetched_though_it_has_not_completed(synchronous: bool) -> None:
    machine = machine_with(2, synchronous=synchronous)
    posts(machine, 0, 2)
    events, _ = run(machine, UnitLast())
    (room,) = steps(events, "queue.room")
    assert steps(events, "queue.fetch")[0] < room
    assert (steps(events, "invalidate.complete")[0] < room) is synchronous


def test_units_have_a_ring_each() -> None:
    machine = machine_with(2)
    machine.scope(1, "01:00.0")

    @machine.cpu(0)
    async def poster(cpu: Cpu) -> None:
        for iommu in driver_of(machine).iommus:
            await qinval_update(cpu, iommu, page(1))

    events, _ = run(machine, UnitLast(stops=True))
    assert len(steps(events, "queue.post")) == 2
    assert [unit_of(machine, number).queue.count for number in (0, 1)] == [1, 1]


# Nothing is lost


@pytest.mark.parametrize("synchronous", [False, True])
@pytest.mark.parametrize("entries", [2, 3, 5, 256])
def test_a_ring_wraps_round_many_times(entries: int, synchronous: bool) -> None:
    machine = machine_with(entries, synchronous=synchronous)
    posts(machine, 0, 200, waits=True)
    events, findings = run(machine, RandomStrategy.seeded(1))
    assert findings == []
    assert fetched(events) == [one for _, one in posted(events)]
    assert len(fetched(events)) == 201
    queue = unit_of(machine).queue
    assert (queue.tail, queue.count, queue.fetched) == (201 % entries, 201, 201)


@pytest.mark.parametrize("entries", [2, 3, 4])
def test_a_slot_lies_where_the_ring_has_wrapped_to(entries: int) -> None:
    machine = machine_with(entries)
    posts(machine, 0, 2 * entries + 1)
    events, _ = run(machine, RoundRobinStrategy())
    addresses = [event.fields["address"] for event in events if event.name == "queue.write"]
    base = unit_of(machine).queue.base
    assert addresses == [base + 16 * (slot % entries) for slot in range(2 * entries + 1)]


@pytest.mark.parametrize("synchronous", [False, True])
@pytest.mark.parametrize("entries", [2, 3, 4])
def test_three_cpus_lose_no_descriptor_and_have_none_executed_twice(entries: int, synchronous: bool) -> None:
    for seed in range(200):
        machine = machine_with(entries, synchronous=synchronous)
        for number in range(3):
            posts(machine, number, 2, waits=True)
        events, findings = run(machine, RandomStrategy.seeded(seed))
        assert findings == []
        wrote, got = posted(events), fetched(events)
        assert got == [one for _, one in wrote]
        for number in range(3):
            own = [one for name, one in wrote if name == f"cpu{number}"]
            slot = driver_of(machine).poll_slots + 8 * number
            assert own == [("iotlb", number << 8), ("iotlb", number << 8 | 1), ("wait", Maddr(slot))]
        completed = [event.fields["dfn"] for event in events if event.name == "invalidate.complete"]
        assert completed == [dfn for kind, dfn in got if kind == "iotlb"]
        assert len(steps(events, "done")) == 3


@pytest.mark.parametrize("synchronous", [False, True])
def test_a_wait_ends_when_all_that_its_cpu_has_posted_before_has_completed(synchronous: bool) -> None:
    for seed in range(50):
        machine = machine_with(2 + seed % 3, synchronous=synchronous)
        for number in range(3):
            posts(machine, number, 2, waits=True)
        events, _ = run(machine, RandomStrategy.seeded(seed))
        completed = {event.fields["dfn"]: event.step for event in events if event.name == "invalidate.complete"}
        for number in range(3):
            (done,) = steps(events, "done", agent=f"cpu{number}")
            assert max(step for dfn, step in completed.items() if dfn >> 8 == number) < done


@pytest.mark.parametrize(
    ("entries", "synchronous"),
    [
        (2, False),
        (3, False),
        (4, False),
        (5, False),
        (2, True),
        (3, True),
    ],
)
def test_two_cpus_lose_nothing_in_any_trace(entries: int, synchronous: bool) -> None:
    last: list[Machine] = []

    def program(strategy: Strategy) -> Execution:
        last[:] = [machine_with(entries, synchronous=synchronous)]
        for number in (0, 1):
            posts(last[0], number, 2)
        return last[0].execution(strategy)

    exploration = Exploration(program, Optimal)
    for execution in exploration.each():
        direct.run(execution)
        assert last[0].conclude(execution) == []
        events = list(last[0].trace.events())
        assert fetched(events) == [one for _, one in posted(events)]
        assert len(fetched(events)) == 4
    assert exploration.executions == 6  # the orders in which the two may take the lock


def test_a_flush_completes_though_another_cpu_keeps_the_ring_full() -> None:
    machine = machine_with(2)
    domain = machine.domain(1, devices=("00:1f.0",))
    machine.premap(domain, Dfn(0x10), machine.allocate(), cached=True)
    results: list[int] = []

    @machine.cpu(0)
    async def unmapper(cpu: Cpu) -> None:
        results.append(await machine.hypervisor.unmap(cpu, domain, Dfn(0x10)))

    posts(machine, 1, 20)
    events, findings = run(machine, UnitLast())
    assert findings == []
    assert results == [0]
    assert len(machine.unit.iotlb) == 0
    assert len(fetched(events)) == 22
