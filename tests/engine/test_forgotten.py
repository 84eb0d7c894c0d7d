"""What was called and never awaited ends a run with the line, whatever it would have found."""

import warnings
from collections.abc import Coroutine
from typing import Any

import pytest

from emu.cpus import Cpu
from emu.devices import Device
from emu.explorations import ScenarioExploration
from emu.hypervisor.ops import iommu_dont_flush_iotlb
from emu.machine import Machine
from emu.runs import Run
from emu.scenario import CLEAN, scenario
from emu.units import Dfn

G = Dfn(0x1000)


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
@pytest.mark.parametrize("how", ["run", "explore"])
def test_a_call_that_was_not_awaited_is_a_mistake_named_with_its_line(forgets: str, call: str | None, how: str) -> None:
    bound = forgetful.bind({"forgets": forgets})
    done = Run(bound, "random", 0, 1) if how == "run" else ScenarioExploration(bound, __file__)
    done.on("direct")
    if call is None:
        assert done.failure is None
    else:
        assert str(done.failure).startswith("test_forgotten.py:")
        assert f"{call} was called and not awaited" in str(done.failure)


def test_other_warnings_are_shown_as_ever() -> None:
    run = Run(forgetful.bind({"forgets": "nothing"}), "random", 0, 1)
    with pytest.warns(RuntimeWarning, match="mind the gap"), run.forgotten.watched():
        warnings.warn("mind the gap", RuntimeWarning, stacklevel=1)
    assert run.forgotten.calls == []
