"""Splitting a block of a p2m: what is stored in which order, and that no flush of an SMMU lies between."""

from collections.abc import Sequence

import pytest

from emu.checks.findings import Finding, Stale
from emu.cpus import Cpu
from emu.engine import Event
from emu.engine.strategies.round_robin import RoundRobinStrategy
from emu.hypervisor.domain import Domain
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import ENOMEM, OK, READ_WRITE, MapFlags
from emu.hypervisor.p2m_types import P2mType
from emu.hypervisor.smmu import p2m_word
from emu.hypervisor.smmu.entries import is_table
from emu.iommus.smmu.formats import VALID
from emu.machine.machine import Machine
from emu.units import Dfn, Maddr, Mfn, offset
from tests.hypervisor.smmu.p2m import REVISIONS, Faulty, Scripted, entry_at, names, p2m_machine, run

G = Dfn(0x10)
EACH = pytest.mark.parametrize("revision", REVISIONS)
ORDERS = pytest.mark.parametrize("order", [2, 4])


def machine_of(
    order: int, *fixes: Fix, revision: str = "v1", flags: MapFlags = READ_WRITE
) -> tuple[Machine, Domain, Mfn]:
    """Return a machine whose domain maps a block of 4 or 16 pages, which a device has used, with its first frame."""
    machine, domain = p2m_machine(*fixes, revision=revision)
    frames = machine.allocate(page_order=order, domain=domain)
    machine.premap(domain, G, frames, page_order=order, superpage=True, flags=flags, cached=True)
    return machine, domain, frames


def remove(
    machine: Machine, domain: Domain, page: int, *, result: int = OK, strategy: RoundRobinStrategy | None = None
) -> tuple[list[Event], list[Finding]]:
    """Remove one page of the block; return the events and the findings."""

    async def body(m: Machine, cpu: Cpu) -> None:
        gfn = offset(G, page)
        assert await m.hypervisor.guest_physmap_remove_page(cpu, domain, gfn, Mfn(0)) == result

    return run(machine, body, strategy=strategy)


def stores(events: Sequence[Event]) -> list[tuple[str, int, int]]:
    """Return the stores of entries: what each is, its level, and its page counted from the first of the block."""
    return [
        (event.name, event.fields["table_level"], event.fields["dfn"] - G)
        for event in events
        if event.name in {"pte.write", "pte.clear"}
    ]


@EACH
@ORDERS
def test_a_removal_of_one_page_leaves_the_others_mapped_to_their_frames(revision: str, order: int) -> None:
    machine, domain, frames = machine_of(order, Fix.HAS_IOMMU, revision=revision)
    _, findings = remove(machine, domain, 1)
    assert findings == []
    assert entry_at(machine, domain, offset(G, 1)) == (1, 0)
    for page in range(1 << order):
        level, word = entry_at(machine, domain, offset(G, page))
        first = Mfn(frames + page - page % domain.format.span(level))
        assert page == 1 or word == p2m_word(domain, first, P2mType.RAM_RW, level)


@pytest.mark.parametrize(("flags", "p2m_type"), [(READ_WRITE, P2mType.RAM_RW), (MapFlags.READABLE, P2mType.RAM_RO)])
def test_the_leaves_keep_the_type_of_the_block(flags: MapFlags, p2m_type: P2mType) -> None:
    machine, domain, frames = machine_of(2, flags=flags)
    remove(machine, domain, 0)
    assert entry_at(machine, domain, offset(G, 3)) == (1, p2m_word(domain, Mfn(frames + 3), p2m_type))


def test_the_new_table_is_filled_before_the_block_is_cleared_and_entered_after_the_cpus_are_flushed() -> None:
    machine, domain, _ = machine_of(2, Fix.HAS_IOMMU)
    events, _ = remove(machine, domain, 1)
    assert names(events, "table.allocate", "pte.write", "pte.clear", "cpu_tlb.flush", "queue.post") == [
        "table.allocate",
        *["pte.write"] * 4,
        "pte.clear",
        "cpu_tlb.flush",
        "pte.write",
        "pte.clear",
        "queue.post",
        "queue.post",
        "cpu_tlb.flush",
    ]
    assert stores(events)[4:] == [("pte.clear", 2, 1), ("pte.write", 2, 1), ("pte.clear", 1, 1)]


