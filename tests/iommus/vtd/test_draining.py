"""Requests in flight as their translation is invalidated: awaited by a unit that drains, or late after a promise."""

from collections.abc import Callable, Sequence
from functools import partial

import attrs
import pytest

from emu.checks.findings import Finding, FindingKind, Late
from emu.cpus import Cpu
from emu.devices.device import Commit, Device, Refuse
from emu.engine import Agent, Choose, Event, Strategy
from emu.engine.hosts import direct
from emu.hypervisor.ops import READ_WRITE, MapFlags, iommu_dont_flush_iotlb
from emu.iommus.vtd.formats import ContextInvalidation, Descriptor, Granularity, IotlbInvalidation
from emu.iommus.vtd.settings import VtdSettings
from emu.machine.description import Description
from emu.machine.machine import Machine
from emu.running.exploration import ScenarioExploration
from emu.scenarios.expectation import CLEAN, LATE
from emu.scenarios.scenario import scenario
from emu.units import Dfn, Mfn, offset
from tests.vtd import settle

Execute = Callable[..., list[Finding]]

G = Dfn(0x200)
NIC = "00:1f.0"
UNDRAINED = VtdSettings(drain=False)
DRAIN = [VtdSettings(), VtdSettings(synchronous=True), VtdSettings(walk_at_once=True)]
NO_DRAIN = [attrs.evolve(one, drain=False) for one in DRAIN]


@attrs.define
class HoldBack:
    """Let the device go first up to its access, which waits for an event, or until nobody else can go on."""

    machine: Machine
    event: str

    def pick(self, enabled: Sequence[Agent]) -> Agent:
        devices = [agent for agent in enabled if "device" in agent.labels]
        others = [agent for agent in enabled if "device" not in agent.labels]
        is_held = any(isinstance(agent.pending, Commit | Refuse) for agent in devices) and not self.has_happened()
        return others[0] if others and (is_held or not devices) else devices[0]

    def has_happened(self) -> bool:
        return any(event.name == self.event for event in self.machine.trace.events())

    def choose(self, choice: Choose) -> int:
        return 0


@pytest.mark.parametrize("cached", [False, True])
def test_a_write_that_is_left_after_its_device_was_taken_away_is_late(cached: bool) -> None:
    @scenario(expect=LATE)
    def detached(m: Machine) -> None:
        domain = m.domain(1, devices=(NIC,))
        frame = m.allocate(domain=domain)
        m.premap(domain, G, frame, cached=cached)

        @m.cpu(0)
        async def toolstack(cpu: Cpu) -> None:
            await m.assignment.detach(cpu, domain, m.devices[NIC])
            await m.pages.put(cpu, frame)

        @m.device(NIC)
        async def writer(device: Device) -> None:
            await device.write(G, 5)

    done = ScenarioExploration(detached.bind({"drain": "false", "levels": "3", "walk_at_once": "true"}), __file__)
    done.on("direct")
    assert done.is_exhausted
    assert FindingKind.LATE in {cause.kind for cause in done.causes}


def machine_with(vtd: VtdSettings, *, revision: str = "v1", flags: MapFlags = READ_WRITE) -> Machine:
    """Return a machine with a page G that its device has cached."""
    machine = Machine(Description(revision, settings=attrs.evolve(vtd, levels=3), is_checking=True))
    domain = machine.domain(1, devices=(NIC,))
    machine.premap(domain, G, machine.allocate(), cached=True, flags=flags)
    return machine


def accesses(machine: Machine, *, is_write: bool = True) -> list[object]:
    """Have the device make one access to G; return where its result will be."""
    results: list[object] = []

    @machine.device(NIC)
    async def user(device: Device) -> None:
        results.append(await (device.write(G, 0xBAD) if is_write else device.read(G)))

    return results


def unmaps(machine: Machine) -> None:
    """Have a CPU unmap G."""

    @machine.cpu(0)
    async def unmapper(cpu: Cpu) -> None:
        await machine.hypervisor.unmap(cpu, machine.domains[1], G)


