"""Valid bits that Xen clears to see what a guest touches: each fault moves them down, and the SMMU is never flushed."""

import pytest

from emu.checks.findings import FindingKind, Stale
from emu.cpus import Cpu
from emu.devices.device import Device
from emu.hypervisor.domain import Domain
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import OK
from emu.hypervisor.p2m_types import P2mType
from emu.hypervisor.smmu import is_lpae_valid, p2m_word
from emu.hypervisor.smmu.entries import next_table
from emu.hypervisor.smmu.set_way import p2m_invalidate_root, p2m_resolve_translation_fault
from emu.iommus.smmu.formats import VALID
from emu.machine.machine import Machine
from emu.units import Dfn, Mfn
from tests.events import steps
from tests.hypervisor.smmu.p2m import NIC, REVISIONS, Body, address_of, entry_at, names, p2m_machine, run

G, NEAR, FAR = Dfn(0x10), Dfn(0x11), Dfn(0x30)
"""A page, one in the same table of leaves, and one with no table in common but the highest."""

EACH = pytest.mark.parametrize("revision", REVISIONS)


def machine_with(*fixes: Fix, revision: str = "v1") -> tuple[Machine, Domain, list[Mfn]]:
    """Return a machine whose domain maps three pages, which a device has used, and their frames."""
    machine, domain = p2m_machine(*fixes, revision=revision)
    frames = [machine.allocate(domain=domain) for _ in range(3)]
    for gfn, frame in zip((G, NEAR, FAR), frames, strict=True):
        machine.premap(domain, gfn, frame, cached=True)
    return machine, domain, frames


def valid_bits(machine: Machine, domain: Domain, gfn: Dfn) -> list[bool]:
    """Return, from the highest level down, whether each entry on a gfn's way is valid for hardware."""
    table, found = domain.pgd, []
    for level in range(domain.levels, 0, -1):
        word = machine.memory.peek(address_of(domain, table, gfn, level))
        found.append(is_lpae_valid(word))
        table = next_table(word)
    return found


def tracks(domain: Domain, faults: int, gfn: Dfn = G) -> Body:
    """Return what a CPU does that clears the valid bits at the top, and then takes so many faults."""

    async def body(m: Machine, cpu: Cpu) -> None:
        await p2m_invalidate_root(cpu, domain)
        for _ in range(faults):
            assert await p2m_resolve_translation_fault(cpu, domain, gfn)

    return body


@pytest.mark.parametrize(
    ("faults", "here", "near", "far"),
    [
        (0, [False, True, True], [False, True, True], [False, True, True]),
        (1, [True, False, True], [True, False, True], [False, True, True]),
        (2, [True, True, False], [True, True, False], [False, True, True]),
        (3, [True, True, True], [True, True, False], [False, True, True]),
    ],
)
def test_each_fault_makes_one_entry_valid_and_the_entries_of_its_table_invalid(
    faults: int, here: list[bool], near: list[bool], far: list[bool]
) -> None:
    machine, domain, frames = machine_with()
    run(machine, tracks(domain, faults))
    assert [valid_bits(machine, domain, gfn) for gfn in (G, NEAR, FAR)] == [here, near, far]
    _, word = entry_at(machine, domain, G)
    assert word | VALID == p2m_word(domain, frames[0], P2mType.RAM_RW)


def test_a_fault_where_all_is_valid_or_nothing_is_mapped_changes_nothing() -> None:
    machine, domain, _ = machine_with()
    results = []

    async def body(m: Machine, cpu: Cpu) -> None:
        results.extend([await p2m_resolve_translation_fault(cpu, domain, gfn) for gfn in (G, Dfn(0x12), Dfn(0x20))])

    events, _ = run(machine, body)
    assert results == [False, False, False]
    assert names(events, "pte.track", "cpu_tlb.flush") == []


