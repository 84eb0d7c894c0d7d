"""The walk: stream and context bank, cached translation, page tables; and what is void when a VMID is invalidated."""

from collections.abc import Callable

import pytest

from emu.checks.details import Evidence
from emu.checks.findings import Finding, Stale
from emu.cpus import Cpu
from emu.devices.device import Device, Refuse
from emu.engine import Operation, Wait
from emu.engine.hosts import direct
from emu.hypervisor.ops import READ_WRITE, MapFlags
from emu.iommus.iotlb import Fill, LookupByTag
from emu.iommus.pass_through import PassThrough
from emu.iommus.smmu.formats import ACCESS_FLAG, S2CR_BYPASS, S2CR_FAULT, S2CR_TRANSLATE, encode_leaf
from emu.iommus.smmu.queue import ALL
from emu.iommus.smmu.registers import SCTLR
from emu.iommus.smmu.settings import SmmuSettings
from emu.iommus.walk import ReadTable
from emu.machine.machine import Machine
from emu.units import Dfn, Maddr, Mfn, frame_address
from tests.events import steps
from tests.smmu import bank_of, enter, registers_of, settle, smmu_machine, store, stream_of, unit_of, vmid
from tests.turns import Order, held_back

Execute = Callable[..., list[Finding]]

G = Dfn(0x10)
NIC, DISK = "00:1f.0", "00:02.0"
OLD, NEW = 0x01D, 0x2E3
"""What the old and the new frame hold."""

SECOND = Dfn(1 << 27)
"""The first page that the second of two tables at the top translates."""

READ_ONLY = MapFlags.READABLE


def frame_with(machine: Machine, value: int) -> Mfn:
    """Return a frame that holds a value."""
    frame = machine.allocate()
    machine.memory.put(frame_address(frame), value)
    return frame


def mapped(settings: SmmuSettings | None = None, *, dfn: Dfn = G, cached: bool = False) -> Machine:
    """Return a machine on which domain 1 has a device and a page."""
    machine = smmu_machine(settings or SmmuSettings(ipa_bits=32))
    machine.premap(machine.domain(1, devices=(NIC,)), dfn, frame_with(machine, OLD), cached=cached)
    return machine


def got(execute: Execute, machine: Machine, dfn: Dfn = G, bdf: str = NIC) -> int | None:
    """Return what a device reads at a page."""
    found: list[int | None] = []

    @machine.device(bdf)
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


def word_of(machine: Machine, dfn: Dfn = G, level: int = 1) -> Maddr:
    """Return where a page's word of a level lies in the tables of domain 1."""
    format_, domain = machine.unit.format, machine.domains[1]
    table, above = domain.pgd, domain.levels
    while above > level:
        entry = format_.decode(machine.memory.peek(format_.entry_address(table, dfn, above)), above)
        assert entry is not None
        table, above = entry.address, entry.next_level
    return format_.entry_address(table, dfn, level)


# Levels, and tables side by side at the top


@pytest.mark.parametrize(
    ("ipa_bits", "levels"), [(32, 3), (36, 3), (39, 3), (40, 3), (42, 3), (43, 3), (44, 4), (48, 4)]
)
def test_a_walk_reads_one_word_a_level_from_the_top_down(execute: Execute, ipa_bits: int, levels: int) -> None:
    machine = mapped(SmmuSettings(ipa_bits=ipa_bits))
    assert got(execute, machine) == OLD
    read = [event.fields["table_level"] for event in machine.trace.events() if event.name == "walk.read"]
    assert read == list(range(levels, 0, -1))


@pytest.mark.parametrize("ipa_bits", [32, 36, 39, 40, 42, 43, 44, 48])
def test_the_last_page_within_reach_is_translated_and_the_next_one_is_not(execute: Execute, ipa_bits: int) -> None:
    settings, beyond = SmmuSettings(ipa_bits=ipa_bits), 1 << ipa_bits - 12
    assert got(execute, mapped(settings, dfn=Dfn(beyond - 1)), Dfn(beyond - 1)) == OLD
    refused = mapped(settings, dfn=Dfn(0))
    assert got(execute, refused, Dfn(beyond)) is None, "its indexes are those of 0"
    assert steps(refused.trace.events(), "walk.read") == []


