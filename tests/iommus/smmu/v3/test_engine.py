"""Requests and commands: what is cached and found again, what an invalidation drops, drains and makes begin again."""

from collections.abc import Callable

import pytest

from emu.checks.findings import Finding, FindingKind
from emu.cpus import Cpu
from emu.devices.device import Commit, Device
from emu.engine import Operation
from emu.iommus.device_entries import DeviceFill
from emu.iommus.iotlb import LookupByTag
from emu.iommus.smmu.v3.formats import (
    ABORT,
    Command,
    Config,
    InvalidateAll,
    InvalidatePage,
    InvalidateStream,
    InvalidateStreams,
    InvalidateVmid,
    StreamTableEntry,
    Sync,
    encode_entry,
)
from emu.iommus.smmu.v3.settings import Smmuv3Settings
from emu.iommus.smmu.v3.walk import ReadEntryWord
from emu.machine.machine import Machine
from emu.units import Dfn, Mfn, offset, parse_source_id
from tests.events import steps
from tests.smmuv3 import enter, held_back, post, settle, smmuv3_machine, unit_of, words_of

Execute = Callable[..., list[Finding]]

G = Dfn(0x10)
NIC, DISK = "00:1f.0", "00:02.0"
OF_NIC = InvalidateStream(parse_source_id(NIC))


def machine_with(*, cached: bool = True, **settings: bool) -> Machine:
    """Return a machine on which domain 1 has two devices, and both have used page G."""
    machine = smmuv3_machine(Smmuv3Settings(ipa_bits=32, **settings))
    machine.premap(machine.domain(1, devices=(NIC, DISK)), G, machine.allocate(), cached=cached)
    return machine


def reads(machine: Machine, found: list[int | None], bdf: str = NIC, dfn: Dfn = G) -> None:
    """Have a device read a page."""

    @machine.device(bdf)
    async def reader(device: Device) -> None:
        found.append(await device.read(dfn))


def settles(machine: Machine, *commands: Command) -> None:
    """Have CPU 0 post commands and wait."""

    @machine.cpu(0)
    async def submitter(cpu: Cpu) -> None:
        await settle(machine, cpu, *commands)
        cpu.note("told")


# What requests find


@pytest.mark.parametrize("entry", [ABORT, StreamTableEntry(is_valid=False), StreamTableEntry(config=5)])
def test_an_entry_that_aborts_is_cached_and_lets_no_request_through(execute: Execute, entry: StreamTableEntry) -> None:
    machine, found = machine_with(), list[int | None]()
    enter(machine, NIC, entry)
    reads(machine, found)
    assert execute(machine) == []
    assert found == [None]
    assert [one for one, _ in unit_of(machine).device_table.entries.values()] == [entry]


def test_bypass_lets_requests_through_untranslated(execute: Execute) -> None:
    machine, found = machine_with(), list[int | None]()
    enter(machine, NIC, StreamTableEntry(config=Config.BYPASS))
    reads(machine, found, dfn=Dfn(int(machine.allocate())))
    execute(machine)
    assert found == [0]
    assert len(steps(machine.trace.events(), "walk.pass_through")) == 1


def test_streams_with_one_vmid_find_each_others_translations(execute: Execute) -> None:
    machine, found = machine_with(cached=False), list[int | None]()
    reads(machine, found)
    reads(machine, found, DISK)
    assert execute(machine) == []
    assert len(machine.unit.iotlb) == 1


def test_of_an_entry_that_translates_three_words_are_read_and_of_another_one(execute: Execute) -> None:
    machine = machine_with()
    enter(machine, NIC, ABORT)
    reads(machine, [], NIC)
    reads(machine, [], DISK)
    assert execute(machine) == []
    events = list(machine.trace.events())
    assert [len(steps(events, "walk.stream_entry", agent=bdf)) for bdf in (NIC, DISK)] == [1, 3]


# Entries in pieces


