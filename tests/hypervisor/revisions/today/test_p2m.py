"""Xen of today: the p2m refuses to remove another frame than the caller has found, and the wrappers pass orders on."""

from collections.abc import Awaitable, Callable

import pytest

from emu.checks.findings import Finding
from emu.cpus import Cpu
from emu.hypervisor.ops import EILSEQ, EINVAL, ENOMEM, OK, READ_WRITE, MapFlags
from emu.hypervisor.p2m_types import P2mType
from emu.machine.machine import Machine
from emu.units import Dfn, Mfn
from tests.events import steps
from tests.smmuv3 import smmuv3_machine

Execute = Callable[..., list[Finding]]
Body = Callable[[Cpu], Awaitable[object]]

G = Dfn(0x400)
NIC = "00:1f.0"


def run(execute: Execute, machine: Machine, body: Body) -> list[Finding]:
    @machine.cpu(0)
    async def only(cpu: Cpu) -> None:
        await body(cpu)

    return execute(machine)


def leaf_at(machine: Machine, dfn: Dfn) -> int:
    """Return the leaf that a walk for domain 1 finds now."""
    (tables,) = machine.unit.tables_at(machine.domains[1].pgd)
    return machine.unit.ledger.leaf_at(tables, dfn, machine.trace.step)


@pytest.mark.parametrize(
    ("p2m_type", "is_found", "result"),
    [
        (P2mType.RAM_RW, True, OK),
        (P2mType.RAM_RW, False, EILSEQ),
        (P2mType.GRANT_MAP_RO, False, EILSEQ),
        (P2mType.IOMMU_MAP_RW, False, OK),
    ],
)
def test_a_page_of_a_guests_memory_is_removed_only_if_it_has_the_frame_that_the_caller_found(
    execute: Execute, p2m_type: P2mType, is_found: bool, result: int
) -> None:
    machine = smmuv3_machine()
    domain, frame, other = machine.domain(1, devices=(NIC,)), machine.allocate(), machine.allocate()

    async def body(cpu: Cpu) -> None:
        add, remove = machine.hypervisor.guest_physmap_add_entry, machine.hypervisor.guest_physmap_remove_page
        assert await add(cpu, domain, G, frame, p2m_type=p2m_type) == OK
        assert await remove(cpu, domain, G, frame if is_found else other) == result

    assert run(execute, machine, body) == []
    assert bool(leaf_at(machine, G)) is (result != OK)


def test_each_page_of_a_range_must_have_its_frame(execute: Execute) -> None:
    machine = smmuv3_machine()
    domain, frames = machine.domain(1, devices=(NIC,)), machine.allocate(page_order=1)

    async def body(cpu: Cpu) -> None:
        add, remove = machine.hypervisor.guest_physmap_add_entry, machine.hypervisor.guest_physmap_remove_page
        for page in (0, 1):
            assert await add(cpu, domain, Dfn(G + page), frames) == OK
        assert await remove(cpu, domain, G, frames, page_order=1) == EILSEQ

    run(execute, machine, body)
    assert leaf_at(machine, G)


def test_a_block_is_compared_and_removed_as_a_whole(execute: Execute) -> None:
    machine = smmuv3_machine()
    domain, frame = machine.domain(1, devices=(NIC,)), machine.allocate(page_order=9)
    machine.premap(domain, G, frame, page_order=9, superpage=True)

    async def body(cpu: Cpu) -> None:
        remove = machine.hypervisor.guest_physmap_remove_page
        assert await remove(cpu, domain, G, Mfn(frame + 512), page_order=9) == EILSEQ
        assert await remove(cpu, domain, Dfn(G + 3), Mfn(frame + 3)) == OK
        assert await remove(cpu, domain, G, Mfn(frame)) == OK

    assert run(execute, machine, body) == []
    assert [bool(leaf_at(machine, Dfn(G + page))) for page in (0, 3, 4)] == [False, False, True]


def test_the_p2m_of_a_dying_domain_is_not_changed(execute: Execute) -> None:
    machine = smmuv3_machine()
    domain, frame = machine.domain(1, devices=(NIC,)), machine.allocate()

    async def body(cpu: Cpu) -> None:
        await domain.is_dying.write(True)
        assert await machine.hypervisor.guest_physmap_add_entry(cpu, domain, G, frame) == ENOMEM

    assert run(execute, machine, body) == []
    assert not leaf_at(machine, G)


@pytest.mark.parametrize(("order", "leaves"), [(0, 1), (1, 2), (9, 1), (10, 2)])
def test_a_map_makes_leaves_as_large_as_they_can_be_and_one_flush_each(
    execute: Execute, order: int, leaves: int
) -> None:
    machine = smmuv3_machine()
    domain = machine.domain(0, devices=(NIC,))
    frame = machine.allocate(page_order=order, at=Mfn(G))

    async def body(cpu: Cpu) -> None:
        assert await machine.hypervisor.map(cpu, domain, G, frame, page_order=order, flags=READ_WRITE) == OK
        cpu.note("mapped")
        assert await machine.hypervisor.unmap(cpu, domain, G, page_order=order) == OK

    assert run(execute, machine, body) == []
    events = list(machine.trace.events())
    (mapped,) = steps(events, "mapped")
    posted = steps(events, "queue.fetch", descriptor="pages")
    assert [sum(step < mapped for step in posted), sum(step > mapped for step in posted)] == [leaves, leaves]


def test_a_wrapper_maps_nothing_without_a_permission_and_unmaps_only_for_a_domain_that_is_mapped_directly(
    execute: Execute,
) -> None:
    machine = smmuv3_machine()
    domain, guest = machine.domain(0, devices=(NIC,)), machine.domain(1)
    frame = machine.allocate()

    async def body(cpu: Cpu) -> None:
        assert await machine.hypervisor.map(cpu, domain, G, frame, flags=MapFlags(0)) == EINVAL
        assert await machine.hypervisor.unmap(cpu, guest, G) == OK, "it has no IOMMU"

    run(execute, machine, body)
    assert steps(machine.trace.events(), "pte.write") == []
