"""What devices use: evidence, and the emulator's check of itself."""

from collections.abc import Callable, Sequence

import attrs
import pytest

from emu.checks.findings import Finding, FindingKind
from emu.cpus import Cpu
from emu.devices.device import Commit, Device
from emu.engine import Agent, Choose
from emu.engine.hosts import direct
from emu.iommus.invalidation import Remove
from emu.iommus.iotlb import Fill
from emu.iommus.requests import Request
from emu.iommus.vtd.unit import VtdUnit
from emu.machine.description import Description
from emu.machine.machine import Machine
from emu.units import Dfn, Mfn

Execute = Callable[..., list[Finding]]

G = Dfn(0x40)


@attrs.define
class HoldBack:
    """Let the device go first, up to one kind of operation; that one waits until nobody else can go on."""

    operation: type

    def pick(self, enabled: Sequence[Agent]) -> Agent:
        devices = [agent for agent in enabled if "device" in agent.labels]
        others = [agent for agent in enabled if "device" not in agent.labels]
        if devices and (not others or not isinstance(devices[0].pending, self.operation)):
            return devices[0]
        return others[0]

    def choose(self, choice: Choose) -> int:
        return 0


def replaced_under_a_device(*, cached: bool) -> tuple[Machine, Mfn, Mfn]:
    """Return a machine on which a CPU replaces a page that a device reads once, with the old and the new frame."""
    machine = Machine(Description())
    domain = machine.domain(1, devices=("00:1f.0",))
    old, new = machine.allocate(), machine.allocate()
    machine.premap(domain, G, old, cached=cached)

    @machine.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        await machine.hypervisor.map(cpu, domain, G, new)

    @machine.device("00:1f.0")
    async def reader(device: Device) -> None:
        await device.read(G)

    return machine, old, new


def run(machine: Machine, operation: type) -> list[FindingKind]:
    execution = machine.execution(HoldBack(operation))
    direct.run(execution)
    return [finding.kind for finding in machine.conclude(execution)]


def frames_read(machine: Machine) -> list[Mfn]:
    return [event.fields["mfn"] for event in machine.trace.events() if event.name == "dma.read"]


def test_an_invalidation_waits_for_a_translated_request() -> None:
    machine, old, _ = replaced_under_a_device(cached=True)
    assert run(machine, Commit) == []
    assert frames_read(machine) == [old]
    order = [event.name for event in machine.trace.events() if event.name in {"dma.read", "invalidate.complete"}]
    assert order == ["dma.read", "invalidate.complete"]


def test_an_invalidation_that_does_not_drain_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    perform = Remove.perform

    def perform_without_draining(self: Remove, step: int) -> list[Request]:
        perform(self, step)
        return []

    monkeypatch.setattr(Remove, "perform", perform_without_draining)
    assert run(replaced_under_a_device(cached=True)[0], Commit) == [FindingKind.ILLEGAL]


def test_a_walk_that_read_what_was_replaced_begins_again() -> None:
    machine, _, new = replaced_under_a_device(cached=False)
    assert run(machine, Fill) == []
    assert frames_read(machine) == [new]
    assert "walk.void" in {event.name for event in machine.trace.events()}


def test_a_walk_that_fills_after_the_invalidation_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VtdUnit, "is_void", lambda *_: False)
    assert run(replaced_under_a_device(cached=False)[0], Fill) == [FindingKind.ILLEGAL]


@pytest.mark.parametrize("seed", range(100))
def test_no_schedule_lets_a_device_use_what_the_ledger_forbids(execute: Execute, seed: int) -> None:
    machine = Machine(Description())
    domain = machine.domain(1, devices=("00:1f.0", "00:1f.1"))
    machine.premap(domain, G, machine.allocate())
    frames = [machine.allocate() for _ in range(3)]

    @machine.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        for frame in frames:
            await machine.hypervisor.map(cpu, domain, G, frame)

    async def reader(device: Device) -> None:
        for _ in range(20):
            await device.read(G)

    for bdf in ("00:1f.0", "00:1f.1"):
        machine.device(bdf).runs(reader)
    assert execute(machine, seed) == []
