"""What was called and never awaited ends a run with the line, whatever it would have found."""

import gc
import warnings
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from emu.cpus import Cpu
from emu.devices.device import Device
from emu.engine import Agent, Execution, Trace
from emu.engine.hosts import direct
from emu.engine.strategies.round_robin import RoundRobinStrategy
from emu.errors import ModelError
from emu.hypervisor.ops import iommu_dont_flush_iotlb
from emu.machine.machine import Machine
from emu.running.exploration import ScenarioExploration
from emu.running.run import Run
from emu.running.shorten import shorten
from emu.running.shrink import SECONDS
from emu.running.verdict import Verdict
from emu.scenarios.expectation import CLEAN, DEADLOCK
from emu.scenarios.scenario import BoundScenario, scenario
from emu.units import Dfn

G = Dfn(0x1000)

HOW: dict[str, Callable[[BoundScenario], Run | ScenarioExploration]] = {
    "run": lambda bound: Run(bound, "random", 0, 1),
    "explore": lambda bound: ScenarioExploration(bound, __file__),
}


@scenario(expect=CLEAN)
def forgetful(m: Machine, *, forgets: str = "write") -> None:
    domain = m.domain(1, devices=("00:1f.0",))
    frame = m.allocate(domain=domain)
    m.premap(domain, G, frame)

    @m.cpu(0)
    async def careless(cpu: Cpu) -> None:
        await cpu.read(iommu_dont_flush_iotlb)
        made: Coroutine[Any, Any, object] | None = None
        if forgets == "write":
            made = cpu.write(iommu_dont_flush_iotlb, True)
        elif forgets == "put":
            made = m.pages.put(cpu, frame)
        elif forgets == "unmap":
            made = m.hypervisor.unmap(cpu, domain, G)
        del made
        await m.hypervisor.flush(cpu, domain, G, pages=1)

    @m.device("00:1f.0")
    async def reader(device: Device) -> None:
        await device.read(G)


@pytest.mark.parametrize(
    ("forgets", "call"), [("write", "Cpu.write"), ("put", "Pages.put"), ("unmap", "Calls.unmap"), ("nothing", None)]
)
@pytest.mark.parametrize("how", HOW)
def test_a_call_that_was_not_awaited_is_a_mistake_named_with_its_line(forgets: str, call: str | None, how: str) -> None:
    done = HOW[how](forgetful.bind({"forgets": forgets}))
    done.on("direct")
    if call is None:
        assert done.failure is None
    else:
        assert str(done.failure).startswith("tests/engine/test_never_awaited.py:")
        assert f"{call} was called and not awaited" in str(done.failure)


@scenario(expect=DEADLOCK)
def stuck(m: Machine) -> None:
    """A CPU has calls ready for later, and never comes to await them."""
    domain, go = m.domain(1, devices=("00:1f.0",)), m.signal("go")

    @m.cpu(0)
    async def careful(cpu: Cpu) -> None:
        later = [m.hypervisor.unmap(cpu, domain, G), m.hypervisor.flush_all(cpu, domain)]
        await go.wait()
        for call in later:
            await call

    @m.cpu(1)
    async def silent(cpu: Cpu) -> None:
        await cpu.read(iommu_dont_flush_iotlb)


@pytest.mark.parametrize("how", HOW)
def test_what_was_to_be_awaited_in_an_execution_that_was_cut_short_is_not_forgotten(how: str) -> None:
    done = HOW[how](stuck.bind({}))
    done.on("direct")
    gc.collect()
    assert done.failure is None
    assert done.verdict is Verdict.SHOWN


def test_what_was_to_be_awaited_is_not_forgotten_when_an_execution_that_was_cut_short_is_made_shorter() -> None:
    run = Run(stuck.bind({}), "random", 0, 1)
    run.on("direct")
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        assert shorten(run, SECONDS)
        gc.collect()
    assert shown == []


@scenario(expect=CLEAN)
def kept(m: Machine) -> None:
    domain = m.domain(1, devices=("00:1f.0",))

    @m.cpu(0)
    async def careless(cpu: Cpu) -> None:
        calls: list[object] = [m.hypervisor.flush_all(cpu, domain)]
        calls.append(calls)
        await cpu.read(iommu_dont_flush_iotlb)

    @m.cpu(1)
    async def other(cpu: Cpu) -> None:
        await cpu.read(iommu_dont_flush_iotlb)


@pytest.mark.parametrize("how", HOW)
def test_a_call_that_is_kept_to_the_end_and_not_awaited_is_forgotten_too(how: str) -> None:
    done = HOW[how](kept.bind({}))
    done.on("direct")
    assert "Calls.flush_all was called and not awaited" in str(done.failure)


def test_a_call_that_an_error_keeps_alive_is_told_by_the_error_alone() -> None:
    async def read() -> int:
        return 0

    def decode(word: object) -> None:
        raise TypeError(f"unsupported operand: {type(word).__name__!r}")

    async def body() -> None:
        decode(read())

    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        with pytest.raises(ModelError, match="a call was not awaited, write `await` before it"):
            direct.run(Execution([Agent("agent", body, {})], RoundRobinStrategy(), Trace()))
        gc.collect()
    assert shown == []


def test_other_warnings_are_shown_as_ever() -> None:
    run = Run(forgetful.bind({"forgets": "nothing"}), "random", 0, 1)
    with pytest.warns(RuntimeWarning, match="mind the gap"), run.forgotten.watched():
        warnings.warn("mind the gap", RuntimeWarning, stacklevel=1)
    assert run.forgotten.calls == []