@pytest.mark.parametrize(("faults", "flushes"), [(0, 1), (1, 2), (2, 3), (3, 3)])
def test_the_cpus_are_flushed_whenever_valid_bits_were_cleared_and_the_smmu_never_is(faults: int, flushes: int) -> None:
    machine, domain, _ = machine_with(Fix.HAS_IOMMU)
    events, _ = run(machine, tracks(domain, faults))
    assert len(steps(events, "cpu_tlb.flush")) == flushes
    assert machine.counters.posted == 0


def test_the_cpus_are_flushed_before_the_lock_is_dropped() -> None:
    machine, domain, _ = machine_with()
    events, _ = run(machine, tracks(domain, 1))
    assert (
        names(events, "lock.acquire", "cpu_tlb.flush", "lock.release")
        == [
            "lock.acquire",
            "cpu_tlb.flush",
            "lock.release",
        ]
        * 2
    )


def test_meanwhile_a_page_that_is_not_cached_faults_in_the_smmu() -> None:
    machine, domain, _ = machine_with()
    machine.premap(domain, Dfn(0x12), machine.allocate(domain=domain))
    done = machine.signal("done")

    async def body(m: Machine, cpu: Cpu) -> None:
        await tracks(domain, 1)(m, cpu)
        await done.send()

    @machine.device(NIC)
    async def reader(device: Device) -> None:
        await done.wait()
        await device.read(Dfn(0x12))

    events, _ = run(machine, body)
    assert len(steps(events, "dma.fault")) == 1


@EACH
@pytest.mark.parametrize("faults", [1, 2])
def test_a_removal_of_a_tracked_entry_stores_flushes_and_frees_nothing_though_repaired(
    revision: str, faults: int
) -> None:
    machine, domain, frames = machine_with(Fix.HAS_IOMMU, Fix.FLUSH_BEFORE_FREE, revision=revision)

    async def body(m: Machine, cpu: Cpu) -> None:
        await tracks(domain, faults)(m, cpu)
        assert await m.hypervisor.guest_physmap_remove_page(cpu, domain, G, frames[0]) == OK

    events, findings = run(machine, body)
    is_left = faults == 2
    assert len(steps(events, "pte.clear")) == (not is_left)
    assert machine.counters.flushes == (not is_left)
    assert steps(events, "page.put", "page.free") == []
    assert [finding.kind for finding in findings] == [FindingKind.STALE] * is_left
    left = p2m_word(domain, frames[0], P2mType.RAM_RW) & ~VALID
    assert entry_at(machine, domain, G) == (1, left if is_left else 0)


@EACH
@pytest.mark.parametrize("faults", [1, 2])
def test_an_add_over_a_tracked_entry_needs_no_break_and_flushes_the_smmu_once_repaired(
    revision: str, faults: int
) -> None:
    machine, domain, _ = machine_with(Fix.HAS_IOMMU, revision=revision)
    new = machine.allocate(domain=domain)

    async def body(m: Machine, cpu: Cpu) -> None:
        await tracks(domain, faults)(m, cpu)
        assert await m.hypervisor.guest_physmap_add_entry(cpu, domain, G, new) == OK

    events, findings = run(machine, body)
    assert len(steps(events, "pte.clear")) == (faults == 1)
    assert entry_at(machine, domain, G) == (1, p2m_word(domain, new, P2mType.RAM_RW))
    assert (machine.counters.flushes, findings) == (1, [])


def test_the_device_that_has_used_the_removed_page_still_reaches_its_frame() -> None:
    machine, domain, frames = machine_with(Fix.HAS_IOMMU)
    done = machine.signal("done")

    async def body(m: Machine, cpu: Cpu) -> None:
        await tracks(domain, 2)(m, cpu)
        assert await m.hypervisor.guest_physmap_remove_page(cpu, domain, G, frames[0]) == OK
        await done.send()

    @machine.device(NIC)
    async def writer(device: Device) -> None:
        await done.wait()
        await device.write(G, 7)

    _, findings = run(machine, body)
    (stale,) = (finding for finding in findings if isinstance(finding, Stale))
    assert stale.use is not None