def torn_by_detach(machine: Machine) -> list[Finding]:
    """Have a CPU detach the NIC while it has read the first word of its entry; return the findings."""
    detached = machine.signal("detached")

    @machine.cpu(0)
    async def toolstack(cpu: Cpu) -> None:
        for number, word in enumerate(encode_entry(ABORT)[:3]):
            await cpu.store64(words_of(machine, NIC)[number], word)
        await detached.send()

    @machine.device(NIC)
    async def user(device: Device) -> None:
        await device.write(G, 0xBAD)

    third = words_of(machine, NIC)[2]
    return held_back(machine, lambda one: isinstance(one, ReadEntryWord) and one.address == third)


def test_words_read_before_and_after_a_change_name_vmid_0_and_tables_of_aarch32() -> None:
    machine = machine_with(aarch32=True)
    torn_by_detach(machine)
    ((entry, _),) = unit_of(machine).device_table.entries.values()
    assert (entry.translates, entry.vmid, entry.is_aarch64) == (True, 0, False)
    assert entry.root == machine.domains[1].pgd


def test_such_an_entry_aborts_where_the_unit_walks_tables_of_aarch64_alone() -> None:
    machine = machine_with()
    assert torn_by_detach(machine) == []
    assert len(steps(machine.trace.events(), "dma.fault")) == 1


def test_a_lookup_that_is_one_step_finds_no_torn_entry() -> None:
    machine = machine_with(aarch32=True, walk_at_once=True)
    torn_by_detach(machine)
    entries = [entry for entry, _ in unit_of(machine).device_table.entries.values()]
    assert [entry.vmid for entry in entries if entry.translates] in ([], [1])


# What invalidations do


@pytest.mark.parametrize(
    ("command", "left"),
    [
        (InvalidateVmid(1), 0),
        (InvalidateVmid(2), 1),
        (InvalidatePage(1, G), 0),
        (InvalidatePage(1, offset(G, 1)), 1),
        (InvalidatePage(2, G), 1),
        (InvalidateAll(), 0),
        (OF_NIC, 1),
        (InvalidateStreams(), 1),
    ],
)
@pytest.mark.parametrize("synchronous", [False, True])
def test_translations_are_dropped_by_vmid_and_page_and_not_with_entries(
    execute: Execute, command: Command, left: int, synchronous: bool
) -> None:
    machine = machine_with(synchronous=synchronous)
    settles(machine, command)
    assert execute(machine) == []
    assert len(machine.unit.iotlb) == left


@pytest.mark.parametrize(("leaf", "left"), [(True, True), (False, False)])
def test_an_invalidation_of_a_page_leaves_cached_table_entries_only_with_leaf(
    execute: Execute, leaf: bool, left: bool
) -> None:
    machine = machine_with(walk_caches=True)
    settles(machine, InvalidatePage(1, G, leaf))
    assert execute(machine) == []
    cache = machine.unit.walk_cache
    assert cache is not None
    assert bool(cache.entries) is left


@pytest.mark.parametrize(
    ("command", "refused"), [(OF_NIC, False), (InvalidateStreams(), False), (InvalidateAll(), True)]
)
def test_an_entry_that_was_not_valid_stays_cached_until_it_is_invalidated(
    execute: Execute, command: Command, refused: bool
) -> None:
    machine, found = machine_with(), list[int | None]()
    words = [machine.memory.peek(address) for address in words_of(machine, NIC)]
    enter(machine, NIC, StreamTableEntry(is_valid=False))
    first, entered = machine.signal("first"), machine.signal("entered")

    @machine.cpu(0)
    async def toolstack(cpu: Cpu) -> None:
        await first.wait()
        for number in (2, 3, 1, 0):
            await cpu.store64(words_of(machine, NIC)[number], words[number])
        await settle(machine, cpu, command)
        await entered.send()

    @machine.device(NIC)
    async def reader(device: Device) -> None:
        found.append(await device.read(G))
        await first.send()
        await entered.wait()
        found.append(await device.read(G))

    assert execute(machine) == []
    assert found == [None, None if refused else 0]


