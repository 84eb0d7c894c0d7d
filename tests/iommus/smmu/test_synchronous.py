"""Two settings that are not architectural: invalidations executed where they are asked for, and walks in one step."""

from collections.abc import Callable
from typing import Any

import pytest

from emu.checks.findings import Finding
from emu.checks.signatures import Signature
from emu.cpus import Cpu
from emu.devices.device import Commit, Device
from emu.iommus.smmu.formats import S2CR_BYPASS, S2CR_TRANSLATE
from emu.iommus.smmu.queue import ALL, SYNC
from emu.iommus.smmu.settings import SmmuSettings
from emu.machine.machine import Machine
from emu.running.exploration import ScenarioExploration
from emu.scenarios.library import find
from emu.units import Dfn, frame_address
from tests.events import steps
from tests.smmu import ask, bank_of, enter, registers_of, settle, smmu_machine, store, stream_of, unit_of
from tests.turns import held_back

Execute = Callable[..., list[Finding]]

G = Dfn(0x10)
NIC, DISK = "00:1f.0", "00:02.0"
PLAIN = SmmuSettings(ipa_bits=32)
SYNCHRONOUS = SmmuSettings(ipa_bits=32, synchronous=True)
BOTH = SmmuSettings(ipa_bits=32, synchronous=True, walk_at_once=True)
OLD, NEW = 0x01D, 0x2E3

ENGINE = ("queue.fetch", "invalidate.begin", "iotlb.invalidate", "invalidate.complete", "queue.complete")


def machine_with(settings: SmmuSettings) -> Machine:
    """Return a machine with two domains, each with a device that has cached a page of the same number."""
    machine = smmu_machine(settings)
    for number, bdf, value in ((1, NIC, OLD), (2, DISK, NEW)):
        frame = machine.allocate()
        machine.memory.put(frame_address(frame), value)
        machine.premap(machine.domain(number, devices=(bdf,)), G, frame, cached=True)
    return machine


def after_asking(execute: Execute, settings: SmmuSettings, asked: int) -> tuple[Machine, list[int]]:
    """Have a CPU ask; return what it finds right after: cached translations, and active synchronisations."""
    machine = machine_with(settings)
    left: list[int] = []

    @machine.cpu(0)
    async def asker(cpu: Cpu) -> None:
        await ask(machine, asked)
        left.extend((len(machine.unit.iotlb), unit_of(machine).queue.active))

    execute(machine)
    return machine, left


@pytest.mark.parametrize(("asked", "left"), [(1, [1, 0]), (3, [2, 0]), (ALL, [0, 0]), (SYNC, [2, 0])])
def test_what_is_asked_for_has_been_executed_by_the_end_of_the_step_that_asks_for_it(
    execute: Execute, asked: int, left: list[int]
) -> None:
    machine, found = after_asking(execute, SYNCHRONOUS, asked)
    assert found == left
    (at,) = steps(machine.trace.events(), "queue.post")
    assert set(steps(machine.trace.events(), *ENGINE)) == {at}
    assert after_asking(execute, PLAIN, asked)[1] == [2, int(asked == SYNC)]


def test_there_is_no_agent_for_the_unit() -> None:
    assert [agent.name for agent in machine_with(SYNCHRONOUS).agents] == []
    assert [agent.name for agent in machine_with(PLAIN).agents] == ["smmu0"]


def moved_under_a_device(settings: SmmuSettings, *, passes: bool = False) -> tuple[Machine, list[Any]]:
    """Move a device to domain 2 while its translated access is held back; return what it reads."""
    machine = machine_with(settings)
    register = registers_of(machine).s2cr(stream_of(machine, NIC))
    if passes:
        enter(machine, register, S2CR_BYPASS)
    found: list[Any] = []

    @machine.cpu(0)
    async def mover(cpu: Cpu) -> None:
        await store(machine, register, S2CR_TRANSLATE | bank_of(machine, 2))
        await settle(machine, ALL if passes else 1)
        cpu.note("told")

    @machine.device(NIC)
    async def reader(device: Device) -> None:
        found.append(await device.read(G))

    assert held_back(machine, Commit) == []
    return machine, found


@pytest.mark.parametrize("settings", [SYNCHRONOUS, BOTH])
@pytest.mark.parametrize("passes", [False, True])
def test_an_access_that_had_to_be_drained_begins_again(settings: SmmuSettings, passes: bool) -> None:
    machine, found = moved_under_a_device(settings, passes=passes)
    assert found == [NEW]
    assert len(steps(machine.trace.events(), "dma.again")) == 1
    assert machine.unit.requests.in_flight == {}


def test_without_the_setting_the_synchronisation_drains_it() -> None:
    machine, found = moved_under_a_device(PLAIN)
    assert found == [OLD]
    assert steps(machine.trace.events(), "dma.again") == []
    (made,), (told,) = (steps(machine.trace.events(), name) for name in ("dma.read", "told"))
    assert made < told


def test_a_synchronous_unit_that_does_not_drain_leaves_the_access_as_it_is() -> None:
    machine, found = moved_under_a_device(SmmuSettings(ipa_bits=32, synchronous=True, drain=False))
    assert found == [OLD]
    (made,), (told,) = (steps(machine.trace.events(), name) for name in ("dma.read", "told"))
    assert made > told


def causes(scenario: str, revision: str, **settings: str) -> set[Signature]:
    """Return what every trace of a scenario together shows."""
    parameters = {"iommu": "smmu", "ipa_bits": "32", "revision": revision, **settings}
    done = ScenarioExploration(find(scenario).bind(parameters), __file__)
    done.on("direct")
    assert done.failure is None
    assert done.is_exhausted
    return set(done.causes)


@pytest.mark.parametrize("revision", ["implicit", "v1", "merged"])
@pytest.mark.parametrize("scenario", ["p2m_remapped_before_flush", "p2m_changed_by_wrapper"])
def test_a_synchronous_unit_shows_the_same_causes_as_one_with_an_agent(scenario: str, revision: str) -> None:
    assert causes(scenario, revision, synchronous="true") == causes(scenario, revision, synchronous="false")


def test_they_are_not_all_the_same() -> None:
    assert causes("p2m_changed_by_wrapper", "v1", synchronous="true") == set()
    assert len(causes("p2m_changed_by_wrapper", "merged", synchronous="true")) == 1
