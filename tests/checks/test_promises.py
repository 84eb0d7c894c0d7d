"""Each promise: a smallest program that breaks it, and a twin, one thing different, that keeps it."""

from collections.abc import Callable, Iterable

import attrs
import pytest

from emu.checks.details import Evidence
from emu.checks.findings import Finding, FindingKind, LostError, OldPath
from emu.checks.promises import PromiseJudge
from emu.cpus import Cpu
from emu.engine import Access, Execution
from emu.engine.execution import UndeclaredReadError
from emu.engine.hosts import direct
from emu.engine.strategies.round_robin import RoundRobinStrategy
from emu.hypervisor.domain import Domain
from emu.hypervisor.ops import ENOMEM, OK, MapFlags, iommu_dont_flush_iotlb
from emu.hypervisor.records import CallRecord
from emu.hypervisor.revisions.loader import Revision
from emu.hypervisor.revisions.v1.iommu import iommu_iotlb_flush
from emu.iommus.formats import FAULT
from emu.machine.description import Description
from emu.machine.machine import Machine
from emu.platforms import VTD
from emu.units import Dfn, Mfn, offset

V1 = VTD.load_revision("v1")

Execute = Callable[..., list[Finding]]

G = Dfn(0x30)


async def map_without_flush(cpu: Cpu, domain: Domain, dfn: Dfn, mfn: Mfn, page_order: int, flags: MapFlags) -> int:
    result, _ = await domain.ops.map_page(cpu, domain, dfn, mfn, flags)
    return result


async def unmap_without_flush(cpu: Cpu, domain: Domain, dfn: Dfn, page_order: int) -> int:
    result, _ = await domain.ops.unmap_page(cpu, domain, dfn)
    return result


async def flush_nothing(cpu: Cpu, domain: Domain, dfn: Dfn, page_count: int) -> int:
    return OK


async def flush_first_page(cpu: Cpu, domain: Domain, dfn: Dfn, page_count: int) -> int:
    return await iommu_iotlb_flush(cpu, domain, dfn, 1)


async def flush_all_nothing(cpu: Cpu, domain: Domain) -> int:
    return OK


def machine_of(revision: Revision, pages: int = 1) -> Machine:
    machine = Machine(Description())
    machine.hypervisor = attrs.evolve(machine.hypervisor, revision=revision)
    domain = machine.domain(1, devices=("00:1f.0",))
    for page in range(pages):
        machine.premap(domain, offset(G, page), machine.allocate())
    return machine


@pytest.mark.parametrize(
    ("revision", "broken"), [(attrs.evolve(V1, map=map_without_flush), True), (V1, False)], ids=["no flush", "v1"]
)
def test_mapped_is_broken_by_a_replacement_without_a_flush(execute: Execute, revision: Revision, broken: bool) -> None:
    machine = machine_of(revision)
    new = machine.allocate()

    @machine.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        await machine.hypervisor.map(cpu, machine.domains[1], G, new)

    findings = execute(machine)
    assert bool(findings) is broken
    for finding in findings:
        assert isinstance(finding, OldPath)
        assert (finding.promise, finding.evidence, finding.dfn) == ("mapped", Evidence.POSSIBLE, G)


@pytest.mark.parametrize(
    ("revision", "broken"), [(attrs.evolve(V1, unmap=unmap_without_flush), True), (V1, False)], ids=["no flush", "v1"]
)
def test_unmapped_is_broken_by_an_unmap_without_a_flush(execute: Execute, revision: Revision, broken: bool) -> None:
    machine = machine_of(revision)

    @machine.cpu(0)
    async def unmapper(cpu: Cpu) -> None:
        await machine.hypervisor.unmap(cpu, machine.domains[1], G)

    assert [finding.kind for finding in execute(machine)] == [FindingKind.STALE] * broken


def test_unmapped_is_promised_by_a_call_that_found_nothing_to_do_too(execute: Execute) -> None:
    machine = machine_of(attrs.evolve(V1, unmap=unmap_without_flush))
    first, second = machine.cpu(0), machine.cpu(1)
    cleared, judged = machine.signal("cleared"), machine.signal("judged")

    @first
    async def deferring(cpu: Cpu) -> None:
        async with cpu.hypercall("deferring"):
            await cpu.write(iommu_dont_flush_iotlb, True)
            await machine.hypervisor.unmap(cpu, machine.domains[1], G)
            await cpu.write(iommu_dont_flush_iotlb, False)
            await cleared.send()
            await judged.wait()
            await machine.hypervisor.flush_all(cpu, machine.domains[1])

    @second
    async def finding_nothing(cpu: Cpu) -> None:
        await cleared.wait()
        await machine.hypervisor.unmap(cpu, machine.domains[1], G)
        await judged.send()

    (finding,) = execute(machine)
    assert isinstance(finding, OldPath)
    assert finding.agent == "cpu1"
    assert finding.update is not None
    assert finding.update.old == finding.update.new == FAULT


