"""A unit that keeps what it must drop uses what the ledger does not allow: emu notices such a bug of its own."""

from collections.abc import Callable

import attrs
import pytest

from emu.checks.findings import Finding, FindingKind
from emu.cpus import Cpu
from emu.devices.device import Commit, Device
from emu.iommus.amd.engine import Segment
from emu.iommus.amd.formats import AMD_FORMAT, InvalidatePages, encode_leaf, encode_table
from emu.iommus.amd.settings import AmdSettings
from emu.iommus.invalidation import Range, Remove
from emu.iommus.iotlb import Iotlb, IotlbEntry
from emu.iommus.requests import Removal, TableRead
from emu.iommus.unit import UnitState
from emu.iommus.walk import ReadTable
from emu.machine.machine import Machine
from emu.units import Dfn, Maddr, Mfn, frame_address, offset
from tests.amd import amd_machine, settle
from tests.turns import held_back

Execute = Callable[..., list[Finding]]

G = Dfn(0x10)
H = offset(G, 1)
NEW = Mfn(0x1000)
NIC = "00:1f.0"
ALL = InvalidatePages(1, Dfn(0), None, directory=True)
"""Of what PDE covers, too."""


def machine_with(*, cached: bool, walk_caches: bool = False) -> Machine:
    """Return a machine on which a device may use two pages."""
    machine = amd_machine(AmdSettings(levels=2, walk_caches=walk_caches))
    domain = machine.domain(1, devices=(NIC,))
    machine.premap(domain, G, machine.allocate(page_order=1), page_order=1, cached=cached)
    machine.allocate(at=NEW)
    return machine


def words(machine: Machine, dfn: Dfn) -> tuple[Maddr, Maddr]:
    """Return where a page's words of levels 2 and 1 lie."""
    above = AMD_FORMAT.entry_address(machine.domains[1].pgd, dfn, 2)
    table = AMD_FORMAT.decode(machine.memory.peek(above), 2)
    assert table is not None
    return above, AMD_FORMAT.entry_address(table.address, dfn, 1)


def reads(machine: Machine, dfn: Dfn) -> None:
    """Have the device read a page."""

    @machine.device(NIC)
    async def reader(device: Device) -> None:
        await device.read(dfn)


def missing_one(self: Iotlb, tag: int | None, first: Dfn, last: Dfn) -> list[IotlbEntry]:
    """Drop every entry in a range but the last one."""
    dropped: list[IotlbEntry] = [self.entries[key] for key in self.matching(tag, first, last)][:-1]
    for entry in dropped:
        self.remove(entry.key)
    return dropped


@pytest.mark.parametrize("is_broken", [False, True])
def test_an_invalidation_that_misses_one_entry_is_noticed(
    execute: Execute, monkeypatch: pytest.MonkeyPatch, is_broken: bool
) -> None:
    if is_broken:
        monkeypatch.setattr(Iotlb, "invalidate", missing_one)
    machine = machine_with(cached=True)
    cleared = machine.signal("cleared")

    @machine.cpu(0)
    async def clearer(cpu: Cpu) -> None:
        for page in (G, H):
            await cpu.store64(words(machine, page)[1], 0)
        await settle(machine, cpu, ALL)
        await cleared.send()

    @machine.device(NIC)
    async def reader(device: Device) -> None:
        await cleared.wait()
        for page in (G, H):
            await device.read(page)

    assert [finding.kind for finding in execute(machine)] == [FindingKind.ILLEGAL] * is_broken


@pytest.mark.parametrize("is_broken", [False, True])
def test_a_wait_that_completes_before_what_it_must_drain_is_noticed(
    monkeypatch: pytest.MonkeyPatch, is_broken: bool
) -> None:
    complete = Segment.complete

    async def complete_early(self: Segment) -> None:
        for begun in self.begun:
            begun.to_drain.clear()
        await complete(self)

    if is_broken:
        monkeypatch.setattr(Segment, "complete", complete_early)
    machine = machine_with(cached=True)
    reads(machine, G)

    @machine.cpu(0)
    async def clearer(cpu: Cpu) -> None:
        await cpu.store64(words(machine, G)[1], 0)
        await settle(machine, cpu, InvalidatePages(1, G))

    assert [finding.kind for finding in held_back(machine, Commit)] == [FindingKind.ILLEGAL] * is_broken


async def relink(machine: Machine, cpu: Cpu) -> None:
    """Put another table in the place of a page's, invalidate everything, and change the leaf in the old table."""
    above, leaf = words(machine, G)
    await cpu.store64(above, encode_table(frame_address(machine.memory.allocate_table())))
    await settle(machine, cpu, ALL)
    await cpu.store64(leaf, encode_leaf(frame_address(NEW), read=True, write=True))


def covers_leaves(self: Removal, read: TableRead, dfn: Dfn) -> bool:
    """Keep entries of higher tables, whatever was invalidated."""
    return read.is_leaf and read.spans(dfn, self.first, self.last)


@pytest.mark.parametrize("is_broken", [False, True])
def test_an_entry_of_a_higher_table_that_is_kept_over_an_invalidation_with_pde_is_noticed(
    monkeypatch: pytest.MonkeyPatch, is_broken: bool
) -> None:
    if is_broken:
        monkeypatch.setattr(Removal, "covers", covers_leaves)
    machine = machine_with(cached=False)
    reads(machine, G)

    @machine.cpu(0)
    async def relinker(cpu: Cpu) -> None:
        await relink(machine, cpu)

    assert [finding.kind for finding in held_back(machine, ReadTable, level=1)] == [FindingKind.ILLEGAL] * is_broken


@pytest.mark.parametrize("is_broken", [False, True])
def test_an_entry_of_a_higher_table_that_the_unit_caches_over_an_invalidation_with_pde_is_noticed(
    monkeypatch: pytest.MonkeyPatch, is_broken: bool
) -> None:
    begin = Remove.__init__

    def of_leaves(self: Remove, unit: UnitState, covered: Range, start: int) -> None:
        begin(self, unit, attrs.evolve(covered, leaf_only=True), start)

    if is_broken:
        monkeypatch.setattr(Remove, "__init__", of_leaves)
    machine = machine_with(cached=True, walk_caches=True)
    relinked = machine.signal("relinked")

    @machine.cpu(0)
    async def relinker(cpu: Cpu) -> None:
        await relink(machine, cpu)
        await relinked.send()

    @machine.device(NIC)
    async def reader(device: Device) -> None:
        await relinked.wait()
        await device.read(G)

    assert [finding.kind for finding in held_back(machine, Commit, chosen=1)] == [FindingKind.ILLEGAL] * is_broken
