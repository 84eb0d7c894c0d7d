"""A unit that keeps what it must drop uses what the ledger does not allow: emu notices such a bug of its own."""

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from emu.checks.findings import Finding, FindingKind
from emu.cpus import Cpu
from emu.devices.device import Commit, Device
from emu.engine import Operation
from emu.iommus.invalidation import Range, Remove
from emu.iommus.iotlb import Fill, Iotlb, IotlbEntry
from emu.iommus.requests import Removal, TableRead
from emu.iommus.smmu.engine import Segment
from emu.iommus.smmu.formats import S2CR_FAULT, S2CR_TRANSLATE, encode_leaf, encode_table
from emu.iommus.smmu.settings import SmmuSettings
from emu.iommus.smmu.state import SmmuState
from emu.iommus.unit import UnitState
from emu.iommus.walk import ReadTable, walk_tables
from emu.machine.machine import Machine
from emu.units import Dfn, Maddr, Mfn, frame_address, offset
from tests.smmu import bank_of, registers_of, settle, smmu_machine, store, stream_of
from tests.turns import held_back

Execute = Callable[..., list[Finding]]

G = Dfn(0x10)
H = offset(G, 1)
NEW = Mfn(0x1000)
NIC, DISK = "00:1f.0", "00:02.0"


def machine_with(*, cached: bool, walk_caches: bool = False) -> Machine:
    """Return a machine on which a device may use two pages."""
    machine = smmu_machine(SmmuSettings(ipa_bits=32, walk_caches=walk_caches))
    domain = machine.domain(1, devices=(NIC,))
    machine.premap(domain, G, machine.allocate(page_order=1), page_order=1, cached=cached)
    machine.allocate(at=NEW)
    return machine


def words(machine: Machine, dfn: Dfn) -> tuple[Maddr, Maddr]:
    """Return where a page's words of levels 2 and 1 lie."""
    format_, table, found = machine.unit.format, machine.domains[1].pgd, []
    for level in (3, 2):
        found.append(format_.entry_address(table, dfn, level))
        entry = format_.decode(machine.memory.peek(found[-1]), level)
        assert entry is not None
        table = entry.address
    return found[-1], format_.entry_address(table, dfn, 1)


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
        await settle(machine, 1)
        await cleared.send()

    @machine.device(NIC)
    async def reader(device: Device) -> None:
        await cleared.wait()
        for page in (G, H):
            await device.read(page)

    assert [finding.kind for finding in execute(machine)] == [FindingKind.ILLEGAL] * is_broken


