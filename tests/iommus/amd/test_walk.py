"""The walk: device table entry, cached translation, page tables; and what is void when an entry is invalidated."""

from collections.abc import Callable

import pytest

from emu.checks.findings import Finding
from emu.cpus import Cpu
from emu.devices.device import Device, Refuse
from emu.engine import Operation
from emu.hypervisor.ops import READ_WRITE, MapFlags
from emu.iommus.amd.formats import (
    AMD_FORMAT,
    Command,
    DeviceTableEntry,
    InvalidateAll,
    InvalidateDeviceEntry,
    InvalidatePages,
    encode_device_entry,
    encode_leaf,
    encode_table,
)
from emu.iommus.amd.settings import AmdSettings
from emu.iommus.device_entries import DeviceFill
from emu.iommus.iotlb import Fill, LookupByTag
from emu.iommus.pass_through import PassThrough
from emu.iommus.walk import ReadTable
from emu.machine.machine import Machine
from emu.units import Dfn, Maddr, Mfn, frame_address
from tests.amd import amd_machine, enter, settle, unit_of
from tests.events import steps
from tests.turns import held_back

Execute = Callable[..., list[Finding]]

G = Dfn(0x10)
NIC, DISK = "00:1f.0", "00:02.0"
OLD, NEW = 0x01D, 0x2E3
"""What the old and the new frame hold."""

READ_ONLY, WRITE_ONLY, NO_ACCESS = MapFlags.READABLE, MapFlags.WRITABLE, MapFlags(0)


def frame_with(machine: Machine, value: int) -> Mfn:
    """Return a frame that holds a value."""
    frame = machine.allocate()
    machine.memory.put(frame_address(frame), value)
    return frame


def mapped(settings: AmdSettings | None = None, *, dfn: Dfn = G, cached: bool = False) -> Machine:
    """Return a machine on which domain 1 has a device and a page."""
    machine = amd_machine(settings)
    domain = machine.domain(1, devices=(NIC,))
    machine.premap(domain, dfn, frame_with(machine, OLD), cached=cached)
    return machine


def got(execute: Execute, machine: Machine, dfn: Dfn = G) -> int | None:
    """Return what the device reads at a page."""
    found: list[int | None] = []

    @machine.device(NIC)
    async def reader(device: Device) -> None:
        found.append(await device.read(dfn))

    assert execute(machine) == []
    return found[0]


def may_write(execute: Execute, machine: Machine, dfn: Dfn = G) -> bool:
    """Return whether the device may write to a page."""
    found: list[bool] = []

    @machine.device(NIC)
    async def writer(device: Device) -> None:
        found.append(await device.write(dfn, NEW))

    assert execute(machine) == []
    return found[0]


@pytest.mark.parametrize("levels", [1, 2, 3, 4, 5, 6])
def test_a_walk_reads_one_word_a_level_from_the_top_down(execute: Execute, levels: int) -> None:
    machine = mapped(AmdSettings(levels=levels), dfn=Dfn(0x10))
    assert got(execute, machine) == OLD
    read = [event.fields["table_level"] for event in machine.trace.events() if event.name == "walk.read"]
    assert read == list(range(levels, 0, -1))


@pytest.mark.parametrize("levels", [1, 2, 3, 4, 5, 6])
def test_the_last_page_within_reach_of_the_mode_is_translated_and_the_next_one_is_not(
    execute: Execute, levels: int
) -> None:
    beyond = 1 << min(9 * levels, 52)
    assert got(execute, mapped(AmdSettings(levels=levels), dfn=Dfn(beyond - 1)), Dfn(beyond - 1)) == OLD
    assert got(execute, mapped(AmdSettings(levels=levels), dfn=Dfn(0)), Dfn(beyond)) is None, (
        "its indexes are those of 0"
    )


def skipping(machine: Machine) -> None:
    """Let the highest table of domain 1 lead from level 3 to a table of leaves, which maps G and no page beside it."""
    (domain,) = machine.domains.values()
    leaves = frame_address(machine.memory.allocate_table())
    machine.memory.put(domain.pgd, encode_table(leaves, 1))
    leaf = encode_leaf(frame_address(frame_with(machine, NEW)), read=True, write=True)
    machine.memory.put(Maddr(leaves + 8 * G), leaf)


def test_an_entry_may_skip_a_level(execute: Execute) -> None:
    machine = mapped(AmdSettings(levels=3))
    skipping(machine)
    assert got(execute, machine) == NEW


def test_an_entry_that_skips_a_level_faults_for_a_page_with_an_index_there(execute: Execute) -> None:
    machine = mapped(AmdSettings(levels=3))
    skipping(machine)
    assert got(execute, machine, Dfn(G | 1 << 9)) is None


