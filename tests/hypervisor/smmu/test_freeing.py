"""What an entry of a p2m held is freed when it is replaced, before or after the flush of the SMMU."""

import pytest

from emu.cpus import Cpu
from emu.engine import Event
from emu.hypervisor.domain import Domain
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import OK
from emu.hypervisor.p2m_types import P2mType
from emu.hypervisor.smmu import replaces_frame
from emu.iommus.smmu.formats import VALID
from emu.machine.machine import Machine
from emu.units import Dfn, Mfn, offset
from tests.events import steps
from tests.hypervisor.smmu.p2m import REVISIONS, Body, entry_at, names, p2m_machine, run

G = Dfn(0x10)
EACH = pytest.mark.parametrize("revision", REVISIONS)


def adds(domain: Domain, new: Mfn, order: int = 0, gfn: Dfn = G, p2m_type: P2mType = P2mType.RAM_RW) -> Body:
    """Return what a CPU does that puts other pages in the place of those at G."""

    async def body(m: Machine, cpu: Cpu) -> None:
        added = m.hypervisor.guest_physmap_add_entry(cpu, domain, gfn, new, page_order=order, p2m_type=p2m_type)
        assert await added == OK

    return body


def removes(domain: Domain, order: int = 0) -> Body:
    """Return what a CPU does that removes the pages at G."""

    async def body(m: Machine, cpu: Cpu) -> None:
        assert await m.hypervisor.guest_physmap_remove_page(cpu, domain, G, Mfn(0), page_order=order) == OK

    return body


def machine_with(*fixes: Fix, revision: str = "v1", foreign: bool) -> tuple[Machine, Domain, Mfn]:
    """Return a machine whose domain maps a frame at G, of its own or of another domain, and that frame."""
    machine, domain = p2m_machine(*fixes, revision=revision)
    other = machine.domain(2)
    frame = machine.allocate(domain=other if foreign else domain)
    machine.let_map(frame, domain)
    machine.premap(domain, G, frame, cached=True)
    return machine, domain, frame


def puts(events: list[Event]) -> list[int]:
    """Return the frames of which a reference was dropped."""
    return [event.fields["mfn"] for event in events if event.name in {"page.put", "page.free"}]


@EACH
@pytest.mark.parametrize("foreign", [False, True])
@pytest.mark.parametrize("removed", [False, True])
def test_a_page_loses_a_reference_only_if_it_is_foreign(revision: str, *, foreign: bool, removed: bool) -> None:
    machine, domain, frame = machine_with(Fix.HAS_IOMMU, revision=revision, foreign=foreign)
    new = machine.allocate(domain=domain)
    events, findings = run(machine, removes(domain) if removed else adds(domain, new))
    assert puts(events) == [frame] * foreign
    assert findings == []


@pytest.mark.parametrize("kind", [P2mType.MAP_FOREIGN_RW, P2mType.MAP_FOREIGN_RO])
def test_a_foreign_page_whose_permissions_alone_change_keeps_its_reference(kind: P2mType) -> None:
    machine, domain, frame = machine_with(Fix.HAS_IOMMU, foreign=True)
    events, _ = run(machine, adds(domain, frame, p2m_type=kind))
    assert puts(events) == []


@EACH
def test_a_block_holds_nothing(revision: str) -> None:
    machine, domain = p2m_machine(Fix.HAS_IOMMU, revision=revision)
    frames = machine.allocate(page_order=2, domain=domain)
    machine.premap(domain, G, frames, page_order=2, superpage=True)
    events, findings = run(machine, removes(domain, 2))
    assert (puts(events), findings) == ([], [])
    assert entry_at(machine, domain, G) == (2, 0)


@EACH
def test_a_block_in_the_place_of_a_table_frees_that_and_the_tables_below_after_a_flush_of_the_cpus(
    revision: str,
) -> None:
    machine, domain = p2m_machine(Fix.HAS_IOMMU, Fix.FLUSH_BEFORE_FREE, revision=revision)
    other = machine.domain(2)
    for page, owner in ((0, domain), (5, other)):
        frame = machine.allocate(domain=owner)
        machine.let_map(frame, domain)
        machine.premap(domain, offset(G, page), frame, cached=True)
    tables, block = set(domain.tables), machine.allocate(page_order=4, domain=domain)
    events, findings = run(machine, adds(domain, block, 4))
    gone = tables - set(domain.tables)
    assert (len(gone), findings) == (3, [])
    assert sorted(puts(events)) == sorted({*gone, frame})
    order = names(events, "pte.clear", "cpu_tlb.flush", "pte.write", "queue.post", "page.put", "page.free")
    assert order[:5] == ["pte.clear", "cpu_tlb.flush", "pte.write", "queue.post", "queue.post"]
    assert sorted(order[5:]) == ["page.free"] * 3 + ["page.put"]


def test_a_removal_of_pages_never_frees_their_table() -> None:
    machine, domain, _ = machine_with(Fix.HAS_IOMMU, foreign=False)
    tables = list(domain.tables)
    events, _ = run(machine, removes(domain))
    assert (puts(events), domain.tables) == ([], tables)


@EACH
@pytest.mark.parametrize("flushed_first", [False, True])
@pytest.mark.parametrize("removed", [False, True])
def test_until_6718787797_the_smmu_is_flushed_after_the_page_is_freed(
    revision: str, *, flushed_first: bool, removed: bool
) -> None:
    fixes = (Fix.HAS_IOMMU, *[Fix.FLUSH_BEFORE_FREE] * flushed_first)
    machine, domain, _ = machine_with(*fixes, revision=revision, foreign=True)
    new = machine.allocate(domain=domain)
    events, _ = run(machine, removes(domain) if removed else adds(domain, new))
    order = ["queue.post", "queue.post", "page.put"] if flushed_first else ["page.put", "queue.post", "queue.post"]
    assert names(events, "page.put", "queue.post") == order


def test_of_a_removal_that_is_repaired_so_the_cpus_are_flushed_last() -> None:
    machine, domain, _ = machine_with(Fix.HAS_IOMMU, Fix.FLUSH_BEFORE_FREE, foreign=True)
    events, _ = run(machine, removes(domain))
    (freed,), (flushed,) = steps(events, "page.put"), steps(events, "cpu_tlb.flush")
    assert freed < flushed < steps(events, "lock.release", lock="d1.p2m_lock")[0]


@pytest.mark.parametrize(
    ("word_of", "mfn", "expected"),
    [
        (0x12345, 0x12345, False),
        (0x12345, 0x12346, True),
        (0x12345, None, True),
        (None, 0x12345, False),
        (None, None, False),
    ],
)
def test_an_entry_is_replaced_if_it_has_a_type_and_its_frame_goes(
    word_of: int | None, mfn: int | None, expected: bool
) -> None:
    word = 0 if word_of is None else (word_of << 12) | P2mType.RAM_RW << 55 | VALID
    assert replaces_frame(word, None if mfn is None else Mfn(mfn)) is expected


def test_one_that_is_invalid_for_hardware_is_replaced_by_another_frame_but_not_by_a_removal() -> None:
    word = (0x12345 << 12) | P2mType.RAM_RW << 55
    assert [replaces_frame(word, mfn) for mfn in (Mfn(1), Mfn(0x12345), None)] == [True, False, False]