def submits(machine: Machine, *descriptors: Descriptor) -> None:
    """Have a CPU clear G's leaf, submit descriptors, and wait until they have completed."""
    (tables,) = machine.unit.tables_ever(machine.devices[NIC].source_id)
    (path,) = machine.unit.ledger.paths(tables, G)

    @machine.cpu(0)
    async def submitter(cpu: Cpu) -> None:
        await cpu.store64(path.entries[-1].address, 0)
        await settle(machine, cpu, *descriptors)
        cpu.note("told")


def run(machine: Machine, strategy: Strategy) -> tuple[list[Finding], list[Event]]:
    execution = machine.execution(strategy)
    direct.run(execution)
    return machine.conclude(execution), list(machine.trace.events())


def step(events: Sequence[Event], *names: str) -> int:
    (one,) = [event.step for event in events if event.name in names]
    return one


def page(*, drain_reads: bool = True, drain_writes: bool = True, number: Dfn = G, tag: int = 1) -> IotlbInvalidation:
    return IotlbInvalidation(Granularity.NARROW, tag, number, drain_reads=drain_reads, drain_writes=drain_writes)


# What an invalidation waits for


@pytest.mark.parametrize("is_write", [False, True])
def test_a_unit_that_drains_completes_when_the_request_was_committed(is_write: bool) -> None:
    machine = machine_with(VtdSettings())
    frame = machine.domains[1].p2m[G]
    results = accesses(machine, is_write=is_write)
    unmaps(machine)
    findings, events = run(machine, HoldBack(machine, "call.return"))
    assert findings == []
    assert step(events, "iotlb.invalidate") < step(events, "dma.read", "dma.write")
    assert step(events, "dma.read", "dma.write") < step(events, "invalidate.complete")
    assert results == [True if is_write else 0]
    assert machine.memory.peek(frame << 12) == (0xBAD if is_write else 0)


@pytest.mark.parametrize("is_write", [False, True])
@pytest.mark.parametrize("vtd", NO_DRAIN)
def test_a_unit_that_does_not_drain_completes_while_the_request_is_in_flight(vtd: VtdSettings, is_write: bool) -> None:
    machine = machine_with(vtd)
    frame = machine.domains[1].p2m[G]
    results = accesses(machine, is_write=is_write)
    unmaps(machine)
    _, events = run(machine, HoldBack(machine, "call.return"))
    assert step(events, "invalidate.complete") < step(events, "call.return") < step(events, "dma.read", "dma.write")
    assert results == [True if is_write else 0]
    assert machine.memory.peek(frame << 12) == (0xBAD if is_write else 0)
    assert [event for event in events if event.name == "dma.again"] == []


@pytest.mark.parametrize("synchronous", [False, True])
@pytest.mark.parametrize("is_write", [False, True])
@pytest.mark.parametrize("drain_writes", [False, True])
@pytest.mark.parametrize("drain_reads", [False, True])
def test_reads_are_drained_by_dr_and_writes_by_dw(
    drain_reads: bool, drain_writes: bool, is_write: bool, synchronous: bool
) -> None:
    machine = machine_with(VtdSettings(synchronous=synchronous))
    results = accesses(machine, is_write=is_write)
    submits(machine, page(drain_reads=drain_reads, drain_writes=drain_writes))
    findings, events = run(machine, HoldBack(machine, "told"))
    assert findings == []
    is_drained = drain_writes if is_write else drain_reads
    made = step(events, "dma.read", "dma.write", "dma.fault")
    if synchronous:
        assert [event.name for event in events].count("dma.again") == is_drained
        assert results == [[True, False][is_drained] if is_write else [0, None][is_drained]]
    else:
        assert (made < step(events, "invalidate.complete")) is is_drained
        assert results == [True if is_write else 0]


@pytest.mark.parametrize("granularity", list(Granularity))
@pytest.mark.parametrize("drain", [False, True])
def test_invalidations_of_every_width_drain_alike(granularity: Granularity, drain: bool) -> None:
    machine = machine_with(VtdSettings(drain=drain))
    accesses(machine)
    submits(machine, IotlbInvalidation(granularity, 1, G))
    findings, events = run(machine, HoldBack(machine, "told"))
    assert findings == []
    assert (step(events, "dma.write") < step(events, "invalidate.complete")) is drain