@pytest.mark.parametrize("weak", ["device", "table", "leaf"])
@pytest.mark.parametrize(
    ("flags", "reads", "writes"),
    [
        (READ_WRITE, True, True),
        (READ_ONLY, True, False),
        (WRITE_ONLY, False, True),
        (NO_ACCESS, False, False),
    ],
)
def test_an_access_needs_the_permission_of_the_devices_entry_and_of_every_level(
    execute: Execute, weak: str, flags: MapFlags, reads: bool, writes: bool
) -> None:
    def weakened() -> Machine:
        machine = amd_machine()
        domain = machine.domain(1, devices=(NIC,))
        machine.premap(domain, G, frame_with(machine, OLD), flags=flags if weak == "leaf" else READ_WRITE)
        read, write = MapFlags.READABLE in flags, MapFlags.WRITABLE in flags
        if weak == "device":
            enter(machine, NIC, DeviceTableEntry(mode=2, root=domain.pgd, domain_id=1, read=read, write=write))
        elif weak == "table":
            allowed = (1 << 60) - 1 | read << 61 | write << 62
            machine.memory.put(domain.pgd, machine.memory.peek(domain.pgd) & allowed)
        return machine

    assert (got(execute, weakened()) is not None) is reads
    assert may_write(execute, weakened()) is writes


# What the device's own entry says


def test_without_v_requests_pass_through_untranslated_whatever_else_the_entry_says(execute: Execute) -> None:
    machine = mapped()
    entry = DeviceTableEntry(is_valid=False, mode=2, root=machine.domains[1].pgd, read=False, write=False)
    enter(machine, NIC, entry)
    assert got(execute, machine, Dfn(frame_with(machine, NEW))) == NEW


@pytest.mark.parametrize(("read", "write"), [(True, True), (True, False), (False, True)])
def test_with_mode_0_requests_pass_through_as_far_as_the_entry_permits(
    execute: Execute, read: bool, write: bool
) -> None:
    def passing() -> tuple[Machine, Dfn]:
        machine = mapped()
        enter(machine, NIC, DeviceTableEntry(mode=0, read=read, write=write))
        return machine, Dfn(frame_with(machine, NEW))

    assert (got(execute, *passing()) == NEW) is read
    assert may_write(execute, *passing()) is write


def test_what_passes_through_is_not_cached(execute: Execute) -> None:
    machine = mapped()
    enter(machine, NIC, DeviceTableEntry(is_valid=False))
    got(execute, machine, Dfn(frame_with(machine, NEW)))
    assert len(machine.unit.iotlb) == 0


@pytest.mark.parametrize(
    ("bits_set", "bits_clear"),
    [(0, 1 << 1), (7 << 9, 0), (1 << 2, 0), (1 << 63, 0)],
    ids=["TV=0", "mode 7", "reserved bit 2", "reserved bit 63"],
)
def test_a_valid_entry_that_does_not_translate_aborts_each_request(
    execute: Execute, bits_set: int, bits_clear: int
) -> None:
    machine = mapped()
    address = unit_of(machine).device_table.address(machine.devices[NIC].source_id)
    machine.memory.put(address, (machine.memory.peek(address) | bits_set) & ~bits_clear)
    assert got(execute, machine) is None
    assert steps(machine.trace.events(), "walk.read", "iotlb.miss", "walk.pass_through") == []


# What is void


def moved(
    *commands: Command, before: DeviceTableEntry | None = None, cached: bool = False
) -> tuple[Machine, list[int | None]]:
    """Return a machine on which a CPU moves a device from domain 1 to domain 2, and what the device reads meanwhile.

    Args:
        commands: what it posts then, and awaits.
        before: the device's entry, if not that of domain 1.
        cached: the page of domain 1 is cached.
    """
    machine = mapped(cached=cached)
    target = machine.domain(2)
    machine.premap(target, G, frame_with(machine, NEW))
    if before is not None:
        enter(machine, NIC, before)
    after = encode_device_entry(DeviceTableEntry(mode=2, root=target.pgd, domain_id=2))
    found: list[int | None] = []

    @machine.cpu(0)
    async def mover(cpu: Cpu) -> None:
        words = unit_of(machine).device_table.words(machine.devices[NIC].source_id)
        for address, word in reversed([*zip(words, after, strict=True)]):
            await cpu.store64(address, word)
        if commands:
            await settle(machine, cpu, *commands)

    @machine.device(NIC)
    async def reader(device: Device) -> None:
        found.append(await device.read(G))

    return machine, found


DEVICE = InvalidateDeviceEntry(0xF8)


@pytest.mark.parametrize("operation", [DeviceFill, LookupByTag, Fill])
@pytest.mark.parametrize("command", [DEVICE, InvalidateAll()])
def test_a_request_that_has_read_the_old_entry_begins_again_after_its_invalidation(
    operation: type[Operation[object]], command: Command
) -> None:
    machine, found = moved(command)
    assert held_back(machine, operation) == []
    assert found == [NEW]
    assert len(steps(machine.trace.events(), "walk.void", "device_entry.void")) == 1