@pytest.mark.parametrize(
    ("revision", "stale_pages"),
    [
        (attrs.evolve(V1, flush=flush_nothing), [G, offset(G, 1)]),
        (attrs.evolve(V1, flush=flush_first_page), [offset(G, 1)]),
        (V1, []),
    ],
    ids=["no flush", "too narrow", "v1"],
)
def test_flushed_is_broken_by_a_flush_that_does_not_cover_its_range(
    execute: Execute, revision: Revision, stale_pages: list[Dfn]
) -> None:
    machine = machine_of(revision, pages=2)
    new = machine.allocate(page_order=1)

    @machine.cpu(0)
    async def batch(cpu: Cpu) -> None:
        async with cpu.hypercall("batch"):
            await cpu.write(iommu_dont_flush_iotlb, True)
            await machine.hypervisor.map(cpu, machine.domains[1], G, new, page_order=1)
            await cpu.write(iommu_dont_flush_iotlb, False)
            await machine.hypervisor.flush(cpu, machine.domains[1], G, pages=2)

    findings = [finding for finding in execute(machine) if isinstance(finding, OldPath)]
    assert [finding.dfn for finding in findings if finding.promise == "flushed"] == stale_pages
    assert [finding.dfn for finding in findings if finding.promise == "owed"] == stale_pages
    assert len(findings) == 2 * len(stale_pages)


@pytest.mark.parametrize(
    ("revision", "broken"),
    [(attrs.evolve(V1, flush_all=flush_all_nothing), True), (V1, False)],
    ids=["no flush", "v1"],
)
def test_flushed_holds_for_every_page_of_the_domain_after_flush_all(
    execute: Execute, revision: Revision, broken: bool
) -> None:
    machine = machine_of(revision)
    new = machine.allocate()

    @machine.cpu(0)
    async def batch(cpu: Cpu) -> None:
        async with cpu.hypercall("batch"):
            await cpu.write(iommu_dont_flush_iotlb, True)
            await machine.hypervisor.map(cpu, machine.domains[1], G, new)
            await cpu.write(iommu_dont_flush_iotlb, False)
            await machine.hypervisor.flush_all(cpu, machine.domains[1])

    promises = [finding.promise for finding in execute(machine) if isinstance(finding, OldPath)]
    assert promises == ["flushed", "owed"] * broken


@pytest.mark.parametrize("fails", [True, False])
def test_told_is_broken_by_success_over_a_failed_hook(execute: Execute, fails: bool) -> None:
    machine = machine_of(V1)
    if fails:
        machine.fail_hook("map_page", G, ENOMEM)
    new = machine.allocate()

    @machine.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        await machine.hypervisor.map(cpu, machine.domains[1], G, new)

    findings = execute(machine)
    assert bool(findings) is fails
    for finding in findings:
        assert isinstance(finding, LostError)
        assert (finding.failure.hook, finding.failure.dfn, finding.failure.result) == ("map_page", G, ENOMEM)


def test_a_deferred_call_has_promised_nothing_yet(execute: Execute) -> None:
    machine = machine_of(V1)
    new = machine.allocate()

    at_return: list[Finding] = []

    @machine.cpu(0)
    async def batch(cpu: Cpu) -> None:
        async with cpu.hypercall("batch"):
            await cpu.write(iommu_dont_flush_iotlb, True)
            await machine.hypervisor.map(cpu, machine.domains[1], G, new)
            at_return.extend(machine.findings)

    (finding,) = execute(machine)
    assert at_return == []
    assert finding.kind is FindingKind.OWED


