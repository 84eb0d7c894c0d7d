"""Wiring: who is there, and what a scenario's author is told."""

from collections.abc import Callable

import pytest
import trio

from emu.cpus import Cpu
from emu.devices.device import Device
from emu.engine import Operation
from emu.engine.hosts import direct
from emu.engine.hosts import trio as on_trio
from emu.engine.strategies.round_robin import RoundRobinStrategy
from emu.errors import ModelError, ScenarioError
from emu.iommus.vtd.settings import VtdSettings
from emu.iommus.vtd.unit import VtdUnit
from emu.machine.description import Description
from emu.machine.machine import Machine
from emu.units import Dfn, Mfn


class SeeTasks(Operation[None]):
    """Note the name of the running task and of all tasks that live beside it."""

    __slots__ = ("seen",)

    def __init__(self, seen: dict[str, set[str]]) -> None:
        self.seen = seen

    def perform(self, step: int) -> None:
        task = trio.lowlevel.current_task()
        assert task.parent_nursery is not None
        self.seen[task.name] = {sibling.name for sibling in task.parent_nursery.child_tasks}


def test_every_cpu_device_and_engine_is_its_own_named_trio_task_and_all_live_at_once() -> None:
    machine = Machine(Description())
    domain = machine.domain(1, devices=("00:1f.0", "00:1f.1"))
    seen: dict[str, set[str]] = {}
    engines: list[str] = []
    engine_run = machine.unit.run

    async def watched_engine() -> None:
        await SeeTasks(seen)
        engines.append(trio.lowlevel.current_task().name)
        await engine_run()

    machine.agents[0].body = watched_engine

    async def cpu_body(cpu: Cpu) -> None:
        await SeeTasks(seen)
        await machine.hypervisor.flush_all(cpu, domain)

    async def device_body(device: Device) -> None:
        await SeeTasks(seen)
        await device.read(Dfn(0))

    for number in range(3):
        machine.cpu(number).runs(cpu_body)
    for bdf in ("00:1f.0", "00:1f.1"):
        machine.device(bdf).runs(device_body)
    on_trio.run_each([machine.execution(RoundRobinStrategy())])
    names = {"cpu0", "cpu1", "cpu2", "00:1f.0", "00:1f.1", "vtd0"}
    assert seen == dict.fromkeys(names, names)
    assert engines == ["vtd0"]


async def nothing(actor: object) -> None:
    """Do nothing."""


def twice(machine: Machine) -> None:
    machine.cpu(0).runs(nothing)
    machine.cpu(0).runs(nothing)


def not_async(machine: Machine) -> None:
    machine.cpu(0).runs(print)  # type: ignore[arg-type]  # the mistake that is tested


def misaligned(machine: Machine) -> None:
    machine.premap(machine.domain(1), Dfn(1), Mfn(2), page_order=1)


@pytest.mark.parametrize(
    ("mistake", "complaint"),
    [
        (lambda machine: machine.cpu(64), "there is no CPU 64"),
        (lambda machine: machine.device("00:1f.0"), "device 00:1f.0 belongs to no domain"),
        (lambda machine: machine.domain(1, devices=("00:20.0",)), "'00:20.0' is no PCI device"),
        (lambda machine: machine.domain(0x7FF4), "there is no domain 32756"),
        (lambda machine: machine.scope(1, "disk"), "'disk' is no PCI device"),
        (lambda machine: machine.allow_faults(waits=-3), "-3 wait faults: allow none, or a number of them"),
        (lambda machine: (machine.domain(1), machine.domain(1)), "domain 1 exists already"),
        (
            lambda machine: machine.domain(1, devices=("00:1f.0", "00:1f.0")),
            "device 00:1f.0 is assigned already",
        ),
        (twice, "cpu0 has something to do already"),
        (not_async, "write `async def`"),
        (misaligned, "dfn 0x1 is not aligned"),
        (lambda machine: machine.execution(RoundRobinStrategy()), "gave no CPU and no device anything to do"),
    ],
)
def test_a_mistake_of_a_scenario_is_named_with_its_mend(mistake: Callable[[Machine], object], complaint: str) -> None:
    with pytest.raises(ScenarioError, match=complaint):
        mistake(Machine(Description()))


@pytest.mark.parametrize(
    "what",
    [
        lambda machine: machine.allocate(),
        lambda machine: machine.plug("00:02.0"),
        lambda machine: machine.domain(2),
        lambda machine: machine.premap(machine.domains[1], Dfn(0), Mfn(0)),
        lambda machine: machine.cpu(1),
        lambda machine: machine.device("00:1f.0"),
        lambda machine: machine.scope(1),
        lambda machine: machine.allow_faults(waits=1),
        lambda machine: machine.fail_hook("map_page", Dfn(0), -12),
    ],
)
def test_nothing_is_set_up_while_agents_run(what: Callable[[Machine], object]) -> None:
    machine = Machine(Description())
    machine.domain(1, devices=("00:1f.0",))

    @machine.cpu(0)
    async def late(cpu: Cpu) -> None:
        what(machine)

    with pytest.raises(ModelError, match=r"is for before the first step: .* \(cpu0, at tests/machine/test_machine.py:"):
        direct.run(machine.execution(RoundRobinStrategy()))


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (VtdSettings(coherent=False), "the walks of vtd1 do not snoop the CPUs' caches, and those of this machine's"),
        (VtdSettings(write_buffer=True), "the walks of vtd1 have a write buffer before them, and those of this"),
    ],
)
def test_a_unit_that_sees_memory_in_another_way_than_the_first_is_refused(
    settings: VtdSettings, complaint: str
) -> None:
    machine = Machine(Description())
    with pytest.raises(ScenarioError, match=complaint):
        machine.add_unit(VtdUnit("vtd1", settings, machine.memory, machine.trace, machine.recorder))
    assert [unit.name for unit in machine.units] == ["vtd0"]


def test_a_unit_that_walks_tables_of_another_format_than_the_first_is_refused() -> None:
    machine = Machine(Description())
    settings = VtdSettings(superpage_bits=8)
    with pytest.raises(ScenarioError, match="vtd1 walks other tables than vtd0: give all units of a machine the same"):
        machine.add_unit(VtdUnit("vtd1", settings, machine.memory, machine.trace, machine.recorder))


def test_a_unit_that_sees_memory_as_the_first_does_is_taken() -> None:
    machine = Machine(Description())
    settings = VtdSettings(caching_mode=True, drain=False)
    machine.add_unit(VtdUnit("vtd1", settings, machine.memory, machine.trace, machine.recorder))
    assert [unit.name for unit in machine.units] == ["vtd0", "vtd1"]