@pytest.mark.parametrize("ipa_bits", [40, 43])
@pytest.mark.parametrize("number", [0, 1])
def test_each_of_the_tables_at_the_top_translates_its_own_pages(execute: Execute, number: int, ipa_bits: int) -> None:
    last = (1 << ipa_bits - 39) - 1
    page = Dfn(G + SECOND * last * number)
    machine = mapped(SmmuSettings(ipa_bits=ipa_bits), dfn=page)
    assert got(execute, machine, page) == OLD
    first = next(event.fields["address"] for event in machine.trace.events() if event.name == "walk.read")
    assert first - machine.domains[1].pgd == 0x1000 * last * number


def test_a_page_of_one_table_at_the_top_is_not_mapped_by_the_other(execute: Execute) -> None:
    assert got(execute, mapped(SmmuSettings(), dfn=Dfn(SECOND + G)), G) is None
    assert got(execute, mapped(SmmuSettings(), dfn=G), Dfn(SECOND + G)) is None


@pytest.mark.parametrize("walk_caches", [False, True])
@pytest.mark.parametrize("page", [G, Dfn(SECOND + G), Dfn(SECOND * 2 - 1)])
def test_a_stale_translation_is_found_and_observed_through_any_table_at_the_top(
    execute: Execute, page: Dfn, walk_caches: bool
) -> None:
    machine = mapped(SmmuSettings(walk_caches=walk_caches), dfn=page, cached=True)
    removed = machine.signal("removed")

    @machine.cpu(0)
    async def remover(cpu: Cpu) -> None:
        await machine.hypervisor.guest_physmap_remove_page(cpu, machine.domains[1], page, Mfn(0))
        await removed.send()

    @machine.device(NIC)
    async def user(device: Device) -> None:
        await removed.wait()
        await device.read(page)

    (found,) = execute(machine)
    assert isinstance(found, Stale)
    assert (found.dfn, found.tag, found.root) == (page, 1, machine.domains[1].pgd)
    assert found.evidence is Evidence.OBSERVED
    assert machine.user_of(found).bdf == NIC
    (tables,) = unit_of(machine).tables_ever(machine.devices[NIC].source_id)
    assert {one.is_present for one in machine.unit.ledger.legal(tables, page)} == {True, False}


# Leaves


BLOCK = Maddr(0x4000_0000)
"""Aligned to the size of every leaf."""


def with_leaf(level: int, *, read: bool = True, write: bool = True) -> Machine:
    """Return a machine on which a leaf of a level maps the first pages; a page beside them makes its tables."""
    machine = mapped(dfn=G if level == 1 else Dfn(1 << 9))
    leaf = encode_leaf(BLOCK, read=read, write=write, level=level)
    machine.memory.put(word_of(machine, Dfn(0), level), leaf)
    return machine


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_leaf_translates_every_page_of_its_own(execute: Execute, level: int) -> None:
    last = Dfn((1 << 9 * (level - 1)) - 1)
    machine = with_leaf(level)
    machine.memory.put(BLOCK + 0x1000 * last, NEW)
    assert got(execute, machine, last) == NEW
    read = [event.fields["table_level"] for event in machine.trace.events() if event.name == "walk.read"]
    assert read == list(range(3, level - 1, -1))


@pytest.mark.parametrize("level", [1, 2, 3])
@pytest.mark.parametrize(
    ("read", "write"), [(True, True), (True, False), (False, True), (False, False)], ids=["rw", "ro", "wo", "none"]
)
def test_an_access_needs_the_permission_of_the_leaf(execute: Execute, level: int, read: bool, write: bool) -> None:
    assert (got(execute, with_leaf(level, read=read, write=write), Dfn(0)) is not None) is read
    assert may_write(execute, with_leaf(level, read=read, write=write), Dfn(0)) is write


