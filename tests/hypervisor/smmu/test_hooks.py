"""The SMMU hooks: what they refuse, what they ask the p2m for, and that a flush is always of the whole domain."""

import pytest

from emu.checks.findings import FindingKind
from emu.cpus import Cpu
from emu.hypervisor.domain import Domain
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import EINVAL, ENOENT, OK, READ_WRITE, FlushType, MapFlags, iommu_dont_flush_iotlb
from emu.hypervisor.p2m_types import P2mType
from emu.hypervisor.smmu import p2m_word
from emu.iommus.smmu.queue import SYNC
from emu.machine.machine import Machine
from emu.units import Dfn, Mfn, offset
from tests.events import steps
from tests.hypervisor.smmu.p2m import REVISIONS, Body, Faulty, entry_at, p2m_machine, run, unit_of

G, OWN = Dfn(0x10), Mfn(0x10)
"""A page, and the frame of its number."""

EACH = pytest.mark.parametrize("revision", REVISIONS)
KEEPS_ERRORS = ("implicit", "merged", "flush_on_error")


def machine_of(revision: str, number: int = 0) -> tuple[Machine, Domain]:
    """Return a machine with a domain that has the frames of the numbers of its first pages."""
    machine, domain = p2m_machine(revision=revision, number=number)
    return machine, domain


def maps(domain: Domain, flags: MapFlags, said: list[tuple[int, FlushType]], mfn: Mfn = OWN) -> Body:
    """Return what a CPU does that calls the hook to map G."""

    async def body(m: Machine, cpu: Cpu) -> None:
        said.append(await domain.ops.map_page(cpu, domain, G, mfn, flags))

    return body


# The hooks themselves


@EACH
@pytest.mark.parametrize(
    ("flags", "p2m_type"),
    [(READ_WRITE, P2mType.IOMMU_MAP_RW), (MapFlags.READABLE, P2mType.IOMMU_MAP_RO)],
)
def test_a_map_enters_an_iommu_page_and_reports_no_flush(revision: str, flags: MapFlags, p2m_type: P2mType) -> None:
    machine, domain = machine_of(revision)
    said: list[tuple[int, FlushType]] = []
    run(machine, maps(domain, flags, said))
    assert said == [(OK, FlushType.NONE)]
    assert entry_at(machine, domain, G) == (1, p2m_word(domain, OWN, p2m_type))


@EACH
def test_a_map_of_write_without_read_enters_a_page_that_may_be_read_too(revision: str) -> None:
    machine, domain = machine_of(revision)
    run(machine, maps(domain, MapFlags.WRITABLE, []))
    assert entry_at(machine, domain, G) == (1, p2m_word(domain, OWN, P2mType.IOMMU_MAP_RW))


@EACH
def test_a_map_without_permissions_is_refused_and_stores_nothing(revision: str) -> None:
    machine, domain = machine_of(revision)
    said: list[tuple[int, FlushType]] = []
    events, _ = run(machine, maps(domain, MapFlags(0), said))
    assert said == [(EINVAL, FlushType.NONE)]
    assert steps(events, "pte.write") == []


@EACH
def test_a_map_without_memory_for_a_table_reports_what_the_p2m_says(revision: str) -> None:
    machine, domain = machine_of(revision)
    machine.allow_faults(allocations=1)
    said: list[tuple[int, FlushType]] = []
    run(machine, maps(domain, READ_WRITE, said), strategy=Faulty())
    assert said == [(ENOENT, FlushType.NONE)]


@EACH
@pytest.mark.parametrize(
    ("number", "mfn", "text"),
    [(1, OWN, "BUG_ON(!is_domain_direct_mapped(d))"), (0, Mfn(OWN + 1), "BUG_ON(mfn_x(mfn) != dfn_x(dfn))")],
)
def test_xen_stops_where_a_guest_is_mapped_or_another_frame_even_without_permissions(
    revision: str, number: int, mfn: Mfn, text: str
) -> None:
    machine, domain = machine_of(revision, number)
    said: list[tuple[int, FlushType]] = []
    run(machine, maps(domain, MapFlags(0), said, mfn))
    assert [broken.claim for broken in machine.broken] == [text]
    assert said == []


@EACH
def test_an_unmap_removes_the_page_and_reports_no_flush(revision: str) -> None:
    machine, domain = machine_of(revision)
    machine.premap(domain, G, machine.allocate(domain=domain))
    said = []

    async def body(m: Machine, cpu: Cpu) -> None:
        said.append(await domain.ops.unmap_page(cpu, domain, G))
        said.append(await domain.ops.unmap_page(cpu, domain, G))

    run(machine, body)
    assert said == [(OK, FlushType.NONE)] * 2
    assert entry_at(machine, domain, G) == (1, 0)


@EACH
def test_an_unmap_in_a_guest_is_refused_and_stores_nothing(revision: str) -> None:
    machine, domain = machine_of(revision, 1)
    machine.premap(domain, G, machine.allocate(domain=domain))
    said = []

    async def body(m: Machine, cpu: Cpu) -> None:
        said.append(await domain.ops.unmap_page(cpu, domain, G))

    events, _ = run(machine, body)
    assert said == [(EINVAL, FlushType.NONE)]
    assert steps(events, "pte.clear") == []


