"""The door: what it refuses, and what it records."""

from collections.abc import Awaitable, Callable

import pytest

from emu.checks.findings import Finding
from emu.cpus import Cpu
from emu.errors import ScenarioError
from emu.hypervisor.ops import iommu_dont_flush_iotlb
from emu.iommus.vtd.settings import VtdSettings
from emu.machine.description import Description
from emu.machine.machine import Machine
from emu.units import Dfn, Mfn

Execute = Callable[[Machine], list[Finding]]
Call = Callable[[Machine, Cpu], Awaitable[int]]

NEW = Mfn(0x190000)
"""A frame that no machine here hands out."""


def run(execute: Execute, call: Call) -> Machine:
    machine = Machine(Description(settings=VtdSettings(levels=3)))
    machine.domain(1, devices=("00:1f.0",))

    @machine.cpu(0)
    async def caller(cpu: Cpu) -> None:
        await call(machine, cpu)

    execute(machine)
    return machine


@pytest.mark.parametrize(
    ("dfn", "mfn", "order", "complaint"),
    [
        (1, 0x180100, 1, "dfn 0x1 is not aligned"),
        (2, 0x180101, 1, "mfn 0x180101 is not aligned"),
        (1 << 27, 0x180100, 0, "beyond the reach of 3 levels of tables"),
        (-1, 0x180100, 0, "beyond the reach of 3 levels of tables"),
    ],
)
def test_a_range_that_cannot_be_mapped_is_refused(
    execute: Execute, dfn: int, mfn: int, order: int, complaint: str
) -> None:
    async def call(machine: Machine, cpu: Cpu) -> int:
        return await machine.hypervisor.map(cpu, machine.domains[1], Dfn(dfn), Mfn(mfn), page_order=order)

    with pytest.raises(ScenarioError, match=complaint):
        run(execute, call)


def test_a_flush_of_no_pages_is_refused(execute: Execute) -> None:
    async def call(machine: Machine, cpu: Cpu) -> int:
        return await machine.hypervisor.flush(cpu, machine.domains[1], Dfn(0), pages=0)

    with pytest.raises(ScenarioError, match="name at least one"):
        run(execute, call)


def test_the_last_dfn_that_the_tables_reach_can_be_mapped(execute: Execute) -> None:
    async def call(machine: Machine, cpu: Cpu) -> int:
        return await machine.hypervisor.map(cpu, machine.domains[1], Dfn((1 << 27) - 1), NEW)

    machine = run(execute, call)
    assert [event.fields["result"] for event in machine.trace.events() if event.name == "call.return"] == ["ok"]


@pytest.mark.parametrize("flag", [False, True])
def test_a_return_says_whether_the_promise_was_deferred(execute: Execute, flag: bool) -> None:
    async def call(machine: Machine, cpu: Cpu) -> int:
        async with cpu.hypercall("batch"):
            await cpu.write(iommu_dont_flush_iotlb, flag)
            return await machine.hypervisor.map(cpu, machine.domains[1], Dfn(0), NEW)

    (returned,) = [event for event in run(execute, call).trace.events() if event.name == "call.return"]
    assert returned.fields.get("deferred", False) is flag
