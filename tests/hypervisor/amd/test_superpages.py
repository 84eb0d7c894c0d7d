"""Splitting superpages and merging leaves, as AMD's driver has done it."""

from collections.abc import Sequence

import pytest

from emu.checks.findings import Finding, FindingKind
from emu.cpus import Cpu
from emu.engine import Event
from emu.engine.hosts import direct
from emu.engine.strategies.round_robin import RoundRobinStrategy
from emu.hypervisor.domain import Domain
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import READ_WRITE, MapFlags
from emu.iommus.amd.settings import AmdSettings
from emu.machine.machine import Machine
from emu.units import Dfn, Mfn, address_frame, offset
from tests.amd import amd_machine

G = Dfn(0x200)
MERGES = (Fix.NO_MERGE, Fix.FREE_AFTER_MERGE)


def events(machine: Machine, name: str) -> list[Event]:
    return [event for event in machine.trace.events() if event.name == name]


def machine_of(*, without: Sequence[Fix] = (), fixes: Sequence[Fix] = ()) -> tuple[Machine, Domain]:
    """Return a machine whose superpages have four pages, and a domain."""
    machine = amd_machine(AmdSettings(levels=3, superpage_bits=2))
    machine.driver.fixes.update(fixes)
    machine.driver.fixes.difference_update(without)
    return machine, machine.domain(1, devices=("00:1f.0",))


def run(
    machine: Machine, domain: Domain, *changes: tuple[int, Mfn | None], flags: MapFlags = READ_WRITE
) -> list[Finding]:
    """Map pages of the block, each given by its number and frame, or unmap one where there is no frame."""

    @machine.cpu(0)
    async def owner(cpu: Cpu) -> None:
        async with cpu.hypercall("memory_op"):
            for page, frame in changes:
                dfn = offset(G, page)
                if frame is None:
                    await machine.hypervisor.unmap(cpu, domain, dfn)
                else:
                    await machine.hypervisor.map(cpu, domain, dfn, frame, flags=flags)

    execution = machine.execution(RoundRobinStrategy())
    direct.run(execution)
    return machine.conclude(execution)


def leaves(machine: Machine, domain: Domain) -> list[tuple[int, int] | None]:
    """Return, for each page of the block, the order of its leaf and its frame."""
    found: list[tuple[int, int] | None] = []
    for page in range(4):
        table, level = domain.pgd, domain.levels
        dfn = offset(G, page)
        while True:
            entry = domain.format.decode(machine.memory.peek(domain.format.entry_address(table, dfn, level)), level)
            if entry is None or entry.is_leaf:
                break
            table, level = entry.address, entry.next_level
        mask = 0 if entry is None else (1 << entry.order) - 1
        found.append(None if entry is None else (entry.order, address_frame(entry.address) + (dfn & mask)))
    return found


@pytest.mark.parametrize("fixes", [(), (Fix.FILL_FIRST,), (Fix.FILL_FIRST, Fix.XSA_347)])
def test_an_unmap_of_a_page_splits_its_superpage_and_leaves_the_other_pages_mapped(fixes: Sequence[Fix]) -> None:
    machine, domain = machine_of(fixes=fixes)
    frames = machine.allocate(page_order=2)
    machine.premap(domain, G, frames, page_order=2, superpage=True, cached=True)
    assert run(machine, domain, (1, None)) == []
    assert leaves(machine, domain) == [(0, frames), None, (0, frames + 2), (0, frames + 3)]


@pytest.mark.parametrize(("fixes", "first"), [((), 2), ((Fix.FILL_FIRST,), 1)])
def test_the_table_is_entered_before_it_is_filled_or_after(fixes: Sequence[Fix], first: int) -> None:
    machine, domain = machine_of(fixes=fixes)
    machine.premap(domain, G, machine.allocate(page_order=2), page_order=2, superpage=True)
    run(machine, domain, (1, None))
    assert events(machine, "pte.write")[0].fields["table_level"] == first


def test_a_block_whose_pages_are_all_mapped_in_order_is_merged_and_its_table_freed() -> None:
    machine, domain = machine_of(without=MERGES[:1])
    frames = machine.allocate(page_order=2)
    assert run(machine, domain, *((page, Mfn(frames + page)) for page in range(4))) == []
    assert leaves(machine, domain) == [(2, frames + page) for page in range(4)]
    assert len(events(machine, "page.free")) == 1


def test_a_table_that_is_freed_before_the_flush_is_found() -> None:
    machine, domain = machine_of(without=MERGES)
    frames = machine.allocate(page_order=2)
    found = run(machine, domain, *((page, Mfn(frames + page)) for page in range(4)))
    assert {one.kind for one in found} == {FindingKind.RELEASED}


@pytest.mark.parametrize("unmapped", [0, 2])
def test_an_unmap_ends_the_merging(unmapped: int) -> None:
    machine, domain = machine_of(without=MERGES[:1])
    frames = machine.allocate(page_order=2)
    changes = [(page, Mfn(frames + page)) for page in range(4)]
    run(machine, domain, *changes[:3], (unmapped, None), changes[unmapped], changes[3])
    assert leaves(machine, domain) == [(0, frames + page) for page in range(4)]


@pytest.mark.parametrize("moved", [0, 3])
def test_frames_that_do_not_follow_one_another_are_not_merged(moved: int) -> None:
    machine, domain = machine_of(without=MERGES[:1])
    frames, other = machine.allocate(page_order=2), machine.allocate()
    run(machine, domain, *((page, other if page == moved else Mfn(frames + page)) for page in range(4)))
    assert {order for order, _ in filter(None, leaves(machine, domain))} == {0}


def test_leaves_that_permit_less_are_not_merged() -> None:
    machine, domain = machine_of(without=MERGES[:1])
    frames = machine.allocate(page_order=2)
    run(machine, domain, *((page, Mfn(frames + page)) for page in range(4)), flags=MapFlags.READABLE)
    assert {order for order, _ in filter(None, leaves(machine, domain))} == {0}


def test_since_2018_nothing_is_merged() -> None:
    machine, domain = machine_of()
    frames = machine.allocate(page_order=2)
    run(machine, domain, *((page, Mfn(frames + page)) for page in range(4)))
    assert {order for order, _ in filter(None, leaves(machine, domain))} == {0}


def test_leaves_that_stood_there_before_the_first_step_are_counted() -> None:
    machine, domain = machine_of(without=MERGES[:1])
    frames = machine.allocate(page_order=2)
    for page in range(3):
        machine.premap(domain, offset(G, page), Mfn(frames + page))
    run(machine, domain, (3, Mfn(frames + 3)))
    assert leaves(machine, domain) == [(2, frames + page) for page in range(4)]