@pytest.mark.parametrize("operation", [ReadEntryWord, DeviceFill, LookupByTag])
def test_a_request_that_has_read_the_old_entry_begins_again_after_its_invalidation(
    operation: type[Operation[object]],
) -> None:
    machine, found = machine_with(), list[int | None]()
    reads(machine, found)
    seen = []

    @machine.cpu(0)
    async def toolstack(cpu: Cpu) -> None:
        await cpu.store64(words_of(machine, NIC)[0], encode_entry(ABORT)[0])
        await settle(machine, cpu, OF_NIC)

    def holds(pending: Operation[object] | None) -> bool:
        last = words_of(machine, NIC)[3]
        is_late = not isinstance(pending, ReadEntryWord) or pending.address == last
        seen.append(isinstance(pending, operation) and is_late)
        return seen[-1]

    assert held_back(machine, holds) == []
    assert any(seen)
    assert found == [None]


@pytest.mark.parametrize(
    "command", [InvalidateVmid(1), InvalidatePage(1, G), InvalidateAll(), OF_NIC, InvalidateStreams()]
)
def test_a_cmd_sync_has_drained_what_was_let_through_by_what_was_invalidated_before_it(command: Command) -> None:
    machine = machine_with()
    reads(machine, [])
    settles(machine, command)
    assert held_back(machine, lambda pending: isinstance(pending, Commit)) == []
    events = list(machine.trace.events())
    assert steps(events, "dma.read") < steps(events, "told")


@pytest.mark.parametrize("command", [InvalidateVmid(2), InvalidateStream(parse_source_id(DISK))])
def test_a_cmd_sync_does_not_drain_other_accesses(command: Command) -> None:
    machine = machine_with()
    reads(machine, [])
    settles(machine, command)
    assert held_back(machine, lambda pending: isinstance(pending, Commit)) == []
    events = list(machine.trace.events())
    assert steps(events, "told") < steps(events, "dma.read")


def test_no_command_behind_a_cmd_sync_begins_before_it_has_completed() -> None:
    machine = machine_with()
    reads(machine, [])

    @machine.cpu(0)
    async def submitter(cpu: Cpu) -> None:
        await post(machine, cpu, InvalidateVmid(1), Sync(), InvalidatePage(9, Dfn(0)))

    assert held_back(machine, lambda pending: isinstance(pending, Commit)) == []
    events = list(machine.trace.events())
    (made,), (completed,) = steps(events, "dma.read"), steps(events, "queue.complete")
    first, second = steps(events, "invalidate.begin")
    assert first < made < completed < second


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("aarch32", [False, True])
def test_every_translation_used_while_devices_come_and_go_is_one_that_the_ledger_allows(
    execute: Execute, seed: int, aarch32: bool
) -> None:
    machine = machine_with(aarch32=aarch32, walk_caches=bool(seed % 2))
    source, target = machine.domains[1], machine.domain(2)
    frame: Mfn = machine.allocate(domain=target)
    machine.premap(target, G, frame)

    @machine.cpu(0)
    async def toolstack(cpu: Cpu) -> None:
        for domain, other in ((source, target), (target, source)):
            await machine.assignment.reassign(cpu, domain, other, machine.devices[NIC])
        await post(machine, cpu, OF_NIC)

    for bdf in (NIC, DISK):

        @machine.device(bdf)
        async def user(device: Device) -> None:
            for _ in range(4):
                await device.write(G, 1)

    kinds = {finding.kind for finding in execute(machine, seed)}
    assert FindingKind.ILLEGAL not in kinds
    assert kinds <= {FindingKind.NOT_ISOLATED, FindingKind.STALE, FindingKind.FOREIGN}
