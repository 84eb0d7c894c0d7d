"""Frames have an owner and references, and what comes of a frame is judged when it is freed or given away."""

from collections.abc import Awaitable, Callable

import pytest

from emu.checks.details import Evidence
from emu.checks.findings import FindingKind, Released
from emu.checks.releases import ReleaseJudge
from emu.cpus import Cpu
from emu.engine.hosts import direct
from emu.engine.strategies.round_robin import RoundRobinStrategy
from emu.errors import ModelError
from emu.hypervisor.domain import Domain
from emu.hypervisor.ops import READ_WRITE, MapFlags, iommu_dont_flush_iotlb
from emu.hypervisor.page import Page
from emu.machine.description import Description
from emu.machine.machine import Machine
from emu.reports.findings import sentence
from emu.running.exploration import ScenarioExploration
from emu.scenarios.library import find
from emu.units import Dfn, Mfn

G = Dfn(0x1000)
Body = Callable[[Machine, Cpu, Domain, Mfn], Awaitable[None]]


def run(body: Body, *, is_mapped: bool = False) -> Machine:
    """Run a body on a CPU, with a frame that domain 1 owns and a domain 2 beside it."""
    machine = Machine(Description(is_checking=True))
    domain = machine.domain(1, devices=("00:1f.0",))
    machine.domain(2, devices=("00:02.0",))
    frame = machine.allocate(domain=domain)
    if is_mapped:
        machine.premap(domain, G, frame, cached=True)

    @machine.cpu(0)
    async def only(cpu: Cpu) -> None:
        async with cpu.hypercall("memory_op"):
            await body(machine, cpu, domain, frame)

    execution = machine.execution(RoundRobinStrategy())
    direct.run(execution)
    machine.conclude(execution)
    return machine


def frame_of(machine: Machine) -> Page:
    """Return the frame that is no page table."""
    (page,) = (page for page in machine.pages.frames.values() if page.table is None)
    return page


def released(machine: Machine) -> list[Released]:
    assert all(isinstance(one, Released) and one.kind is FindingKind.RELEASED for one in machine.findings)
    return [one for one in machine.findings if isinstance(one, Released)]


def test_the_owner_gets_a_reference_and_nobody_else() -> None:
    got: list[bool] = []

    async def body(machine: Machine, cpu: Cpu, domain: Domain, frame: Mfn) -> None:
        got.append(await machine.pages.get(frame, domain))
        got.append(await machine.pages.get(frame, machine.domains[2]))

    page = frame_of(run(body))
    assert got == [True, False]
    assert page.references == 2


def test_an_owner_lets_a_domain_map_a_frame_until_that_is_withdrawn() -> None:
    done: list[object] = []

    async def body(machine: Machine, cpu: Cpu, domain: Domain, frame: Mfn) -> None:
        page, other = machine.pages.page(frame), machine.domains[2]
        done.append(await machine.pages.let_map(cpu, frame, other, MapFlags.READABLE))
        done.append(await machine.pages.let_map(cpu, frame, other, MapFlags.WRITABLE))
        done.append(dict(page.grants))
        done.extend([await machine.pages.withdraw(cpu, frame, other) for _ in range(2)])

    page = frame_of(run(body))
    assert done == [True, True, {2: READ_WRITE}, True, False]
    assert (page.grants, page.references) == ({}, 1)


def test_what_the_owner_lets_others_do_ends_with_the_frame() -> None:
    done: list[bool] = []

    async def body(machine: Machine, cpu: Cpu, domain: Domain, frame: Mfn) -> None:
        other = machine.domains[2]
        await machine.pages.let_map(cpu, frame, other)
        await machine.pages.put(cpu, frame)
        done.append(await machine.pages.let_map(cpu, frame, other))
        await machine.pages.allocate(cpu, domain)
        done.append(await machine.pages.withdraw(cpu, frame, other))

    assert frame_of(run(body)).grants == {}
    assert done == [False, False]


def test_a_frame_is_free_when_its_last_reference_goes() -> None:
    freed: list[bool] = []

    async def body(machine: Machine, cpu: Cpu, domain: Domain, frame: Mfn) -> None:
        await machine.pages.get(frame, domain)
        freed.append(await machine.pages.put(cpu, frame))
        freed.append(await machine.pages.put(cpu, frame))

    page = frame_of(run(body))
    assert freed == [False, True]
    assert (page.owner, page.references) == (None, 0)


def test_the_frame_that_was_freed_last_is_allocated_next_and_zeroed() -> None:
    allocated: list[Mfn] = []

    async def body(machine: Machine, cpu: Cpu, domain: Domain, frame: Mfn) -> None:
        machine.memory.put(frame << 12, 0xC0FFEE)
        await machine.pages.put(cpu, frame)
        allocated.append(await machine.pages.allocate(cpu, machine.domains[2]))

    machine = run(body)
    page = frame_of(machine)
    assert allocated == [page.mfn]
    assert page.owner is machine.domains[2]
    assert page.generation == 2
    assert machine.memory.peek(page.mfn << 12) == 0


