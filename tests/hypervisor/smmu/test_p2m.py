"""The p2m of Arm: its words, the walk to an entry and the tables it makes, the order of stores and flushes."""

from importlib import import_module

import pytest

from emu.cpus import Cpu
from emu.errors import ScenarioError
from emu.hypervisor.domain import Domain
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import ENOENT, OK
from emu.hypervisor.p2m_types import P2mType
from emu.hypervisor.smmu import chunk_order, p2m_word, p2m_write_lock
from emu.hypervisor.smmu.entries import table_word, type_of
from emu.iommus.smmu.settings import SmmuSettings
from emu.machine.machine import Machine
from emu.units import Dfn, Maddr, Mfn, offset
from tests.events import steps
from tests.hypervisor.smmu.p2m import REVISIONS, Body, Faulty, Scripted, entry_at, names, p2m_machine, run

G, ANY = Dfn(0x10), Mfn(0)
FULL = SmmuSettings()
EACH = pytest.mark.parametrize("revision", REVISIONS)


def adds(domain: Domain, gfn: Dfn, mfn: Mfn, order: int = 0, *, result: int = OK) -> Body:
    """Return what a CPU does that adds pages to a p2m."""

    async def body(m: Machine, cpu: Cpu) -> None:
        assert await m.hypervisor.guest_physmap_add_entry(cpu, domain, gfn, mfn, page_order=order) == result

    return body


def removes(domain: Domain, gfn: Dfn, mfn: Mfn = ANY, order: int = 0) -> Body:
    """Return what a CPU does that removes pages from a p2m."""

    async def body(m: Machine, cpu: Cpu) -> None:
        assert await m.hypervisor.guest_physmap_remove_page(cpu, domain, gfn, mfn, page_order=order) == OK

    return body


# Words


@pytest.mark.parametrize(
    ("p2m_type", "mfn", "level", "word"),
    [
        (P2mType.RAM_RW, 0x12345, 1, 0x0080_0000_1234_57FF),
        (P2mType.RAM_RW, 0x12200, 2, 0x0080_0000_1220_07FD),
        (P2mType.RAM_RO, 0x12345, 1, 0x0100_0000_1234_577F),
        (P2mType.IOMMU_MAP_RW, 0x12345, 1, 0x0540_0000_1234_57FF),
        (P2mType.IOMMU_MAP_RO, 0x12345, 1, 0x05C0_0000_1234_577F),
        (P2mType.MAP_FOREIGN_RW, 0x12345, 1, 0x0340_0000_1234_57FF),
    ],
)
def test_a_leaf_has_its_type_where_hardware_ignores_it_and_cannot_be_executed_unless_it_is_ram(
    p2m_type: P2mType, mfn: int, level: int, word: int
) -> None:
    _, domain = p2m_machine(settings=FULL)
    assert p2m_word(domain, Mfn(mfn), p2m_type, level) == word
    assert type_of(word) is p2m_type


def test_a_table_has_the_word_of_a_page_of_ram() -> None:
    assert table_word(Maddr(0x1234_5000)) == 0x0080_0000_1234_57FF


@pytest.mark.parametrize("number", [0, 12, 15])
def test_a_type_that_stands_for_none_is_invalid(number: int) -> None:
    assert type_of(number << 55 | 1) is P2mType.INVALID


# The walk


@EACH
def test_an_add_makes_the_tables_that_are_missing_and_stores_the_leaf_last(revision: str) -> None:
    machine, domain = p2m_machine(revision=revision)
    frame = machine.allocate(domain=domain)
    events, findings = run(machine, adds(domain, G, frame))
    assert findings == []
    assert [event.fields["table_level"] for event in events if event.name == "pte.write"] == [3, 2, 1]
    assert entry_at(machine, domain, G) == (1, p2m_word(domain, frame, P2mType.RAM_RW))
    assert len(steps(events, "table.allocate")) == 2


def test_tables_that_are_there_are_used_and_no_flush_of_a_cpu_is_made_for_a_new_page() -> None:
    machine, domain = p2m_machine()
    machine.premap(domain, offset(G, 1), machine.allocate(domain=domain))
    events, _ = run(machine, adds(domain, G, machine.allocate(domain=domain)))
    assert names(events, "table.allocate", "pte.write", "pte.clear", "cpu_tlb.flush") == ["pte.write"]