@pytest.mark.parametrize("is_broken", [False, True])
def test_a_synchronisation_that_completes_before_what_it_must_drain_is_noticed(
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
        await settle(machine, 1)

    assert [finding.kind for finding in held_back(machine, Commit)] == [FindingKind.ILLEGAL] * is_broken


@pytest.mark.parametrize("is_broken", [False, True])
def test_a_walk_that_fills_after_an_invalidation_with_what_it_read_before_is_noticed(
    monkeypatch: pytest.MonkeyPatch, is_broken: bool
) -> None:
    if is_broken:
        monkeypatch.setattr(SmmuState, "is_void", lambda *_: False)
    machine = machine_with(cached=False)
    reads(machine, G)

    @machine.cpu(0)
    async def clearer(cpu: Cpu) -> None:
        await cpu.store64(words(machine, G)[1], 0)
        await settle(machine, 1)

    assert [finding.kind for finding in held_back(machine, Fill)] == [FindingKind.ILLEGAL] * is_broken


@pytest.mark.parametrize("is_broken", [False, True])
def test_a_walk_that_goes_on_by_old_registers_over_an_invalidation_of_their_vmid_is_noticed(
    monkeypatch: pytest.MonkeyPatch, is_broken: bool
) -> None:
    if is_broken:
        monkeypatch.setattr(SmmuState, "is_void", lambda *_: False)
    machine = machine_with(cached=False)
    machine.domain(2, devices=(DISK,))
    reads(machine, G)

    @machine.cpu(0)
    async def mover(cpu: Cpu) -> None:
        register = registers_of(machine).s2cr(stream_of(machine, NIC))
        await store(machine, register, S2CR_FAULT)
        await settle(machine, 1)
        await cpu.store64(words(machine, G)[1], encode_leaf(frame_address(NEW), read=True, write=True))
        await store(machine, register, S2CR_TRANSLATE | bank_of(machine, 2))

    assert [finding.kind for finding in held_back(machine, ReadTable, level=1)] == [FindingKind.ILLEGAL] * is_broken


@pytest.mark.parametrize("is_broken", [False, True])
def test_a_unit_that_caches_a_fault_is_noticed(
    execute: Execute, monkeypatch: pytest.MonkeyPatch, is_broken: bool
) -> None:
    def caching(*arguments: Any, **keywords: Any) -> Any:
        return walk_tables(*arguments, **{**keywords, "caches_non_present": True})

    if is_broken:
        monkeypatch.setattr("emu.iommus.unit_by_tag.walk_tables", caching)
    machine = machine_with(cached=False)
    word, faulted, stored = words(machine, G)[1], machine.signal("faulted"), machine.signal("stored")
    leaf = machine.memory.peek(word)
    machine.memory.put(word, 0)

    @machine.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        await faulted.wait()
        await cpu.store64(word, leaf)
        await stored.send()

    @machine.device(NIC)
    async def reader(device: Device) -> None:
        await device.read(G)
        await faulted.send()
        await stored.wait()
        await device.read(G)

    assert [finding.kind for finding in execute(machine)] == [FindingKind.ILLEGAL] * is_broken


async def relink(machine: Machine, cpu: Cpu) -> None:
    """Put another table in the place of a page's, invalidate the VMID, and change the leaf in the old table."""
    above, leaf = words(machine, G)
    await cpu.store64(above, encode_table(frame_address(machine.memory.allocate_table())))
    await settle(machine, 1)
    await cpu.store64(leaf, encode_leaf(frame_address(NEW), read=True, write=True))


def covers_leaves(self: Removal, read: TableRead, dfn: Dfn) -> bool:
    """Keep entries of higher tables, whatever was invalidated."""
    return read.is_leaf and read.spans(dfn, self.first, self.last)


def of_leaves(self: Remove, unit: UnitState, covered: Range, start: int) -> None:
    """Keep entries of higher tables that the unit caches."""
    BEGIN(self, unit, attrs.evolve(covered, leaf_only=True), start)


BEGIN = Remove.__init__


@pytest.mark.parametrize("is_broken", [False, True])
@pytest.mark.parametrize("walk_caches", [False, True])
def test_an_entry_of_a_higher_table_that_is_kept_over_an_invalidation_is_noticed(
    monkeypatch: pytest.MonkeyPatch, walk_caches: bool, is_broken: bool
) -> None:
    if is_broken and walk_caches:
        monkeypatch.setattr(Remove, "__init__", of_leaves)
    elif is_broken:
        monkeypatch.setattr(Removal, "covers", covers_leaves)
    machine = machine_with(cached=walk_caches, walk_caches=walk_caches)
    relinked = machine.signal("relinked")

    @machine.cpu(0)
    async def relinker(cpu: Cpu) -> None:
        await relink(machine, cpu)
        await relinked.send()

    @machine.device(NIC)
    async def reader(device: Device) -> None:
        if walk_caches:
            await relinked.wait()
        await device.read(G)

    held: tuple[type[Operation[Any]], int | None] = (Commit, None) if walk_caches else (ReadTable, 1)
    kinds = [finding.kind for finding in held_back(machine, held[0], level=held[1], chosen=int(walk_caches))]
    assert kinds == [FindingKind.ILLEGAL] * is_broken