@pytest.mark.parametrize("detour", [False, True])
def test_an_old_path_to_the_very_leaf_that_was_found_does_no_harm(execute: Execute, detour: bool) -> None:
    machine = Machine(Description())
    domain = machine.domain(1, devices=("00:1f.0",))
    frame, other = machine.allocate(), machine.allocate()
    machine.premap(domain, G, frame)
    judged: list[Finding] = []

    @machine.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        async with cpu.hypercall("batch"):
            await cpu.write(iommu_dont_flush_iotlb, True)
            if detour:
                await machine.hypervisor.map(cpu, domain, G, other)
            await machine.hypervisor.map(cpu, domain, G, frame, flags=MapFlags.READABLE)
            await machine.hypervisor.map(cpu, domain, G, frame)
            await machine.hypervisor.map(cpu, domain, G, frame)
            await cpu.write(iommu_dont_flush_iotlb, False)
            await machine.hypervisor.map(cpu, domain, G, frame)
            judged.extend(machine.findings)
            await machine.hypervisor.flush_all(cpu, domain)

    execute(machine)
    stale = [finding for finding in judged if isinstance(finding, OldPath)]
    assert {finding.promise for finding in stale} == {"mapped"}
    left = [(finding.frame, finding.path.translation.write) for finding in stale]
    assert left == [(frame, False), (other, True)][: 1 + detour]


@pytest.mark.parametrize("seed", range(300))
def test_two_mappers_of_one_page_are_not_blamed_for_each_other(execute: Execute, seed: int) -> None:
    machine = machine_of(V1)

    async def mapper(cpu: Cpu, frame: Mfn) -> None:
        await machine.hypervisor.map(cpu, machine.domains[1], G, frame)

    for number in range(2):
        machine.cpu(number).runs(mapper, machine.allocate())
    assert execute(machine, seed) == []


class JudgeWithoutLedger(PromiseJudge):
    """Judges as ever, and declares nothing of what it reads."""

    def reads(self, record: CallRecord) -> Iterable[Access]:
        return (access for access in super().reads(record) if access.space[0] != "ledger")


@pytest.mark.parametrize("judge", [JudgeWithoutLedger, PromiseJudge])
def test_checking_mode_catches_a_promise_that_does_not_declare_the_ledger(judge: type[PromiseJudge]) -> None:
    machine = Machine(Description(is_checking=True))
    domain, new = machine.domain(1, devices=("00:1f.0",)), machine.allocate()
    machine.hypervisor = attrs.evolve(machine.hypervisor, judge=judge(machine.units, machine.findings))

    @machine.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        await machine.hypervisor.map(cpu, domain, G, new)

    execution: Execution = machine.execution(RoundRobinStrategy())
    if judge is PromiseJudge:
        direct.run(execution)
    else:
        with pytest.raises(UndeclaredReadError, match=r"call\.return read ledger/vtd0 object .* without declaring it"):
            direct.run(execution)


@pytest.mark.parametrize("seed", range(100))
def test_a_table_entered_in_several_stores_is_no_old_path(execute: Execute, seed: int) -> None:
    machine = machine_of(V1, pages=0)

    async def mapper(cpu: Cpu, frame: Mfn) -> None:
        await machine.hypervisor.map(cpu, machine.domains[1], G, frame)

    for number in range(2):
        machine.cpu(number).runs(mapper, machine.allocate())
    assert execute(machine, seed) == []


@pytest.mark.parametrize("back", [True, False])
def test_a_flush_need_not_remove_an_old_path_to_what_stood_there_when_it_began(execute: Execute, back: bool) -> None:
    machine = machine_of(attrs.evolve(V1, flush=flush_nothing), pages=0)
    domain = machine.domains[1]
    frame, other = machine.allocate(), machine.allocate()
    machine.premap(domain, G, frame)
    judged: list[Finding] = []

    @machine.cpu(0)
    async def batch(cpu: Cpu) -> None:
        async with cpu.hypercall("batch"):
            await cpu.write(iommu_dont_flush_iotlb, True)
            await machine.hypervisor.unmap(cpu, domain, G)
            await machine.hypervisor.map(cpu, domain, G, frame if back else other)
            await cpu.write(iommu_dont_flush_iotlb, False)
            await machine.hypervisor.flush(cpu, domain, G, pages=1)
            judged.extend(machine.findings)
            await machine.hypervisor.flush_all(cpu, domain)

    # v1's unmap flushes whatever the flag says; here it must not
    machine.hypervisor = attrs.evolve(
        machine.hypervisor, revision=attrs.evolve(machine.hypervisor.revision, unmap=unmap_without_flush)
    )
    execute(machine)
    assert [finding.kind for finding in judged] == ([] if back else [FindingKind.STALE])
