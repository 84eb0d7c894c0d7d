"""The wrappers of the seed patch: roll-back, crash, results, and where the flag is read."""

from collections.abc import Callable

import pytest

from emu.checks.findings import Finding
from emu.cpus import Cpu
from emu.hypervisor.ops import EFAULT, ENOMEM, OK, iommu_dont_flush_iotlb
from emu.machine.description import Description
from emu.machine.machine import Machine
from emu.units import Dfn, offset

Execute = Callable[[Machine], list[Finding]]

G = Dfn(0x20)


def machine_with(domain: int) -> Machine:
    machine = Machine(Description())
    machine.domain(domain, devices=("00:1f.0",))
    return machine


def result_of(execute: Execute, machine: Machine, call: str, order: int, *, flag: bool = False) -> int:
    """Run one call on CPU 0 and return its result."""
    (domain,) = machine.domains.values()
    frames = machine.allocate(page_order=order)
    results: list[int] = []

    @machine.cpu(0)
    async def caller(cpu: Cpu) -> None:
        async with cpu.hypercall("caller"):
            await cpu.write(iommu_dont_flush_iotlb, flag)
            if call == "map":
                results.append(await machine.hypervisor.map(cpu, domain, G, frames, page_order=order))
            else:
                results.append(await machine.hypervisor.unmap(cpu, domain, G, page_order=order))

    execute(machine)
    return results[0]


def leaves(machine: Machine, pages: int) -> list[int]:
    (domain,) = machine.domains.values()
    (tables,) = machine.unit.tables_at(domain.pgd)
    return [machine.unit.ledger.leaf_at(tables, offset(G, i), machine.trace.step) for i in range(pages)]


def test_a_failed_map_takes_back_the_pages_before_the_failure(execute: Execute) -> None:
    machine = machine_with(1)
    machine.fail_hook("map_page", offset(G, 2), ENOMEM)
    result_of(execute, machine, "map", 2)
    assert leaves(machine, 4) == [0] * 4


def test_the_result_of_the_flush_replaces_the_error_of_the_map(execute: Execute) -> None:
    machine = machine_with(1)
    machine.fail_hook("map_page", offset(G, 2), ENOMEM)
    assert result_of(execute, machine, "map", 2) == OK


def test_the_error_of_the_map_is_kept_where_the_flag_leaves_the_flush_out(execute: Execute) -> None:
    machine = machine_with(1)
    machine.fail_hook("map_page", offset(G, 2), ENOMEM)
    assert result_of(execute, machine, "map", 2, flag=True) == ENOMEM


def test_the_result_of_the_flush_replaces_the_error_of_the_unmap_even_under_the_flag(execute: Execute) -> None:
    machine = machine_with(1)
    machine.fail_hook("unmap_page", G, EFAULT)
    assert result_of(execute, machine, "unmap", 1, flag=True) == OK


@pytest.mark.parametrize(("domain", "crashed"), [(0, False), (1, True)])
@pytest.mark.parametrize("call", ["map", "unmap"])
def test_a_failure_crashes_any_domain_but_the_hardware_domain(
    execute: Execute, call: str, domain: int, crashed: bool
) -> None:
    machine = machine_with(domain)
    machine.fail_hook(f"{call}_page", G, ENOMEM)
    result_of(execute, machine, call, 1)
    assert machine.domains[domain].is_crashed is crashed


@pytest.mark.parametrize(("domain", "reached"), [(0, True), (1, False)])
def test_an_unmap_goes_on_after_a_failure_only_for_the_hardware_domain(
    execute: Execute, domain: int, reached: bool
) -> None:
    machine = machine_with(domain)
    machine.premap(machine.domains[domain], G, machine.allocate(page_order=1), page_order=1)
    machine.fail_hook("unmap_page", G, ENOMEM)
    result_of(execute, machine, "unmap", 1)
    assert (leaves(machine, 2)[1] == 0) is reached


@pytest.mark.parametrize(("call", "flushes"), [("map", 0), ("unmap", 1)])
def test_the_map_wrapper_reads_the_flag_and_the_unmap_wrapper_does_not(
    execute: Execute, call: str, flushes: int
) -> None:
    machine = machine_with(1)
    machine.premap(machine.domains[1], G, machine.allocate(page_order=1), page_order=1)
    result_of(execute, machine, call, 1, flag=True)
    posted = [event for event in machine.trace.events() if event.name == "invalidate.complete"]
    assert len(posted) == flushes


def test_a_failed_map_flushes_the_domain_even_under_the_flag(execute: Execute) -> None:
    machine = machine_with(1)
    machine.fail_hook("map_page", offset(G, 1), ENOMEM)
    result_of(execute, machine, "map", 1, flag=True)
    (complete,) = [event for event in machine.trace.events() if event.name == "invalidate.complete"]
    assert "dfn" not in complete.fields