@pytest.mark.parametrize("other", [page(number=offset(G, 1)), page(tag=2), IotlbInvalidation(Granularity.DOMAIN, 2)])
def test_an_invalidation_waits_for_no_request_that_it_does_not_cover(other: IotlbInvalidation) -> None:
    machine = machine_with(VtdSettings())
    accesses(machine)
    submits(machine, other)
    findings, events = run(machine, HoldBack(machine, "told"))
    assert findings == []
    assert step(events, "invalidate.complete") < step(events, "dma.write")


def test_a_context_invalidation_drains_nothing() -> None:
    machine = machine_with(VtdSettings())
    accesses(machine)
    submits(machine, ContextInvalidation(Granularity.GLOBAL))
    findings, events = run(machine, HoldBack(machine, "told"))
    assert findings == []
    assert step(events, "context.invalidate") < step(events, "told") < step(events, "dma.write")


def test_what_one_invalidation_has_left_the_next_one_may_drain() -> None:
    machine = machine_with(VtdSettings())
    accesses(machine)
    submits(machine, page(drain_writes=False), page())
    findings, events = run(machine, HoldBack(machine, "told"))
    assert findings == []
    first, second = [event.step for event in events if event.name == "invalidate.complete"]
    assert first < step(events, "dma.write") < second


# What is found


@pytest.mark.parametrize("is_write", [False, True])
@pytest.mark.parametrize("vtd", NO_DRAIN)
def test_an_access_that_was_left_in_flight_and_comes_after_the_promise_is_late_and_not_illegal(
    vtd: VtdSettings, is_write: bool
) -> None:
    machine = machine_with(vtd)
    frame = machine.domains[1].p2m[G]
    accesses(machine, is_write=is_write)
    unmaps(machine)
    findings, events = run(machine, HoldBack(machine, "call.return"))
    made, returned = step(events, "dma.read", "dma.write"), step(events, "call.return")
    assert findings == [Late(NIC, made, "vtd0", 1, G, frame, is_write, "cpu0", "unmap", returned)]
    assert findings[0].kind is FindingKind.LATE


@pytest.mark.parametrize("is_write", [False, True])
@pytest.mark.parametrize("vtd", DRAIN)
def test_where_the_unit_drains_none_is_late(vtd: VtdSettings, is_write: bool) -> None:
    machine = machine_with(vtd)
    accesses(machine, is_write=is_write)
    unmaps(machine)
    assert run(machine, HoldBack(machine, "call.return"))[0] == []


@pytest.mark.parametrize("event", ["iotlb.invalidate", "invalidate.complete", "flush.done"])
def test_an_access_that_comes_before_the_promise_is_not_late_though_its_translation_is_gone(event: str) -> None:
    machine = machine_with(UNDRAINED)
    accesses(machine)
    unmaps(machine)
    findings, events = run(machine, HoldBack(machine, event))
    assert findings == []
    assert step(events, event) < step(events, "dma.write") < step(events, "call.return")


@pytest.mark.parametrize("is_write", [False, True])
def test_where_nobody_has_promised_anything_no_access_is_late(is_write: bool) -> None:
    machine = machine_with(UNDRAINED)
    accesses(machine, is_write=is_write)
    submits(machine, IotlbInvalidation(Granularity.GLOBAL))
    assert run(machine, HoldBack(machine, "told"))[0] == []


def test_a_promise_about_another_page_does_not_count() -> None:
    machine = machine_with(UNDRAINED)
    accesses(machine)
    submits(machine, page())

    @machine.cpu(1)
    async def flusher(cpu: Cpu) -> None:
        await machine.hypervisor.flush(cpu, machine.domains[1], offset(G, 1), pages=1)

    findings, events = run(machine, HoldBack(machine, "call.return"))
    assert findings == []
    assert step(events, "call.return") < step(events, "dma.write")