def test_the_second_root_table_leads_to_the_pages_above_512_gib() -> None:
    machine, domain = p2m_machine(settings=FULL)
    frame, high = machine.allocate(domain=domain), Dfn(1 << 27)
    events, findings = run(machine, adds(domain, high, frame))
    (first,) = (event for event in events if event.name == "pte.write" and event.fields["table_level"] == 3)
    assert first.fields["address"] == domain.pgd + 0x1000
    assert entry_at(machine, domain, high) == (1, p2m_word(domain, frame, P2mType.RAM_RW))
    assert entry_at(machine, domain, Dfn(0)) == (3, 0)
    assert findings == []


def test_a_page_beyond_the_root_tables_is_refused() -> None:
    machine, domain = p2m_machine(settings=FULL)
    with pytest.raises(ScenarioError, match="beyond the reach"):
        run(machine, adds(domain, Dfn(1 << 28), machine.allocate(domain=domain)))


@EACH
def test_a_removal_where_a_table_is_missing_stores_nothing_and_succeeds(revision: str) -> None:
    machine, domain = p2m_machine(Fix.HAS_IOMMU, revision=revision)
    events, findings = run(machine, removes(domain, G))
    assert names(events, "table.allocate", "pte.write", "pte.clear", "cpu_tlb.flush") == []
    assert findings == []


@EACH
def test_without_memory_for_a_table_an_add_fails_and_has_stored_nothing(revision: str) -> None:
    machine, domain = p2m_machine(revision=revision)
    machine.allow_faults(allocations=1)
    events, findings = run(machine, adds(domain, G, machine.allocate(domain=domain), result=ENOENT), strategy=Faulty())
    assert names(events, "table.allocate", "pte.write", "fault.inject") == ["fault.inject"]
    assert entry_at(machine, domain, G) == (3, 0)
    assert (findings, domain.is_crashed) == ([], False)


def test_the_frame_that_the_caller_of_a_removal_names_is_not_looked_at() -> None:
    machine, domain = p2m_machine(Fix.HAS_IOMMU)
    machine.premap(domain, G, machine.allocate(domain=domain))
    run(machine, removes(domain, G, Mfn(0xBAD)))
    assert entry_at(machine, domain, G) == (1, 0)


# Ranges


@pytest.mark.parametrize(
    ("gfn", "mfn", "pages", "order"),
    [
        (0, 0, 1, 0),
        (0, 0, 1 << 9, 9),
        (0, 0, 1 << 18, 18),
        (0, 1, 1 << 18, 0),
        (1 << 9, 0, 1 << 18, 9),
        (0, 1 << 9, 1 << 18, 9),
        (1 << 18, 1 << 18, 1 << 10, 9),
        (1 << 18, None, 1 << 18, 18),
        (1 << 9, None, 1 << 18, 9),
        (1 << 18, 0, (1 << 18) + 1, 0),
    ],
)
def test_a_leaf_is_as_large_as_the_page_the_frame_and_what_is_left_are_aligned(
    gfn: int, mfn: int | None, pages: int, order: int
) -> None:
    _, domain = p2m_machine(settings=FULL)
    assert chunk_order(domain, Dfn(gfn), None if mfn is None else Mfn(mfn), pages) == order


def test_an_aligned_range_becomes_one_block_and_another_one_becomes_pages() -> None:
    machine, domain = p2m_machine()
    aligned, frames = (machine.allocate(page_order=4, domain=domain) for _ in range(2))
    run(machine, adds(domain, G, aligned, 4))
    level, word = entry_at(machine, domain, offset(G, 7))
    assert (level, word) == (3, p2m_word(domain, aligned, P2mType.RAM_RW, 3))
    machine, domain = p2m_machine()
    machine.premap(domain, offset(G, 15), machine.allocate(domain=domain))
    events, _ = run(machine, adds(domain, Dfn(0), Mfn(frames), 2))
    assert [event.fields["table_level"] for event in events if event.name == "pte.write"] == [3, 2]