def test_where_a_block_of_16_pages_is_split_into_pages_the_one_block_of_4_is_split_first() -> None:
    machine, domain, _ = machine_of(4)
    events, _ = remove(machine, domain, 6)
    assert stores(events) == [
        ("pte.write", 2, 0),
        *[("pte.write", 1, 4 + page) for page in range(4)],
        ("pte.write", 2, 4),
        ("pte.write", 2, 8),
        ("pte.write", 2, 12),
        ("pte.clear", 3, 6),
        ("pte.write", 3, 6),
        ("pte.clear", 1, 6),
    ]
    assert names(events, "table.allocate", "cpu_tlb.flush") == ["table.allocate"] * 2 + ["cpu_tlb.flush"] * 2
    _, neighbour = entry_at(machine, domain, offset(G, 8))
    assert not is_table(neighbour, 2)


def test_a_removal_of_a_smaller_block_splits_as_far_as_that_only() -> None:
    machine, domain, _ = machine_of(4)

    async def body(m: Machine, cpu: Cpu) -> None:
        assert await m.hypervisor.guest_physmap_remove_page(cpu, domain, offset(G, 4), Mfn(0), page_order=2) == OK

    events, _ = run(machine, body)
    assert entry_at(machine, domain, offset(G, 4)) == (2, 0)
    assert len(names(events, "table.allocate")) == 1


@EACH
@ORDERS
def test_one_flush_of_the_smmu_after_the_last_store_suffices(revision: str, order: int) -> None:
    machine, domain, _ = machine_of(order, Fix.HAS_IOMMU, revision=revision)
    _, findings = remove(machine, domain, 1)
    assert (machine.counters.flushes, findings) == (1, [])


@EACH
@ORDERS
def test_without_it_both_the_block_and_the_leaf_that_was_split_off_are_stale(revision: str, order: int) -> None:
    machine, domain, _ = machine_of(order, revision=revision)
    _, findings = remove(machine, domain, 1)
    stale = [(finding.dfn, finding.path.translation.order) for finding in findings if isinstance(finding, Stale)]
    assert len(stale) == len(findings)
    assert sorted(stale) == [(offset(G, 1), 0), (offset(G, 1), order)]


@EACH
@pytest.mark.parametrize(("order", "choices"), [(2, (1,)), (4, (1,)), (4, (0, 1))])
def test_without_memory_the_live_block_is_not_touched(revision: str, order: int, choices: tuple[int, ...]) -> None:
    machine, domain, _ = machine_of(order, Fix.HAS_IOMMU, revision=revision)
    machine.allow_faults(allocations=1)
    before = entry_at(machine, domain, G)
    events, findings = remove(machine, domain, 1, result=ENOMEM, strategy=Scripted(choices=[*choices]))
    assert entry_at(machine, domain, offset(G, 1)) == before
    assert names(events, "pte.clear", "cpu_tlb.flush", "queue.post") == []
    assert (findings, domain.is_crashed) == ([], False)


def test_an_add_of_a_page_into_a_block_splits_it_and_fails_with_enomem_without_memory() -> None:
    machine, domain, _ = machine_of(2, Fix.HAS_IOMMU)
    machine.allow_faults(allocations=1)
    new, results = machine.allocate(domain=domain), []

    async def body(m: Machine, cpu: Cpu) -> None:
        call = m.hypervisor.guest_physmap_add_entry
        results.extend([await call(cpu, domain, offset(G, 1), new) for _ in range(2)])

    _, findings = run(machine, body, strategy=Faulty())
    assert (results, findings) == ([ENOMEM, OK], [])
    assert entry_at(machine, domain, offset(G, 1)) == (1, p2m_word(domain, new, P2mType.RAM_RW))


def test_a_block_that_is_invalid_for_hardware_is_split_into_leaves_that_are_so_too() -> None:
    machine, domain, frames = machine_of(2)
    (read,) = (one for one in machine.memory.versions if machine.memory.peek(one) & 0xFFF == 0x7FD)
    machine.memory.put(Maddr(read), machine.memory.peek(read) & ~VALID)
    remove(machine, domain, 1)
    leaf = p2m_word(domain, Mfn(frames + 2), P2mType.RAM_RW)
    assert entry_at(machine, domain, offset(G, 2)) == (1, leaf & ~VALID)
