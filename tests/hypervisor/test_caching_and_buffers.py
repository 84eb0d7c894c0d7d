"""What the hardware holds back, and whether the hypervisor has it come out: caches, write buffers, cached faults."""

from collections.abc import Callable

import pytest

from emu.checks.details import Evidence
from emu.checks.findings import Finding, FindingKind, Stale
from emu.cpus import Cpu
from emu.devices.device import Device
from emu.engine import Event
from emu.hypervisor.revisions.loader import BUNDLED
from emu.hypervisor.vtd.state import VtdIommu
from emu.iommus.vtd.settings import VtdSettings
from emu.machine.description import Description
from emu.machine.machine import Machine
from emu.memory import LINE_BYTES
from emu.units import Dfn
from tests.events import steps

Execute = Callable[..., list[Finding]]

G = Dfn(0x40)
NEIGHBOUR = Dfn(0x48)
LOCK = "d1.mapping_lock"

revisions = pytest.mark.parametrize("revision", BUNDLED)


def machine_with(revision: str, vtd: VtdSettings, *, premapped: bool = False) -> Machine:
    machine = Machine(Description(revision=revision, settings=vtd))
    domain = machine.domain(1, devices=("00:1f.0",))
    if premapped:
        machine.premap(domain, G, machine.allocate())
    return machine


def map_then_read(execute: Execute, machine: Machine, order: int = 0) -> tuple[list[Finding], int | None]:
    """Have a CPU map pages, and afterwards a device read the first; return the findings and what was read."""
    new = machine.allocate(page_order=order)
    mapped = machine.signal("mapped")
    reads: list[int | None] = []

    @machine.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        await machine.hypervisor.map(cpu, machine.domains[1], G, new, page_order=order)
        await mapped.send()

    @machine.device("00:1f.0")
    async def reader(device: Device) -> None:
        await mapped.wait()
        reads.append(await device.read(G))

    findings = execute(machine)
    return findings, reads[0]


def called(execute: Execute, revision: str, call: str, *, coherent: bool) -> list[Event]:
    """Run one call for a page that is mapped; return the events."""
    machine = machine_with(revision, VtdSettings(coherent=coherent), premapped=True)
    new = machine.allocate()

    @machine.cpu(0)
    async def caller(cpu: Cpu) -> None:
        if call == "map":
            await machine.hypervisor.map(cpu, machine.domains[1], G, new)
        else:
            await machine.hypervisor.unmap(cpu, machine.domains[1], G)

    assert execute(machine) == []
    return list(machine.trace.events())


@revisions
def test_a_map_writes_its_leaf_back_before_it_releases_the_lock(execute: Execute, revision: str) -> None:
    events = called(execute, revision, "map", coherent=False)
    (stored,) = steps(events, "pte.write")
    (written_back,) = steps(events, "line.write_back")
    (released,) = steps(events, "lock.release", lock=LOCK)
    assert stored < written_back < released


@revisions
def test_an_unmap_writes_its_leaf_back_after_it_has_released_the_lock(execute: Execute, revision: str) -> None:
    events = called(execute, revision, "unmap", coherent=False)
    (cleared,) = steps(events, "pte.clear")
    (written_back,) = steps(events, "line.write_back")
    (released,) = steps(events, "lock.release", lock=LOCK)
    assert cleared < released < written_back


@revisions
@pytest.mark.parametrize("call", ["map", "unmap"])
def test_a_leaf_is_written_back_before_its_invalidation_begins(execute: Execute, revision: str, call: str) -> None:
    events = called(execute, revision, call, coherent=False)
    (written_back,) = steps(events, "line.write_back")
    (begun,) = steps(events, "invalidate.begin")
    assert written_back < begun


@revisions
@pytest.mark.parametrize("call", ["map", "unmap"])
def test_nothing_is_written_back_where_walks_snoop_the_caches(execute: Execute, revision: str, call: str) -> None:
    assert steps(called(execute, revision, call, coherent=True), "line.write_back") == []


@revisions
def test_the_entries_of_new_tables_are_written_back_too(execute: Execute, revision: str) -> None:
    machine = machine_with(revision, VtdSettings(coherent=False))
    findings, read = map_then_read(execute, machine)
    assert (findings, read) == ([], 0)
    stored = [event.fields["address"] & -LINE_BYTES for event in machine.trace.events() if event.name == "pte.write"]
    written = [event.fields["address"] for event in machine.trace.events() if event.name == "line.write_back"]
    assert written == list(dict.fromkeys(stored))
    assert len(written) == 4


@revisions
def test_a_new_table_is_entered_complete_before_a_walk_can_see_it(execute: Execute, revision: str) -> None:
    machine = machine_with(revision, VtdSettings(coherent=False))
    map_then_read(execute, machine)
    seen = [version.value for version in machine.memory.history(machine.domains[1].pgd) if version.visible > 0]
    assert len(seen) == 3
    versions = machine.memory.history(machine.domains[1].pgd)[1:]
    assert [version.value & 3 for version in versions if version.visible < machine.trace.step] == [3]