@EACH
def test_the_first_error_ends_a_range_and_what_was_mapped_before_it_stays(revision: str) -> None:
    p2m_of = import_module(f"emu.hypervisor.revisions.{revision}.p2m")
    machine, domain = p2m_machine(revision=revision)
    frames, first = machine.allocate(page_order=2, domain=domain), Dfn(0x12)
    machine.allow_faults(allocations=1)

    async def adds_across_two_tables(m: Machine, cpu: Cpu) -> None:
        async with p2m_write_lock(cpu, domain) as p2m:
            assert await p2m_of.p2m_set_entry(p2m, first, 4, frames, P2mType.RAM_RW) == ENOENT

    run(machine, adds_across_two_tables, strategy=Scripted(choices=[0, 0, 1]))
    mapped = [entry_at(machine, domain, offset(first, page)) for page in range(4)]
    assert [level for level, word in mapped if word] == [1, 1]
    assert mapped[2:] == [(2, 0), (2, 0)]


# Order of stores and flushes


@EACH
def test_an_entry_is_cleared_and_the_cpus_are_flushed_before_another_takes_its_place(revision: str) -> None:
    machine, domain = p2m_machine(revision=revision)
    machine.premap(domain, G, machine.allocate(domain=domain), cached=True)
    events, _ = run(machine, adds(domain, G, machine.allocate(domain=domain)))
    assert names(events, "pte.clear", "cpu_tlb.flush", "pte.write", "lock.release") == [
        "pte.clear",
        "cpu_tlb.flush",
        "pte.write",
        "lock.release",
    ]


@EACH
def test_after_a_removal_the_cpus_are_flushed_before_the_lock_is_dropped(revision: str) -> None:
    machine, domain = p2m_machine(revision=revision)
    machine.premap(domain, G, machine.allocate(domain=domain))
    events, _ = run(machine, removes(domain, G))
    assert names(events, "pte.clear", "cpu_tlb.flush", "lock.release") == ["pte.clear", "cpu_tlb.flush", "lock.release"]


def test_a_removal_of_several_pages_flushes_the_cpus_once() -> None:
    machine, domain = p2m_machine()
    for page in range(4):
        machine.premap(domain, offset(G, page + 1), machine.allocate(domain=domain))
    events, _ = run(machine, removes(domain, offset(G, 2), order=1))
    assert names(events, "pte.clear", "cpu_tlb.flush") == ["pte.clear", "pte.clear", "cpu_tlb.flush"]


@EACH
def test_a_repaired_p2m_flushes_the_smmu_after_the_store_and_the_cpus_of_a_removal_after_that(revision: str) -> None:
    for does, order in (
        (adds, ["pte.clear", "cpu_tlb.flush", "pte.write", "queue.post", "queue.post", "lock.release"]),
        (removes, ["pte.clear", "queue.post", "queue.post", "cpu_tlb.flush", "lock.release"]),
    ):
        machine, domain = p2m_machine(Fix.HAS_IOMMU, revision=revision)
        machine.premap(domain, G, machine.allocate(domain=domain), cached=True)
        events, findings = run(machine, does(domain, G, machine.allocate(domain=domain)))
        of_p2m = [one for one in events if one.fields.get("lock") != "d1.xen_domain_lock"]
        assert names(of_p2m, "pte.clear", "pte.write", "cpu_tlb.flush", "queue.post", "lock.release") == order
        assert findings == []


@EACH
def test_an_identical_map_breaks_the_entry_and_flushes_the_smmu_once_repaired(revision: str) -> None:
    machine, domain = p2m_machine(Fix.HAS_IOMMU, revision=revision)
    frame = machine.allocate(domain=domain)
    machine.premap(domain, G, frame, cached=True)
    before = entry_at(machine, domain, G)
    events, findings = run(machine, adds(domain, G, frame))
    assert entry_at(machine, domain, G) == before
    assert names(events, "pte.clear", "cpu_tlb.flush", "pte.write") == ["pte.clear", "cpu_tlb.flush", "pte.write"]
    assert (machine.counters.flushes, findings) == (1, [])