def test_without_a_free_frame_a_fresh_one_is_allocated() -> None:
    allocated: list[Mfn] = []

    async def body(machine: Machine, cpu: Cpu, domain: Domain, frame: Mfn) -> None:
        allocated.append(await machine.pages.allocate(cpu, domain))
        assert allocated[0] != frame

    assert released(run(body)) == []


def test_a_reference_that_nobody_has_cannot_be_put() -> None:
    async def body(machine: Machine, cpu: Cpu, domain: Domain, frame: Mfn) -> None:
        await machine.pages.put(cpu, frame)
        await machine.pages.put(cpu, frame)

    with pytest.raises(
        ModelError, match=r"at step 2 a reference to mfn 0x\w+ is put, but the frame has none.*\(cpu0, at "
    ):
        run(body)


def test_a_reference_to_a_frame_that_no_domain_owns_is_refused() -> None:
    async def body(machine: Machine, cpu: Cpu, domain: Domain, frame: Mfn) -> None:
        await machine.pages.put(cpu, Mfn(7))

    with pytest.raises(ModelError, match=r"mfn 0x7 belongs to nobody: allocate it for a domain"):
        run(body)


def test_a_frame_that_is_freed_while_it_is_mapped_is_found() -> None:
    async def body(machine: Machine, cpu: Cpu, domain: Domain, frame: Mfn) -> None:
        await machine.pages.put(cpu, frame)

    machine = run(body, is_mapped=True)
    (finding,) = released(machine)
    assert (finding.domain, finding.dfn, finding.unit, finding.replaced) == (1, G, "vtd0", None)
    assert sentence(finding, machine.trace).endswith("to it: it was still mapped there")


def test_a_frame_that_is_unmapped_and_flushed_first_is_not() -> None:
    async def body(machine: Machine, cpu: Cpu, domain: Domain, frame: Mfn) -> None:
        await machine.hypervisor.unmap(cpu, domain, G)
        await machine.pages.put(cpu, frame)

    assert released(run(body, is_mapped=True)) == []


async def put_off(machine: Machine, cpu: Cpu, domain: Domain, frame: Mfn) -> None:
    """Replace the page with its flush put off, free the frame, and flush."""
    await cpu.write(iommu_dont_flush_iotlb, True)
    await machine.hypervisor.map(cpu, domain, G, Mfn(frame + 1))
    await cpu.write(iommu_dont_flush_iotlb, False)
    await machine.pages.put(cpu, frame)


def test_a_release_before_the_flush_names_the_cpu_that_owed_the_flush() -> None:
    async def body(machine: Machine, cpu: Cpu, domain: Domain, frame: Mfn) -> None:
        await put_off(machine, cpu, domain, frame)
        await machine.hypervisor.flush(cpu, domain, G, pages=1)

    machine = run(body, is_mapped=True)
    (finding,) = released(machine)
    assert finding.debt is not None
    assert finding.debt.call == "map"
    assert "cpu0's map had put the flush off" in sentence(finding, machine.trace)


def test_a_debt_that_is_never_paid_and_whose_frame_was_released_is_reported_once() -> None:
    assert len(released(run(put_off, is_mapped=True))) == 1


def test_a_frame_that_was_found_when_it_was_freed_is_not_found_again_when_it_is_given_away() -> None:
    async def body(machine: Machine, cpu: Cpu, domain: Domain, frame: Mfn) -> None:
        await put_off(machine, cpu, domain, frame)
        assert await machine.pages.allocate(cpu, machine.domains[2]) == frame

    assert len(released(run(body, is_mapped=True))) == 1


def test_what_the_new_owner_maps_is_its_own() -> None:
    async def body(machine: Machine, cpu: Cpu, domain: Domain, frame: Mfn) -> None:
        await machine.pages.put(cpu, frame)
        other = machine.domains[2]
        await machine.hypervisor.map(cpu, other, G, await machine.pages.allocate(cpu, other))

    assert released(run(body)) == []


def test_xsa_346_part_2_is_seen_by_releases(monkeypatch: pytest.MonkeyPatch) -> None:
    bound = find("remove_moved_page").bind({"revision": "merged"})
    done = ScenarioExploration(bound, "remove_moved_page")
    done.on("direct")
    assert done.is_exhausted
    (cause,) = done.causes.values()
    assert cause.signature.kind is FindingKind.RELEASED
    assert (cause.signature.dfn, cause.signature.owed_by) == (G, "cpu0")
    assert isinstance(cause.finding, Released)
    assert cause.finding.evidence is Evidence.OBSERVED


def test_xsa_346_part_2_is_seen_by_no_promise_at_return(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_away(self: ReleaseJudge, page: Page, cpu: Cpu, call: str, step: int) -> None:
        """Judge nothing."""

    monkeypatch.setattr(ReleaseJudge, "owner_changes", look_away)
    bound = find("remove_moved_page").bind({"revision": "merged"})
    done = ScenarioExploration(bound, "remove_moved_page")
    done.on("direct")
    assert done.is_exhausted
    assert done.causes == {}
