"""A device that joins a domain finds what was cached for the domain's tag before: promises must hold for it, too."""

import pytest

from emu.checks.findings import FindingKind, StaleAssignment
from emu.cpus import Cpu
from emu.engine.hosts import direct
from emu.engine.strategies.round_robin import RoundRobinStrategy
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import iommu_dont_flush_iotlb
from emu.reports.findings import sentence
from emu.units import Dfn
from tests.amd import amd_machine

G = Dfn(0x1000)


def found(revision: str, *, flushes: bool = False, others: tuple[str, ...] = ()) -> tuple[list[StaleAssignment], str]:
    """Detach a device, unmap a page under the flag, and attach the device again; return what is found of that.

    Args:
        flushes: the CPU flushes the page at the end of the flagged region.
        others: further devices of the domain.
    """
    machine = amd_machine(revision=revision)
    machine.driver.fixes.add(Fix.ABORT)
    domain = machine.domain(1, devices=("00:1f.0", *others))
    machine.premap(domain, G, machine.allocate(domain=domain), cached=True)
    device = machine.devices["00:1f.0"]

    @machine.cpu(0)
    async def owner(cpu: Cpu) -> None:
        async with cpu.hypercall("domctl"):
            await machine.assignment.detach(cpu, domain, device)
        async with cpu.hypercall("remove_from_physmap"):
            await cpu.write(iommu_dont_flush_iotlb, True)
            await machine.hypervisor.unmap(cpu, domain, G)
            await cpu.write(iommu_dont_flush_iotlb, False)
            if flushes:
                await machine.hypervisor.flush(cpu, domain, G, pages=1)
        async with cpu.hypercall("domctl"):
            await machine.assignment.attach(cpu, domain, device)

    execution = machine.execution(RoundRobinStrategy())
    direct.run(execution)
    findings = [one for one in machine.conclude(execution) if isinstance(one, StaleAssignment)]
    return findings, "".join(sentence(one, machine.trace) for one in findings)


def test_a_promise_that_held_without_a_device_must_hold_for_the_next_one() -> None:
    (finding,), said = found("merged")
    assert (finding.kind, finding.device, finding.joined) == (FindingKind.STALE, "00:1f.0", 1)
    assert finding.revived is not None
    assert finding.revived.dfn == G
    assert "amd0 could use an old translation of dfn 0x1000 for it, which cpu0's unmap had promised" in said


@pytest.mark.parametrize(("revision", "flushes"), [("merged", True), ("implicit", False), ("v1", False)])
def test_a_flush_while_the_domain_has_no_device_is_enough(revision: str, *, flushes: bool) -> None:
    assert found(revision, flushes=flushes)[0] == []


def test_where_another_device_has_the_tag_all_along_the_call_itself_is_found() -> None:
    assert found("merged", others=("00:02.0",))[0] == []