@EACH
@pytest.mark.parametrize("flush_type", FlushType)
@pytest.mark.parametrize("pages", [0, 1, 1 << 20])
def test_a_flush_is_of_the_whole_domain_whatever_range_and_type_it_is_asked_for(
    revision: str, flush_type: FlushType, pages: int
) -> None:
    machine, domain = machine_of(revision)
    machine.premap(domain, offset(G, 5), machine.allocate(domain=domain), cached=True)
    results = []

    async def body(m: Machine, cpu: Cpu) -> None:
        results.append(await domain.ops.iotlb_flush(cpu, domain, G, pages, flush_type))
        results.append(await domain.ops.iotlb_flush_all(cpu, domain))

    run(machine, body)
    assert results == [OK, OK]
    assert unit_of(machine).queue.asked == [1, SYNC] * 2
    assert len(unit_of(machine).iotlb) == 0


# What the wrappers make of it


@EACH
def test_an_unmap_in_a_guest_crashes_it_and_v1_alone_loses_the_error(revision: str) -> None:
    machine, domain = machine_of(revision, 1)
    results = []

    async def body(m: Machine, cpu: Cpu) -> None:
        results.append(await m.hypervisor.unmap(cpu, domain, G))

    _, findings = run(machine, body)
    keeps = revision in KEEPS_ERRORS
    assert results == [EINVAL if keeps else OK]
    assert domain.is_crashed
    assert [finding.kind for finding in findings] == [FindingKind.LOST_ERROR] * (not keeps)


@EACH
@pytest.mark.parametrize("flagged", [False, True])
def test_a_map_without_permissions_returns_the_error_but_in_v1_unless_the_flag_is_set(
    revision: str, *, flagged: bool
) -> None:
    machine, domain = machine_of(revision)
    results = []

    async def body(m: Machine, cpu: Cpu) -> None:
        await cpu.write(iommu_dont_flush_iotlb, flagged)
        results.append(await m.hypervisor.map(cpu, domain, G, OWN, flags=MapFlags(0)))
        await cpu.write(iommu_dont_flush_iotlb, False)

    run(machine, body)
    assert results == [EINVAL if flagged or revision in KEEPS_ERRORS else OK]
    assert not domain.is_crashed


# Which flush the p2m asks for


@EACH
@pytest.mark.parametrize(
    ("before", "removed", "flushes"), [(False, False, 1), (True, False, 1), (True, True, 1), (False, True, 0)]
)
def test_the_p2m_flushes_if_the_old_or_the_new_entry_is_valid_and_only_once_repaired(
    revision: str, *, before: bool, removed: bool, flushes: int
) -> None:
    for fixes in ((), (Fix.HAS_IOMMU,)):
        machine, domain = p2m_machine(*fixes, revision=revision)
        machine.premap(domain, offset(G, 1), machine.allocate(domain=domain))
        if before:
            machine.premap(domain, G, machine.allocate(domain=domain))
        new = machine.allocate(domain=domain)

        async def body(m: Machine, cpu: Cpu, domain: Domain = domain, new: Mfn = new) -> None:
            if removed:
                await m.hypervisor.guest_physmap_remove_page(cpu, domain, G, new)
            else:
                await m.hypervisor.guest_physmap_add_entry(cpu, domain, G, new)

        run(machine, body)
        assert machine.counters.flushes == flushes * len(fixes)


@EACH
@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("removed", [False, True])
def test_it_tells_the_type_of_its_change_since_the_merged_patch(
    monkeypatch: pytest.MonkeyPatch, revision: str, *, before: bool, removed: bool
) -> None:
    machine, domain = p2m_machine(Fix.HAS_IOMMU, revision=revision)
    if before:
        machine.premap(domain, G, machine.allocate(domain=domain))
    new, told = machine.allocate(domain=domain), []

    async def spy(ops: object, cpu: Cpu, domain: Domain, dfn: Dfn, page_count: int, flush_type: FlushType) -> int:
        told.append((dfn, page_count, flush_type))
        return OK

    monkeypatch.setattr(type(machine.hooks.driver), "iotlb_flush", spy)

    async def body(m: Machine, cpu: Cpu) -> None:
        if removed:
            await m.hypervisor.guest_physmap_remove_page(cpu, domain, G, new)
        else:
            await m.hypervisor.guest_physmap_add_entry(cpu, domain, G, new)

    run(machine, body)
    by_revision = {"implicit": FlushType.NONE, "v1": FlushType.MODIFIED}
    expected = by_revision.get(revision, FlushType.MODIFIED if before else FlushType.ADDED)
    assert told == [(G, 1, expected)] * (before or not removed)


def test_the_result_of_the_flush_is_the_result_of_the_change(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, domain = p2m_machine(Fix.HAS_IOMMU, revision="merged", number=0)
    frame, results = machine.allocate(domain=domain), []

    async def fails(ops: object, cpu: Cpu, domain: Domain, dfn: Dfn, page_count: int, flush_type: FlushType) -> int:
        return EINVAL

    monkeypatch.setattr(type(machine.hooks.driver), "iotlb_flush", fails)

    async def body(m: Machine, cpu: Cpu) -> None:
        results.append(await m.hypervisor.guest_physmap_add_entry(cpu, domain, G, frame))

    run(machine, body)
    assert results == [EINVAL]
    assert entry_at(machine, domain, G)[0] == 1
