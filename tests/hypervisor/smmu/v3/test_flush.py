"""Flushes of the driver's hooks: what is posted in which sections of the lock, for which units, and what is told."""

from collections.abc import Callable

import pytest

from emu.checks.findings import Finding, FindingKind
from emu.cpus import Cpu
from emu.hypervisor.ops import ETIMEDOUT, OK, FlushType
from emu.hypervisor.smmu.v3.flush import arm_smmu_tlb_inv_context
from emu.iommus.smmu.v3.formats import InvalidateVmid, Sync
from emu.machine.machine import Machine
from emu.units import Dfn
from tests.events import steps
from tests.smmuv3 import ahead_of_units, driver_of, settle, smmuv3_machine, submitted

Execute = Callable[..., list[Finding]]

G = Dfn(0x10)
NIC, FAR = "00:1f.0", "01:00.0"


def machine_with(*devices: str) -> Machine:
    """Return a machine with two units, the second of which has the devices of bus 1."""
    machine = smmuv3_machine()
    machine.scope(1, FAR)
    machine.premap(machine.domain(1, devices=devices), G, machine.allocate(), cached=True)
    return machine


@pytest.mark.parametrize("flush_type", FlushType)
@pytest.mark.parametrize("count", [0, 1, 512])
def test_a_flush_is_of_the_whole_domain_whatever_range_and_type_are_asked_for(
    execute: Execute, flush_type: FlushType, count: int
) -> None:
    machine = machine_with(NIC)

    @machine.cpu(0)
    async def flusher(cpu: Cpu) -> None:
        assert await machine.hooks.driver.iotlb_flush(cpu, machine.domains[1], G, count, flush_type) == OK

    assert execute(machine) == []
    assert submitted(machine) == [InvalidateVmid(1), Sync()]
    assert len(machine.unit.iotlb) == 0


@pytest.mark.parametrize(
    ("devices", "posted"), [((), (0, 0)), ((NIC,), (2, 0)), ((FAR,), (0, 2)), ((NIC, FAR), (2, 2))]
)
def test_a_flush_goes_to_each_unit_that_the_domain_uses(
    execute: Execute, devices: tuple[str, ...], posted: tuple[int, int]
) -> None:
    machine = machine_with(*devices)

    @machine.cpu(0)
    async def flusher(cpu: Cpu) -> None:
        assert await machine.hooks.driver.iotlb_flush_all(cpu, machine.domains[1]) == OK

    assert execute(machine) == []
    assert tuple(len(submitted(machine, number)) for number in (0, 1)) == posted


def test_a_flush_is_two_sections_of_the_queues_lock_within_one_of_the_domains(execute: Execute) -> None:
    machine = machine_with(NIC)

    @machine.cpu(0)
    async def flusher(cpu: Cpu) -> None:
        await machine.hooks.driver.iotlb_flush_all(cpu, machine.domains[1])

    assert execute(machine) == []
    events = (one for one in machine.trace.events() if one.name in {"lock.acquire", "lock.release"})
    named = [(one.name, one.fields["lock"]) for one in events]
    section = [("lock.acquire", "smmuv30.cmdq_lock"), ("lock.release", "smmuv30.cmdq_lock")]
    of_domain = [(name, "d1.xen_domain_lock") for name, _ in section]
    assert named == [of_domain[0], *section, *section, of_domain[1]]


def flushes(machine: Machine, number: int) -> None:
    """Have a CPU invalidate a VMID of its own on unit 0."""

    @machine.cpu(number)
    async def flusher(cpu: Cpu) -> None:
        driver = driver_of(machine)
        await arm_smmu_tlb_inv_context(cpu, driver, driver.iommus[0], 1 + number)


def test_commands_of_another_cpu_may_come_between_an_invalidation_and_its_cmd_sync(execute: Execute) -> None:
    orders = set()
    for seed in range(20):
        machine = machine_with(NIC)
        flushes(machine, 0)
        flushes(machine, 1)
        assert execute(machine, seed) == []
        orders.add(tuple(map(type, submitted(machine))))
    assert orders == {
        (InvalidateVmid, Sync, InvalidateVmid, Sync),
        (InvalidateVmid, InvalidateVmid, Sync, Sync),
    }


@pytest.mark.parametrize(("chosen", "waited"), [(0, OK), (1, ETIMEDOUT)])
def test_a_cmd_sync_that_was_given_up_is_told_to_the_flush_and_not_to_its_caller(chosen: int, waited: int) -> None:
    machine = machine_with(NIC)
    machine.allow_faults(waits=2)
    results = []

    @machine.cpu(0)
    async def flusher(cpu: Cpu) -> None:
        results.append(await settle(machine, cpu))
        results.append(await machine.hooks.driver.iotlb_flush_all(cpu, machine.domains[1]))

    assert ahead_of_units(machine, chosen=chosen) == []
    assert results == [waited, OK]


@pytest.mark.parametrize(("chosen", "kinds"), [(0, set()), (1, {FindingKind.LOST_ERROR, FindingKind.STALE})])
def test_a_call_whose_flush_was_given_up_loses_the_error(chosen: int, kinds: set[FindingKind]) -> None:
    machine = smmuv3_machine()
    machine.allow_faults(waits=1)
    domain = machine.domain(1, devices=(NIC,))
    frame = machine.allocate(domain=domain)
    machine.premap(domain, G, frame, cached=True)

    @machine.cpu(0)
    async def owner(cpu: Cpu) -> None:
        assert await machine.hypervisor.guest_physmap_remove_page(cpu, domain, G, frame) == OK

    assert {finding.kind for finding in ahead_of_units(machine, chosen=chosen)} == kinds


def test_steps_of_the_two_units_are_told_apart(execute: Execute) -> None:
    machine = machine_with(NIC, FAR)

    @machine.cpu(0)
    async def flusher(cpu: Cpu) -> None:
        await machine.hooks.driver.iotlb_flush_all(cpu, machine.domains[1])

    assert execute(machine) == []
    for unit in machine.units:
        assert len(steps(machine.trace.events(), "queue.complete", iommu=unit.name)) == 1