def test_a_page_that_the_driver_maps_read_only_is_read_and_not_written(execute: Execute) -> None:
    def read_only() -> Machine:
        machine = smmu_machine()
        machine.premap(machine.domain(1, devices=(NIC,)), G, frame_with(machine, OLD), flags=READ_ONLY)
        return machine

    assert got(execute, read_only()) == OLD
    assert not may_write(execute, read_only())


@pytest.mark.parametrize("bits", [0, 1])
def test_a_fault_is_not_cached_be_the_leaf_not_valid_or_its_access_flag_clear(execute: Execute, bits: int) -> None:
    machine = mapped()
    leaf, faulted, stored = word_of(machine), machine.signal("faulted"), machine.signal("stored")
    whole = machine.memory.peek(leaf)
    machine.memory.put(leaf, whole & ~(ACCESS_FLAG if bits else 1))
    found: list[int | None] = []

    @machine.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        await faulted.wait()
        await cpu.store64(leaf, whole)
        await stored.send()

    @machine.device(NIC)
    async def reader(device: Device) -> None:
        found.append(await device.read(G))
        await faulted.send()
        await stored.wait()
        found.append(await device.read(G))

    assert execute(machine) == []
    assert found == [None, OLD]


# What the registers say


def test_what_passes_untranslated_is_not_cached(execute: Execute) -> None:
    machine = mapped()
    enter(machine, registers_of(machine).s2cr(stream_of(machine, NIC)), S2CR_BYPASS)
    frame = frame_with(machine, NEW)
    machine.domains[1].frames.enter_foreign(frame, machine.domains[1])
    assert got(execute, machine, Dfn(frame)) == NEW
    assert len(machine.unit.iotlb) == 0


def test_requests_pass_untranslated_through_a_bank_that_is_not_enabled(execute: Execute) -> None:
    machine = mapped()
    enter(machine, registers_of(machine).of_bank(bank_of(machine, 1), SCTLR), 0)
    assert got(execute, machine, Dfn(frame_with(machine, NEW))) == NEW


@pytest.mark.parametrize("register", ["smr", "s2cr"])
def test_a_stream_that_faults_by_the_registers_looks_nothing_up(execute: Execute, register: str) -> None:
    machine = mapped(cached=True)
    registers, stream = registers_of(machine), stream_of(machine, NIC)
    writes = {"smr": (registers.smr(stream), 0), "s2cr": (registers.s2cr(stream), S2CR_FAULT)}
    enter(machine, *writes[register])
    assert got(execute, machine) is None
    assert steps(machine.trace.events(), "walk.read", "iotlb.miss", "iotlb.hit", "walk.pass_through") == []
    assert len(steps(machine.trace.events(), "stream.fault")) == 1


# Entries that several devices find


def test_devices_of_one_vmid_find_what_the_others_have_cached(execute: Execute) -> None:
    machine = smmu_machine()
    machine.premap(machine.domain(1, devices=(NIC, DISK)), G, frame_with(machine, OLD))
    used = machine.signal("used")

    @machine.device(NIC)
    async def first(device: Device) -> None:
        assert await device.read(G) == OLD
        await used.send()

    @machine.device(DISK)
    async def second(device: Device) -> None:
        await used.wait()
        assert await device.read(G) == OLD

    assert execute(machine) == []
    events = list(machine.trace.events())
    assert [len(steps(events, name)) for name in ("iotlb.miss", "iotlb.fill", "iotlb.hit")] == [1, 1, 1]


@pytest.mark.parametrize("is_invalidated", [False, True])
def test_a_vmid_that_was_given_to_another_domain_finds_what_was_cached_under_it_until_an_invalidation(
    execute: Execute, is_invalidated: bool
) -> None:
    machine = mapped(cached=True)
    target = machine.domain(2, devices=(DISK,))
    machine.premap(target, G, frame_with(machine, NEW))
    registers, given = registers_of(machine), machine.signal("given")
    found: list[int | None] = []

    @machine.cpu(0)
    async def toolstack(cpu: Cpu) -> None:
        await store(machine, registers.s2cr(stream_of(machine, NIC)), S2CR_FAULT)
        if is_invalidated:
            await settle(machine, 1)
        await store(machine, registers.cbar(bank_of(machine, 2)), 1)
        await given.send()

    @machine.device(DISK)
    async def reader(device: Device) -> None:
        await given.wait()
        found.append(await device.read(G))

    assert execute(machine) == []
    assert found == [NEW if is_invalidated else OLD]