def test_a_promise_from_before_the_request_was_translated_does_not_count() -> None:
    machine = machine_with(UNDRAINED)
    (tables,) = machine.unit.tables_ever(machine.devices[NIC].source_id)
    (path,) = machine.unit.ledger.paths(tables, G)
    mapped, new = machine.signal("mapped"), machine.allocate()

    @machine.cpu(0)
    async def changer(cpu: Cpu) -> None:
        await machine.hypervisor.map(cpu, machine.domains[1], G, new)
        await mapped.send()
        await cpu.store64(path.entries[-1].address, 0)
        await settle(machine, cpu, page())
        cpu.note("told")

    @machine.device(NIC)
    async def writer(device: Device) -> None:
        await mapped.wait()
        await device.write(G, 0xBAD)

    findings, events = run(machine, HoldBack(machine, "told"))
    assert findings == []
    assert step(events, "call.return") < step(events, "iotlb.fill")
    assert step(events, "told") < step(events, "dma.write")
    assert machine.memory.peek(new << 12) == 0xBAD


def test_a_write_under_a_page_that_was_replaced_goes_late_to_the_old_frame() -> None:
    machine = machine_with(UNDRAINED)
    old, new = machine.domains[1].p2m[G], machine.allocate()
    accesses(machine)

    @machine.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        await machine.hypervisor.map(cpu, machine.domains[1], G, new)

    (finding,), _ = run(machine, HoldBack(machine, "call.return"))
    assert isinstance(finding, Late)
    assert (finding.frame, finding.call) == (old, "map")
    assert (machine.memory.peek(old << 12), machine.memory.peek(new << 12)) == (0xBAD, 0)


@pytest.mark.parametrize(
    ("again", "kinds"),
    [
        ("the same frame", []),
        ("the same frame, to be read only", [FindingKind.LATE]),
        ("another frame", [FindingKind.LATE]),
    ],
)
def test_an_access_is_late_unless_its_page_maps_the_same_frame_again_with_at_least_these_permissions(
    again: str, kinds: list[FindingKind]
) -> None:
    machine = machine_with(UNDRAINED)
    frame = machine.domains[1].p2m[G] if again.startswith("the same") else machine.allocate()
    flags = MapFlags.READABLE if again.endswith("only") else READ_WRITE
    accesses(machine)

    @machine.cpu(0)
    async def remapper(cpu: Cpu) -> None:
        await machine.hypervisor.unmap(cpu, machine.domains[1], G)
        await machine.hypervisor.map(cpu, machine.domains[1], G, frame, flags=flags)
        cpu.note("mapped again")

    findings, events = run(machine, HoldBack(machine, "mapped again"))
    assert [finding.kind for finding in findings] == kinds
    assert step(events, "mapped again") < step(events, "dma.write")


@pytest.mark.parametrize("flushes", ["in time", "never"])
def test_a_deferred_unmap_promises_nothing_until_it_is_flushed(flushes: str) -> None:
    machine = machine_with(UNDRAINED, revision="merged")
    frame = machine.domains[1].p2m[G]
    accesses(machine)

    @machine.cpu(0)
    async def unmapper(cpu: Cpu) -> None:
        async with cpu.hypercall("memory_op"):
            await cpu.write(iommu_dont_flush_iotlb, True)
            await machine.hypervisor.unmap(cpu, machine.domains[1], G)
            await cpu.write(iommu_dont_flush_iotlb, False)
            if flushes == "in time":
                await machine.hypervisor.flush(cpu, machine.domains[1], G, pages=1)
                cpu.note("told")

    findings, _ = run(machine, HoldBack(machine, "told"))
    if flushes == "never":
        assert [finding.kind for finding in findings] == [FindingKind.OWED]
        return
    (finding,) = findings
    assert isinstance(finding, Late)
    assert (finding.frame, finding.call) == (frame, "flush")