@revisions
@pytest.mark.parametrize("coherent", [True, False])
def test_a_map_that_has_nothing_to_invalidate_drains_the_write_buffer(
    execute: Execute, revision: str, coherent: bool
) -> None:
    machine = machine_with(revision, VtdSettings(write_buffer=True, coherent=coherent))
    findings, read = map_then_read(execute, machine)
    events = list(machine.trace.events())
    assert (findings, read) == ([], 0)
    assert len(steps(events, "buffer.drain")) == 1
    assert steps(events, "invalidate.begin") == []


@revisions
def test_an_invalidation_drains_the_write_buffer_by_itself(execute: Execute, revision: str) -> None:
    machine = machine_with(revision, VtdSettings(write_buffer=True), premapped=True)
    findings, _ = map_then_read(execute, machine)
    assert findings == []
    assert steps(list(machine.trace.events()), "buffer.drain") == []


@revisions
def test_nothing_is_drained_where_there_is_no_write_buffer(execute: Execute, revision: str) -> None:
    machine = machine_with(revision, VtdSettings())
    map_then_read(execute, machine)
    assert steps(list(machine.trace.events()), "buffer.drain") == []


async def drain_nothing(cpu: Cpu, iommu: VtdIommu) -> None:
    """Leave the stores where they are."""


@revisions
def test_without_that_drain_a_mapped_page_may_still_fault(
    execute: Execute, revision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emu.hypervisor.vtd.flush.iommu_flush_write_buffer", drain_nothing)
    (finding,), read = map_then_read(execute, machine_with(revision, VtdSettings(write_buffer=True)))
    assert read is None
    assert isinstance(finding, Stale)
    assert (finding.kind, finding.promise, finding.dfn) == (FindingKind.STALE_FAULT, "mapped", G)


@revisions
def test_without_a_write_back_a_mapped_page_may_still_fault(
    execute: Execute, revision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emu.memory.Memory.write_back", lambda *_: None)
    (finding,), read = map_then_read(execute, machine_with(revision, VtdSettings(coherent=False)))
    assert read is None
    assert isinstance(finding, Stale)
    assert (finding.kind, finding.promise) == (FindingKind.STALE_FAULT, "mapped")


def fault_map_read(
    execute: Execute, revision: str, order: int, *, caching_mode: bool = True
) -> tuple[Machine, list[Finding], list[int | None]]:
    """Have a device read a page before and after it is mapped, in a table that is there already."""
    machine = machine_with(revision, VtdSettings(caching_mode=caching_mode))
    machine.premap(machine.domains[1], NEIGHBOUR, machine.allocate())
    new = machine.allocate(page_order=order)
    faulted, mapped = machine.signal("faulted"), machine.signal("mapped")
    reads: list[int | None] = []

    @machine.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        await faulted.wait()
        await machine.hypervisor.map(cpu, machine.domains[1], G, new, page_order=order)
        await mapped.send()

    @machine.device("00:1f.0")
    async def reader(device: Device) -> None:
        reads.append(await device.read(G))
        await faulted.send()
        await mapped.wait()
        reads.append(await device.read(G))

    findings = execute(machine)
    return machine, findings, reads


@pytest.mark.parametrize(("revision", "order"), [("implicit", 0), ("implicit", 1), ("v1", 0), ("merged", 0)])
def test_in_caching_mode_a_device_keeps_faulting_on_a_page_that_was_flushed_under_the_wrong_domain_id(
    execute: Execute, revision: str, order: int
) -> None:
    machine, findings, reads = fault_map_read(execute, revision, order)
    assert reads == [None, None]
    assert [event.fields["leaf"] for event in machine.trace.events() if event.name == "iotlb.hit"] == [0]
    first = findings[0]
    assert isinstance(first, Stale)
    assert (first.kind, first.promise, first.dfn) == (FindingKind.STALE_FAULT, "mapped", G)
    assert first.evidence is Evidence.OBSERVED


@pytest.mark.parametrize("revision", ["v1", "merged"])
def test_in_caching_mode_the_flush_of_the_whole_domain_ends_the_faults(execute: Execute, revision: str) -> None:
    machine, findings, reads = fault_map_read(execute, revision, 1)
    assert (findings, reads) == ([], [None, 0])
    assert steps(list(machine.trace.events()), "iotlb.hit") == []


@revisions
def test_a_unit_that_caches_no_faults_walks_again_after_each(execute: Execute, revision: str) -> None:
    _, findings, reads = fault_map_read(execute, revision, 0, caching_mode=False)
    assert (findings, reads) == ([], [None, 0])


@revisions
def test_a_cached_fault_of_one_device_is_not_used_for_another(execute: Execute, revision: str) -> None:
    machine = Machine(Description(revision=revision, settings=VtdSettings(caching_mode=True)))
    machine.domain(1, devices=("00:1f.0",))
    other = machine.domain(2, devices=("00:02.0",))
    machine.premap(other, G, machine.allocate())
    faulted = machine.signal("faulted")
    reads: list[int | None] = []

    @machine.device("00:1f.0")
    async def faulting(device: Device) -> None:
        await device.read(G)
        await faulted.send()

    @machine.device("00:02.0")
    async def reading(device: Device) -> None:
        await faulted.wait()
        reads.append(await device.read(G))

    assert execute(machine) == []
    assert reads == [0]