# What is void


def moved(
    *asked: int, before: int | None = None, cached: bool = False, settings: SmmuSettings | None = None
) -> tuple[Machine, list[int | None]]:
    """Return a machine on which a CPU moves a device from domain 1 to domain 2, and what the device reads meanwhile.

    Args:
        asked: what it invalidates then, and awaits.
        before: what the device's S2CR says before, if not the bank of domain 1.
        cached: the page of domain 1 is cached.
    """
    machine = mapped(settings, cached=cached)
    target = machine.domain(2, devices=(DISK,))
    machine.premap(target, G, frame_with(machine, NEW))
    register = registers_of(machine).s2cr(stream_of(machine, NIC))
    if before is not None:
        enter(machine, register, before)
    found: list[int | None] = []

    @machine.cpu(0)
    async def mover(cpu: Cpu) -> None:
        await store(machine, register, S2CR_TRANSLATE | bank_of(machine, 2))
        if asked:
            await settle(machine, *asked)

    @machine.device(NIC)
    async def reader(device: Device) -> None:
        found.append(await device.read(G))

    return machine, found


@pytest.mark.parametrize("operation", [LookupByTag, ReadTable, Fill])
@pytest.mark.parametrize("asked", [1, ALL])
def test_a_request_that_has_read_the_old_registers_begins_again_after_an_invalidation_of_its_vmid(
    operation: type[Operation[object]], asked: int
) -> None:
    machine, found = moved(asked)
    assert held_back(machine, operation) == []
    assert found == [NEW]
    assert len(steps(machine.trace.events(), "walk.void")) == 1


@pytest.mark.parametrize("operation", [LookupByTag, ReadTable, Fill])
@pytest.mark.parametrize("asked", [(), (2,)], ids=["none", "another VMID"])
def test_a_request_that_has_read_the_old_registers_goes_on_after_anything_else(
    operation: type[Operation[object]], asked: tuple[int, ...]
) -> None:
    machine, found = moved(*asked)
    assert held_back(machine, operation) == []
    assert found == [OLD]
    assert steps(machine.trace.events(), "walk.void") == []


def test_a_request_whose_registers_were_set_back_meanwhile_goes_on(execute: Execute) -> None:
    machine = mapped()
    register = registers_of(machine).s2cr(stream_of(machine, NIC))

    @machine.cpu(0)
    async def toggler(cpu: Cpu) -> None:
        await store(machine, register, S2CR_FAULT)
        await store(machine, register, S2CR_TRANSLATE | bank_of(machine, 1))
        await settle(machine, 1)

    @machine.device(NIC)
    async def reader(device: Device) -> None:
        assert await device.read(G) == OLD

    assert held_back(machine, Fill) == []
    assert steps(machine.trace.events(), "walk.void") == []


@pytest.mark.parametrize("is_invalidated", [False, True])
def test_what_another_device_has_cached_since_is_not_found_by_the_old_registers_after_an_invalidation(
    is_invalidated: bool,
) -> None:
    machine = smmu_machine()
    machine.premap(machine.domain(1, devices=(NIC, DISK)), G, frame_with(machine, OLD))
    register, changed = registers_of(machine).s2cr(stream_of(machine, NIC)), machine.signal("changed")
    found: list[int | None] = []

    @machine.cpu(0)
    async def detacher(cpu: Cpu) -> None:
        await store(machine, register, S2CR_FAULT)
        if is_invalidated:
            await settle(machine, 1)
        await changed.send()

    @machine.device(NIC)
    async def reader(device: Device) -> None:
        found.append(await device.read(G))

    @machine.device(DISK)
    async def other(device: Device) -> None:
        await changed.wait()
        await device.read(G)

    turns: list[tuple[str, type | None]] = [(NIC, LookupByTag), ("cpu0", Wait), ("smmu0", None), ("cpu0", None)]
    execution = machine.execution(Order([*turns, (DISK, None), (NIC, None)]))
    direct.run(execution)
    assert machine.conclude(execution) == []
    assert found == [None if is_invalidated else OLD]