def test_a_deferred_unmap_whose_debt_was_paid_promises_at_the_end_of_its_hypercall() -> None:
    machine = machine_with(UNDRAINED, revision="merged")
    accesses(machine)

    @machine.cpu(0)
    async def unmapper(cpu: Cpu) -> None:
        async with cpu.hypercall("memory_op"):
            await cpu.write(iommu_dont_flush_iotlb, True)
            await machine.hypervisor.unmap(cpu, machine.domains[1], G)
            await cpu.write(iommu_dont_flush_iotlb, False)
            await settle(machine, cpu, page())

    (finding,), events = run(machine, HoldBack(machine, "hypercall.settle"))
    assert isinstance(finding, Late)
    assert (finding.call, finding.promised) == ("unmap", step(events, "hypercall.settle"))
    assert step(events, "hypercall.settle") < finding.step


def test_the_first_of_several_promises_is_named() -> None:
    machine = machine_with(UNDRAINED)
    accesses(machine)

    @machine.cpu(0)
    async def unmapper(cpu: Cpu) -> None:
        await machine.hypervisor.unmap(cpu, machine.domains[1], G)
        await machine.hypervisor.flush_all(cpu, machine.domains[1])
        cpu.note("told")

    (finding,), events = run(machine, HoldBack(machine, "told"))
    assert isinstance(finding, Late)
    assert (finding.call, finding.promised) == (
        "unmap",
        next(event.step for event in events if event.name == "call.return"),
    )


def test_an_access_that_is_made_anew_afterwards_is_not_late() -> None:
    machine = machine_with(UNDRAINED)
    unmaps(machine)
    returned = machine.signal("returned")
    got: list[object] = []

    @machine.device(NIC)
    async def writer(device: Device) -> None:
        await device.write(G, 0xBAD)
        await returned.send()
        got.append(await device.read(G))

    findings, _ = run(machine, HoldBack(machine, "call.return"))
    assert [finding.kind for finding in findings] == [FindingKind.LATE]
    assert got == [None]


@pytest.mark.parametrize("is_write", [False, True])
def test_an_access_that_no_descriptor_asked_to_drain_is_late_too(
    monkeypatch: pytest.MonkeyPatch, is_write: bool
) -> None:
    undrained = partial(IotlbInvalidation, drain_reads=False, drain_writes=False)
    monkeypatch.setattr("emu.hypervisor.vtd.flush.IotlbInvalidation", undrained)
    machine = machine_with(VtdSettings())
    accesses(machine, is_write=is_write)
    unmaps(machine)
    findings, events = run(machine, HoldBack(machine, "call.return"))
    assert step(events, "call.return") < step(events, "dma.read", "dma.write")
    assert [finding.kind for finding in findings] == [FindingKind.LATE]


def refused_late(machine: Machine, *, order: int) -> list[Finding]:
    """Have a write refused after a CPU has mapped what permits it."""
    new = machine.allocate(page_order=order)
    results = accesses(machine)

    @machine.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        await machine.hypervisor.map(cpu, machine.domains[1], G, new, page_order=order)

    findings, events = run(machine, HoldBack(machine, "call.return"))
    assert results == [False]
    assert step(events, "call.return") < step(events, "dma.fault")
    return findings


def test_an_access_that_is_refused_late_for_want_of_permission_was_not_made() -> None:
    machine = machine_with(UNDRAINED, flags=MapFlags.READABLE)
    assert FindingKind.LATE not in {finding.kind for finding in refused_late(machine, order=0)}


def test_an_access_that_is_refused_late_by_a_cached_fault_was_not_made() -> None:
    machine = Machine(Description(settings=VtdSettings(levels=3, drain=False, caching_mode=True), is_checking=True))
    machine.premap(machine.domain(1, devices=(NIC,)), offset(G, 8), machine.allocate())
    assert FindingKind.LATE not in {finding.kind for finding in refused_late(machine, order=1)}


def test_a_request_that_was_left_and_is_then_translated_anew_is_not_left() -> None:
    request = machine_with(UNDRAINED).unit.requests.open(1, G, is_write=True)
    request.translate(1)
    request.is_undrained = True
    request.recall()
    request.translate(1)
    assert not request.is_undrained