@pytest.mark.parametrize("is_invalidated", [False, True])
def test_what_is_cached_under_the_old_id_is_not_found_after_the_invalidation_of_the_entry_that_said_it(
    is_invalidated: bool,
) -> None:
    machine, found = moved(*[DEVICE] * is_invalidated, cached=True)
    assert held_back(machine, LookupByTag) == []
    assert found == [NEW if is_invalidated else OLD]


@pytest.mark.parametrize("operation", [DeviceFill, LookupByTag, Fill])
@pytest.mark.parametrize(
    "commands",
    [(), (InvalidateDeviceEntry(0xF9),), (InvalidatePages(1, Dfn(0), None, directory=True),)],
    ids=["none", "another device's", "of pages"],
)
def test_a_request_that_has_read_the_old_entry_goes_on_after_anything_else(
    operation: type[Operation[object]], commands: tuple[Command, ...]
) -> None:
    machine, found = moved(*commands)
    assert held_back(machine, operation) == []
    assert found == [OLD]
    assert steps(machine.trace.events(), "walk.void", "device_entry.void") == []


@pytest.mark.parametrize("is_invalidated", [False, True])
def test_a_request_that_is_about_to_pass_through_begins_again_after_the_invalidation_of_its_entry(
    is_invalidated: bool,
) -> None:
    machine, found = moved(*[DEVICE] * is_invalidated, before=DeviceTableEntry(is_valid=False))
    assert held_back(machine, PassThrough) == []
    assert found == [NEW if is_invalidated else machine.memory.peek(frame_address(Mfn(G)))]


@pytest.mark.parametrize("is_invalidated", [False, True])
def test_a_request_that_is_about_to_be_aborted_begins_again_after_the_invalidation_of_its_entry(
    is_invalidated: bool,
) -> None:
    machine, found = moved(*[DEVICE] * is_invalidated, before=DeviceTableEntry(translates=False))
    assert held_back(machine, Refuse) == []
    assert found == [NEW if is_invalidated else None]


@pytest.mark.parametrize(("is_dropped", "value"), [(False, OLD), (True, NEW)])
def test_a_walk_from_an_entry_that_was_cached_below_another_root_begins_again_when_the_entry_is_dropped(
    is_dropped: bool, value: int
) -> None:
    machine = mapped(AmdSettings(levels=2, walk_caches=True))
    machine.premap(machine.domains[1], Dfn(G + 1), machine.allocate(), cached=True)
    other = machine.domain(2)
    machine.premap(other, G, frame_with(machine, NEW))
    machine.plug(DISK)
    enter(machine, DISK, DeviceTableEntry(mode=2, root=other.pgd, domain_id=1))
    found: list[int | None] = []

    @machine.cpu(0)
    async def detacher(cpu: Cpu) -> None:
        await cpu.store64(unit_of(machine).device_table.address(machine.devices[NIC].source_id), 0)
        dropped = InvalidatePages(1, Dfn(0), None, directory=is_dropped)
        await settle(machine, cpu, DEVICE, dropped)

    @machine.device(DISK)
    async def reader(device: Device) -> None:
        found.append(await device.read(G))

    assert held_back(machine, ReadTable, level=1, chosen=1) == []
    assert len(steps(machine.trace.events(), "walk.start")) == 1
    assert found == [value]


# Entries that are not present


@pytest.mark.parametrize("np_cache", [False, True])
@pytest.mark.parametrize("is_invalidated", [False, True])
def test_a_fault_is_cached_until_an_invalidation_if_the_unit_caches_non_present_entries_and_never_else(
    execute: Execute, np_cache: bool, is_invalidated: bool
) -> None:
    machine = mapped(AmdSettings(levels=2, np_cache=np_cache), dfn=Dfn(G + 1))
    faulted, stored = machine.signal("faulted"), machine.signal("stored")
    leaf = encode_leaf(frame_address(frame_with(machine, NEW)), read=True, write=True)
    found: list[int | None] = []

    @machine.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        await faulted.wait()
        table = AMD_FORMAT.decode(machine.memory.peek(machine.domains[1].pgd), 2)
        assert table is not None
        await cpu.store64(AMD_FORMAT.entry_address(table.address, G, 1), leaf)
        if is_invalidated:
            await settle(machine, cpu, InvalidatePages(1, G))
        await stored.send()

    @machine.device(NIC)
    async def reader(device: Device) -> None:
        found.append(await device.read(G))
        await faulted.send()
        await stored.wait()
        found.append(await device.read(G))

    assert execute(machine) == []
    assert found == [None, None if np_cache and not is_invalidated else NEW]