@pytest.mark.parametrize(("asked", "value"), [((), None), ((1,), None), ((ALL,), NEW)])
def test_a_request_that_is_about_to_pass_untranslated_begins_again_after_an_invalidation_of_everything_alone(
    asked: tuple[int, ...], value: int | None
) -> None:
    machine, found = moved(*asked, before=S2CR_BYPASS)
    untranslated = machine.memory.peek(frame_address(Mfn(G)))
    assert held_back(machine, PassThrough) == []
    assert found == [untranslated if value is None else value]


@pytest.mark.parametrize(("asked", "value"), [((), None), ((ALL,), NEW)])
def test_so_does_one_that_is_about_to_be_refused(asked: tuple[int, ...], value: int | None) -> None:
    machine, found = moved(*asked, before=S2CR_FAULT)
    assert held_back(machine, Refuse) == []
    assert found == [value]


@pytest.mark.parametrize("is_dropped", [False, True])
@pytest.mark.parametrize("held", [ReadTable, Fill])
def test_a_walk_that_has_read_a_word_before_an_invalidation_does_not_fill_with_it_after_the_synchronisation(
    held: type[Operation[object]], is_dropped: bool
) -> None:
    machine = mapped()
    word, frame = word_of(machine, level=2), frame_with(machine, NEW)
    other = frame_address(machine.memory.allocate_table(1))
    machine.memory.put(
        machine.unit.format.entry_address(other, G, 1), encode_leaf(frame_address(frame), read=True, write=True)
    )
    found: list[int | None] = []

    @machine.cpu(0)
    async def relinker(cpu: Cpu) -> None:
        await cpu.store64(word, machine.unit.format.encode_table(other, 1))
        await settle(machine, 1 if is_dropped else 2)

    @machine.device(NIC)
    async def reader(device: Device) -> None:
        found.append(await device.read(G))

    assert held_back(machine, held, level=1 if held is ReadTable else None) == []
    assert found == [NEW if is_dropped else OLD]


@pytest.mark.parametrize(("is_dropped", "value"), [(False, OLD), (True, NEW)])
def test_a_walk_from_an_entry_that_was_cached_below_another_root_begins_again_when_the_entry_is_dropped(
    is_dropped: bool, value: int
) -> None:
    machine = mapped(SmmuSettings(ipa_bits=32, walk_caches=True))
    machine.premap(machine.domains[1], Dfn(G + 1), machine.allocate(), cached=True)
    other = machine.domain(2, devices=(DISK,))
    machine.premap(other, G, frame_with(machine, NEW))
    enter(machine, registers_of(machine).cbar(bank_of(machine, 2)), vmid(machine, 1))
    found: list[int | None] = []

    @machine.cpu(0)
    async def detacher(cpu: Cpu) -> None:
        await store(machine, registers_of(machine).s2cr(stream_of(machine, NIC)), S2CR_FAULT)
        await settle(machine, vmid(machine, 1) if is_dropped else 3)

    @machine.device(DISK)
    async def reader(device: Device) -> None:
        found.append(await device.read(G))

    assert held_back(machine, ReadTable, level=1, chosen=1) == []
    assert len(steps(machine.trace.events(), "walk.start")) == 1
    assert found == [value]


@pytest.mark.parametrize("flags", [READ_WRITE, READ_ONLY])
def test_lookup_and_walk_at_once_are_a_step_each_and_find_the_same(execute: Execute, flags: MapFlags) -> None:
    machine = smmu_machine(SmmuSettings(ipa_bits=32, walk_at_once=True))
    machine.premap(machine.domain(1, devices=(NIC,)), G, frame_with(machine, OLD), flags=flags)
    assert got(execute, machine) == OLD
    assert [(event.name, event.step) for event in machine.trace.events()] == [
        ("look_up", 1),
        ("stream.match", 1),
        ("iotlb.miss", 1),
        ("walk", 2),
        *[("walk.read", 2)] * 3,
        ("iotlb.fill", 3),
        ("dma.read", 4),
    ]