# Every trace


def unmapped_while_written(m: Machine, *, is_write: bool = True) -> None:
    """A device accesses a page that a CPU unmaps."""
    domain = m.domain(1, devices=(NIC,))
    m.premap(domain, G, m.allocate())

    @m.cpu(0)
    async def unmapper(cpu: Cpu) -> None:
        await m.hypervisor.unmap(cpu, domain, G)

    @m.device(NIC)
    async def user(device: Device) -> None:
        await device.access(G, is_write=is_write, value=0xBAD)


@pytest.mark.parametrize("is_write", [False, True])
@pytest.mark.parametrize("walk_at_once", [False, True])
@pytest.mark.parametrize("drain", [False, True])
def test_some_trace_has_a_late_access_where_the_unit_does_not_drain_and_none_where_it_does(
    drain: bool, walk_at_once: bool, is_write: bool
) -> None:
    values = {"levels": "3", "drain": drain, "walk_at_once": walk_at_once, "is_write": is_write}
    texts = {name: str(value).lower() for name, value in values.items()}
    bound = scenario(expect=CLEAN if drain else LATE)(unmapped_while_written).bind(texts)
    done = ScenarioExploration(bound, __file__)
    done.on("direct")
    assert done.is_exhausted
    assert {cause.signature.kind for cause in done.causes.values()} == (set() if drain else {FindingKind.LATE})
    assert all(cause.executions < done.done for cause in done.causes.values())


def test_no_schedule_of_a_device_and_two_cpus_has_a_late_access_where_the_unit_drains(execute: Execute) -> None:
    for seed in range(150):
        machine = machine_with(VtdSettings(iotlb_entries=1 + seed % 2))
        neighbour = offset(G, 1)
        machine.premap(machine.domains[1], neighbour, machine.allocate())
        new = machine.allocate()

        @machine.cpu(0)
        async def unmapper(cpu: Cpu, m: Machine = machine) -> None:
            await m.hypervisor.unmap(cpu, m.domains[1], G)

        @machine.cpu(1)
        async def mapper(cpu: Cpu, m: Machine = machine, page: Dfn = neighbour, mfn: Mfn = new) -> None:
            await m.hypervisor.map(cpu, m.domains[1], page, mfn)

        @machine.device(NIC)
        async def user(device: Device, page: Dfn = neighbour) -> None:
            for dfn in (page, G, page):
                await device.write(dfn, 0xBAD)

        assert [one for one in execute(machine, seed) if one.kind in {FindingKind.LATE, FindingKind.ILLEGAL}] == []


def unmapped_and_mapped_again(m: Machine) -> None:
    """A device writes a page that a CPU unmaps and then maps to the same frame: a while it must not."""
    domain, frame = m.domain(1, devices=(NIC,)), m.allocate()
    m.premap(domain, G, frame)

    @m.cpu(0)
    async def remapper(cpu: Cpu) -> None:
        await m.hypervisor.unmap(cpu, domain, G)
        await m.hypervisor.map(cpu, domain, G, frame)

    @m.device(NIC)
    async def writer(device: Device) -> None:
        await device.write(G, 0xBAD)


def test_an_access_that_is_late_only_until_the_page_is_mapped_again_is_found_in_some_trace() -> None:
    texts = {"levels": "3", "drain": "false", "synchronous": "true", "walk_at_once": "true"}
    done = ScenarioExploration(scenario(expect=LATE)(unmapped_and_mapped_again).bind(texts), __file__)
    done.on("direct")
    assert done.is_exhausted
    assert {cause.signature.kind for cause in done.causes.values()} == {FindingKind.LATE}


def test_such_an_access_is_late_under_a_schedule_that_makes_it_in_between() -> None:
    machine = Machine(Description(settings=attrs.evolve(UNDRAINED, levels=3)))
    unmapped_and_mapped_again(machine)
    findings, _ = run(machine, HoldBack(machine, "call.return"))
    assert [finding.kind for finding in findings] == [FindingKind.LATE]
