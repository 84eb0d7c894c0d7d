"""The device table and its cache: what an invalidation drops, what may still be used, and entries written in parts."""

from collections.abc import Callable
from math import inf

import pytest

from emu.checks.findings import Finding
from emu.cpus import Cpu
from emu.devices.device import Device
from emu.iommus.amd.device_table import ABORT, DeviceTable
from emu.iommus.amd.formats import DeviceTableEntry, InvalidateDeviceEntry, encode_device_entry
from emu.machine.machine import Machine
from emu.memory import Memory
from emu.units import Dfn, Maddr, Mfn, frame_address, parse_source_id
from tests.amd import amd_machine, settle, unit_of
from tests.events import steps

Execute = Callable[..., list[Finding]]

G = Dfn(0x10)
NIC, DISK = "00:1f.0", "00:02.0"
BASE = Maddr(0x10_0000)
DEVICE = parse_source_id(NIC)
OTHER = DEVICE + 1
OLD = DeviceTableEntry(mode=2, root=Maddr(0xA000), domain_id=7)
NEW = DeviceTableEntry(mode=3, root=Maddr(0xB000), domain_id=8)
PASSES = DeviceTableEntry(is_valid=False, translates=False, read=False, write=False)


@pytest.fixture
def table() -> DeviceTable:
    table = DeviceTable("amd0", Memory(), BASE)
    write(table, OLD, 0)
    return table


def write(table: DeviceTable, entry: DeviceTableEntry, step: int) -> None:
    for address, word in zip(table.words(DEVICE), encode_device_entry(entry), strict=True):
        table.memory.put(address, word, step=step)


def invalidate(table: DeviceTable, source_id: int | None, start: int, step: int) -> int:
    """Drop entries and complete at once; return how many were dropped."""
    dropped = table.remove(source_id, start)
    table.complete(source_id, start, step)
    return dropped


def legal(table: DeviceTable, source_id: int = DEVICE) -> list[DeviceTableEntry]:
    """Return the entries that the unit may use for a device now, newest first."""
    return [entry for entry, _, until in table.lifetimes(source_id) if until == inf]


def test_entries_lie_32_bytes_apart_by_device_id() -> None:
    table = DeviceTable("amd0", Memory(), BASE)
    assert [table.address(source_id) for source_id in (0, 1, 0xFFFF)] == [BASE, BASE + 0x20, BASE + 0x1F_FFE0]
    assert list(table.words(1)) == [BASE + 0x20, BASE + 0x28, BASE + 0x30, BASE + 0x38]


def test_an_entry_is_read_as_256_bits(table: DeviceTable) -> None:
    for number, address in enumerate(table.words(DEVICE)):
        table.memory.put(address, number + 1)
    assert table.seen(DEVICE) == 4 << 192 | 3 << 128 | 2 << 64 | 1


def test_what_the_table_holds_is_legal(table: DeviceTable) -> None:
    assert legal(table) == [OLD]
    assert legal(table, OTHER) == [PASSES]


def test_a_replaced_entry_stays_legal_behind_the_new_one(table: DeviceTable) -> None:
    write(table, NEW, 1)
    assert legal(table) == [NEW, OLD]


@pytest.mark.parametrize(("source_id", "left"), [(DEVICE, [NEW]), (None, [NEW]), (OTHER, [NEW, OLD])])
def test_an_invalidation_ends_the_old_entry_of_its_device(
    table: DeviceTable, source_id: int | None, left: list[DeviceTableEntry]
) -> None:
    write(table, NEW, 1)
    invalidate(table, source_id, 2, 3)
    assert legal(table) == left


@pytest.mark.parametrize(("start", "left"), [(1, [NEW, OLD]), (2, [NEW]), (3, [NEW])])
def test_an_invalidation_counts_only_if_it_began_when_the_new_entry_was_stored_or_later(
    table: DeviceTable, start: int, left: list[DeviceTableEntry]
) -> None:
    write(table, NEW, 2)
    invalidate(table, DEVICE, start, 4)
    assert legal(table) == left


def test_an_entry_ends_at_the_completion_of_the_first_invalidation_that_counts(table: DeviceTable) -> None:
    write(table, NEW, 2)
    for start, step in ((1, 3), (5, 9), (6, 8)):
        invalidate(table, DEVICE, start, step)
    assert list(table.lifetimes(DEVICE)) == [(NEW, 2, inf), (OLD, 0, 8)]


def test_an_entry_that_was_dropped_stays_legal_until_its_invalidation_completes(table: DeviceTable) -> None:
    write(table, NEW, 1)
    table.remove(DEVICE, 2)
    assert legal(table) == [NEW, OLD]
    assert table.since(DEVICE) == 2, "it may not be cached again"
    table.complete(DEVICE, 2, 3)
    assert legal(table) == [NEW]


