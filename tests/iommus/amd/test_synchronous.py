"""Two parameters that are not architectural: commands executed where they are posted, and walks in one step."""

from collections.abc import Callable
from typing import Any

import pytest

from emu.checks.findings import Finding
from emu.checks.signatures import Signature
from emu.cpus import Cpu
from emu.devices.device import Commit, Device
from emu.iommus.amd.formats import (
    Command,
    CompletionWait,
    DeviceTableEntry,
    InvalidateAll,
    InvalidateDeviceEntry,
    InvalidatePages,
    encode_device_entry,
)
from emu.iommus.amd.settings import AmdSettings
from emu.machine.machine import Machine
from emu.running.exploration import ScenarioExploration
from emu.scenarios.library import find
from emu.units import Dfn, frame_address
from tests.amd import TOLD, amd_machine, enter, post, settle, status_word, unit_of, wait
from tests.events import steps
from tests.turns import held_back

Execute = Callable[..., list[Finding]]

G = Dfn(0x10)
NIC = "00:1f.0"
SYNCHRONOUS = AmdSettings(levels=2, synchronous=True)
BOTH = AmdSettings(levels=2, synchronous=True, walk_at_once=True)
PLAIN = AmdSettings(levels=2)
OLD, NEW = 0x01D, 0x2E3
DEVICE = InvalidateDeviceEntry(0xF8)

ENGINE = ("queue.fetch", "invalidate.begin", "iotlb.invalidate", "device_entry.invalidate", "invalidate.complete")


def machine_with(settings: AmdSettings) -> Machine:
    """Return a machine with a page that a device has cached, and with another domain that maps another frame there."""
    machine = amd_machine(settings)
    for number, devices, value in ((1, (NIC,), OLD), (2, (), NEW)):
        frame = machine.allocate()
        machine.memory.put(frame_address(frame), value)
        machine.premap(machine.domain(number, devices=devices), G, frame, cached=True)
    return machine


def after_posting(execute: Execute, settings: AmdSettings, command: Command) -> tuple[Machine, list[int]]:
    """Have a CPU post a command; return what it finds right after: cached translations and entries, and the status."""
    machine = machine_with(settings)
    unit = unit_of(machine)
    left: list[int] = []
    source_id = machine.devices[NIC].source_id
    unit.device_table.entries[source_id] = (next(iter(unit.device_table.lifetimes(source_id)))[0], ())

    @machine.cpu(0)
    async def poster(cpu: Cpu) -> None:
        await post(machine, cpu, command)
        status = machine.memory.peek(status_word(machine)) + machine.memory.peek(unit.queue.status)
        left.extend((len(unit.iotlb), len(unit.device_table.entries), status))

    execute(machine)
    return machine, left


@pytest.mark.parametrize(
    ("command", "left"),
    [
        (InvalidatePages(1, G), [0, 1, 0]),
        (DEVICE, [1, 0, 0]),
        (InvalidateAll(), [0, 0, 0]),
        (CompletionWait(interrupt=True), [1, 1, 4]),
    ],
)
def test_a_posted_command_has_been_executed_by_the_end_of_the_step_that_posts_it(
    execute: Execute, command: Command, left: list[int]
) -> None:
    machine, found = after_posting(execute, SYNCHRONOUS, command)
    assert found == left
    (posted,) = steps(machine.trace.events(), "queue.post")
    assert set(steps(machine.trace.events(), *ENGINE)) == {posted}
    assert after_posting(execute, PLAIN, command)[1] == [1, 1, 0]


def test_a_posted_wait_has_stored_its_data(execute: Execute) -> None:
    machine = machine_with(SYNCHRONOUS)
    assert after_posting(execute, SYNCHRONOUS, wait(machine))[1] == [1, 1, TOLD]


def test_there_is_no_agent_for_the_unit() -> None:
    assert [agent.name for agent in machine_with(SYNCHRONOUS).agents] == []
    assert [agent.name for agent in machine_with(PLAIN).agents] == ["amd0"]