def test_an_entry_that_is_written_in_parts_is_legal_as_it_stands_between_them(table: DeviceTable) -> None:
    first, second, *_ = table.words(DEVICE)
    words = encode_device_entry(NEW)
    table.memory.put(second, words[1], step=1)
    table.memory.put(first, words[0], step=2)
    torn = DeviceTableEntry(mode=OLD.mode, root=OLD.root, domain_id=NEW.domain_id)
    assert legal(table) == [NEW, torn, OLD]
    invalidate(table, DEVICE, 3, 4)
    assert legal(table) == [NEW]


def test_an_entry_that_is_not_legal_is_as_good_as_one_that_aborts(table: DeviceTable) -> None:
    table.memory.put(table.address(DEVICE), 3 | 7 << 9, step=1)
    assert legal(table) == [ABORT, OLD]


def test_an_invalidation_drops_cached_entries_of_its_device_alone_and_says_how_many(table: DeviceTable) -> None:
    table.entries = {DEVICE: (OLD, ()), OTHER: (NEW, ())}
    assert invalidate(table, DEVICE, 1, 2) == 1
    assert table.entries == {OTHER: (NEW, ())}
    assert invalidate(table, DEVICE, 3, 4) == 0
    assert invalidate(table, None, 5, 6) == 1


# The domain id by which translations are found


def read_by(machine: Machine, execute: Execute, *bdfs: str) -> list[int | None]:
    """Return what devices read at the page, one after the other."""
    turns = [machine.signal(f"turn {number}") for number in range(len(bdfs))]
    found: list[int | None] = []

    async def reader(device: Device, turn: int) -> None:
        if turn:
            await turns[turn - 1].wait()
        found.append(await device.read(G))
        await turns[turn].send()

    for turn, bdf in enumerate(bdfs):
        machine.device(bdf).runs(reader, turn)
    assert execute(machine) == []
    return found


def test_the_devices_of_a_domain_find_each_others_translations(execute: Execute) -> None:
    machine = amd_machine()
    domain, frame = machine.domain(1, devices=(NIC, DISK)), machine.allocate()
    machine.premap(domain, G, frame)
    machine.memory.put(frame_address(frame), 0x01D)
    assert read_by(machine, execute, NIC, DISK) == [0x01D, 0x01D]
    assert len(machine.unit.iotlb) == 1
    assert len(steps(machine.trace.events(), "iotlb.fill")) == 1
    assert len(steps(machine.trace.events(), "iotlb.hit", agent=DISK)) == 1


def test_the_devices_of_different_domains_do_not(execute: Execute) -> None:
    machine = amd_machine()
    for number, bdf in enumerate((NIC, DISK), start=1):
        frame = machine.allocate()
        machine.premap(machine.domain(number, devices=(bdf,)), G, frame)
        machine.memory.put(frame_address(frame), number)
    assert read_by(machine, execute, NIC, DISK) == [1, 2]
    assert len(machine.unit.iotlb) == 2


def moved_to(machine: Machine, domain_id: int) -> None:
    """Have a CPU point the device's entry at the tables of domain 2 under an id, and invalidate the entry alone."""
    entry = DeviceTableEntry(mode=2, root=machine.domains[2].pgd, domain_id=domain_id)
    moved = machine.signal("moved")

    @machine.cpu(0)
    async def mover(cpu: Cpu) -> None:
        words = unit_of(machine).device_table.words(DEVICE)
        for address, word in zip(words, encode_device_entry(entry), strict=True):
            await cpu.store64(address, word)
        await settle(machine, cpu, InvalidateDeviceEntry(DEVICE))
        await moved.send()

    @machine.device(NIC)
    async def reader(device: Device) -> None:
        await moved.wait()
        await device.read(G)


def frames_read(machine: Machine) -> list[Mfn]:
    return [event.fields["mfn"] for event in machine.trace.events() if event.name == "dma.read"]


@pytest.mark.parametrize(("domain_id", "is_old_found"), [(1, True), (2, False)])
def test_what_was_cached_under_an_id_is_found_after_the_move_only_if_the_new_entry_says_the_same_id(
    execute: Execute, domain_id: int, is_old_found: bool
) -> None:
    machine = amd_machine()
    source, target = machine.domain(1, devices=(NIC,)), machine.domain(2)
    old, new = machine.allocate(), machine.allocate()
    machine.premap(source, G, old, cached=True)
    machine.premap(target, G, new)
    moved_to(machine, domain_id)
    assert execute(machine) == []
    assert frames_read(machine) == [old if is_old_found else new]