def moved_under_a_device(settings: AmdSettings, before: DeviceTableEntry | None = None) -> tuple[Machine, list[Any]]:
    """Move a device to domain 2 while its translated access is held back; return what it reads."""
    machine = machine_with(settings)
    table, device = unit_of(machine).device_table, machine.devices[NIC]
    after = encode_device_entry(DeviceTableEntry(mode=2, root=machine.domains[2].pgd, domain_id=2))
    if before is not None:
        enter(machine, NIC, before)
    found: list[Any] = []

    @machine.cpu(0)
    async def mover(cpu: Cpu) -> None:
        for address, word in zip(table.words(device.source_id), after, strict=True):
            await cpu.store64(address, word)
        await settle(machine, cpu, DEVICE)

    @machine.device(NIC)
    async def reader(device: Device) -> None:
        found.append(await device.read(G))

    assert held_back(machine, Commit) == []
    return machine, found


@pytest.mark.parametrize("settings", [SYNCHRONOUS, BOTH])
@pytest.mark.parametrize("before", [None, DeviceTableEntry(is_valid=False)], ids=["translated", "passed through"])
def test_an_access_that_had_to_be_drained_begins_again(settings: AmdSettings, before: DeviceTableEntry | None) -> None:
    machine, found = moved_under_a_device(settings, before)
    assert found == [NEW]
    assert len(steps(machine.trace.events(), "dma.again")) == 1
    assert machine.unit.requests.in_flight == {}


def test_without_the_parameter_the_wait_drains_it() -> None:
    machine, found = moved_under_a_device(PLAIN)
    assert found == [OLD]
    assert steps(machine.trace.events(), "dma.again") == []
    (made,), (told,) = (steps(machine.trace.events(), name) for name in ("dma.read", "queue.status"))
    assert made < told


def test_lookup_and_walk_at_once_are_a_step_each_and_tell_every_word_that_they_read(execute: Execute) -> None:
    machine = machine_with(AmdSettings(levels=2, walk_at_once=True))
    machine.unit.iotlb.invalidate(None, Dfn(0), G)

    @machine.device(NIC)
    async def reader(device: Device) -> None:
        await device.read(G)

    assert execute(machine) == []
    assert [(event.name, event.step) for event in machine.trace.events()] == [
        ("look_up", 1),
        ("device_entry.miss", 1),
        ("walk.device_entry", 1),
        ("device_entry.fill", 1),
        ("iotlb.miss", 1),
        ("walk", 2),
        *[("walk.read", 2)] * 2,
        ("iotlb.fill", 3),
        ("dma.read", 4),
    ]


def causes(scenario: str, revision: str, **settings: str) -> set[Signature]:
    """Return what every trace of a scenario together shows."""
    parameters = {"iommu": "amd", "levels": "2", "revision": revision, **settings}
    done = ScenarioExploration(find(scenario).bind(parameters), __file__)
    done.on("direct")
    assert done.failure is None
    assert done.is_exhausted
    return set(done.causes)


@pytest.mark.parametrize("revision", ["implicit", "v1", "merged"])
@pytest.mark.parametrize("scenario", ["remap_before_flush", "unmap_twice_before_flush", "map_into_flagged_region"])
def test_a_synchronous_unit_shows_the_same_causes_as_one_with_an_agent(scenario: str, revision: str) -> None:
    assert causes(scenario, revision, synchronous="true") == causes(scenario, revision, synchronous="false")


def test_they_are_not_all_the_same() -> None:
    assert causes("unmap_twice_before_flush", "v1", synchronous="true") == set()
    assert len(causes("unmap_twice_before_flush", "merged", synchronous="true")) == 2


def test_walks_at_once_show_what_walks_in_steps_show() -> None:
    at_once = causes("remap_before_flush", "merged", dma="1", synchronous="true", walk_at_once="true")
    assert at_once == causes("remap_before_flush", "merged", dma="1", synchronous="true")
    assert at_once
