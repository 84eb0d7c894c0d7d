"""The promise told: what a call says by its result is what has happened."""

from collections.abc import Awaitable, Callable

import attrs
import pytest

from emu.checks.findings import Finding, FindingKind, LostError, NotRolledBack, WrongResult
from emu.cpus import Cpu
from emu.engine import Choose
from emu.engine.hosts import direct
from emu.engine.strategies.round_robin import RoundRobinStrategy
from emu.hypervisor.domain import Domain
from emu.hypervisor.faults import Fault
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import ENOMEM, ETIMEDOUT, OK, READ_WRITE, MapFlags, iommu_dont_flush_iotlb
from emu.hypervisor.revisions.loader import BUNDLED, Revision
from emu.hypervisor.revisions.v1.iommu import iommu_map, iommu_unmap
from emu.machine.description import Description
from emu.machine.machine import Machine
from emu.platforms import VTD
from emu.units import Dfn, Mfn, offset
from tests.events import steps

Body = Callable[[Machine, Cpu, Domain], Awaitable[int]]

V1 = VTD.load_revision("v1")
G = Dfn(0x30)
H = offset(G, 1)
K = offset(G, 2)
NEW = Mfn(0x190000)
"""The first of frames that no machine here hands out."""
L = offset(G, 3)


@attrs.define
class Strikes(RoundRobinStrategy):
    """Takes turns, and has every fault happen that may."""

    def choose(self, choice: Choose) -> int:
        return choice.count - 1


def machine_of(revision: Revision = V1, *, number: int = 1, waits: int = 0) -> Machine:
    """Return a machine with a domain that has the pages G and H, and not K and L.

    Args:
        waits: how many times a CPU gives up waiting for a flush.
    """
    machine = Machine(
        Description(
            platform=attrs.evolve(VTD, load_revision=lambda _: revision), faults={Fault.WAIT: waits}, is_checking=True
        )
    )
    domain = machine.domain(number, devices=("00:1f.0",))
    machine.premap(domain, G, machine.allocate(page_order=1), page_order=1)
    return machine


def run(machine: Machine, *bodies: Body) -> tuple[list[Finding], list[int]]:
    """Have each CPU run a body in a hypercall; return what was found, and the results in the order of the returns."""
    results: list[int] = []

    async def serve(cpu: Cpu, body: Body) -> None:
        async with cpu.hypercall("memory_op"):
            results.append(await body(machine, cpu, next(iter(machine.domains.values()))))

    for number, body in enumerate(bodies):
        machine.cpu(number).runs(serve, body)
    execution = machine.execution(Strikes())
    direct.run(execution)
    return machine.conclude(execution), results


def frame_at(machine: Machine, dfn: Dfn) -> Mfn:
    """Return the frame of a page that stood there before the first step."""
    return machine.domains[1].p2m[dfn]


async def map_one(machine: Machine, cpu: Cpu, domain: Domain) -> int:
    """Map a page that was not present."""
    return await machine.hypervisor.map(cpu, domain, K, NEW)


async def map_two(machine: Machine, cpu: Cpu, domain: Domain) -> int:
    """Map two pages that were not present."""
    return await machine.hypervisor.map(cpu, domain, K, NEW, page_order=1)


async def replace_one(machine: Machine, cpu: Cpu, domain: Domain) -> int:
    return await machine.hypervisor.map(cpu, domain, G, NEW)


async def replace_two(machine: Machine, cpu: Cpu, domain: Domain) -> int:
    return await machine.hypervisor.map(cpu, domain, G, NEW, page_order=1)


async def unmap_two(machine: Machine, cpu: Cpu, domain: Domain) -> int:
    return await machine.hypervisor.unmap(cpu, domain, G, page_order=1)


async def flush_two(machine: Machine, cpu: Cpu, domain: Domain) -> int:
    return await machine.hypervisor.flush(cpu, domain, G, pages=2)


@pytest.mark.parametrize("number", [0, 1], ids=["hardware domain", "guest that is crashed"])
@pytest.mark.parametrize(
    ("revision", "is_lost"), [("implicit", False), ("v1", True), ("merged", False), ("flush_on_error", False)]
)
@pytest.mark.parametrize(("body", "hook", "first"), [(map_two, "map_page", K), (unmap_two, "unmap_page", G)])
def test_an_error_that_the_result_does_not_tell_is_lost(
    body: Body, hook: str, first: Dfn, revision: str, is_lost: bool, number: int
) -> None:
    machine = machine_of(VTD.load_revision(revision), number=number)
    machine.fail_hook(hook, offset(first, 1), ENOMEM)
    findings, (result,) = run(machine, body)
    assert (result == OK) is is_lost
    assert [finding.kind for finding in findings] == [FindingKind.LOST_ERROR] * is_lost
    for finding in findings:
        assert isinstance(finding, LostError)
        assert (finding.agent, finding.domain, finding.dfn, finding.page_count) == ("cpu0", number, first, 2)
        failure = finding.failure
        assert (failure.hook, failure.dfn, failure.result) == (hook, offset(first, 1), ENOMEM)
        assert failure.step < finding.step
    assert machine.domains[number].is_crashed is (number != 0)


def test_of_several_errors_that_are_lost_the_first_is_named() -> None:
    machine = machine_of(number=0)
    for dfn in (H, G):
        machine.fail_hook("unmap_page", dfn, ENOMEM)
    (finding,), _ = run(machine, unmap_two)
    assert isinstance(finding, LostError)
    assert finding.failure.dfn == G


@pytest.mark.parametrize("fixes", [set(), {Fix.FIRST_ERROR}], ids=["last result", "first error"])
def test_a_flush_that_timed_out_on_one_unit_is_lost_in_the_success_on_the_next(fixes: set[Fix]) -> None:
    machine = Machine(Description(faults={Fault.WAIT: 1}, is_checking=True))
    machine.driver.fixes |= fixes
    machine.scope(1, "01:00.0")
    machine.domain(1, devices=("00:1f.0", "01:00.0"))
    findings, (result,) = run(machine, flush_two)
    assert result == (ETIMEDOUT if fixes else OK)
    assert [finding.kind for finding in findings] == ([] if fixes else [FindingKind.LOST_ERROR])
    for finding in findings:
        assert isinstance(finding, LostError)
        assert (finding.call, finding.failure.hook) == ("flush", "iotlb_flush on vtd0")
        assert finding.failure.result == ETIMEDOUT


@pytest.mark.parametrize("revision", ["implicit", "merged", "flush_on_error"])
@pytest.mark.parametrize(("failing", "is_left"), [(K, True), (L, False)], ids=["roll-back fails", "rolled back"])
def test_a_map_that_fails_leaves_none_of_its_pages_mapped(revision: str, failing: Dfn, is_left: bool) -> None:
    machine = machine_of(VTD.load_revision(revision))
    machine.fail_hook("map_page", L, ENOMEM)
    machine.fail_hook("unmap_page", failing, ENOMEM)
    findings, results = run(machine, map_two)
    assert results == [ENOMEM]
    assert [finding.kind for finding in findings] == [FindingKind.NOT_ROLLED_BACK] * is_left
    for finding in findings:
        assert isinstance(finding, NotRolledBack)
        assert (finding.agent, finding.call, finding.domain, finding.dfn) == ("cpu0", "map", 1, K)
        assert (finding.page_count, finding.page, finding.result) == (2, K, ENOMEM)


@pytest.mark.parametrize("revision", BUNDLED)
@pytest.mark.parametrize(
    ("body", "waits", "is_left"),
    [
        pytest.param(replace_one, 1, True, id="one page"),
        pytest.param(replace_two, 1, True, id="two pages"),
        pytest.param(replace_one, 0, False, id="no time-out"),
        pytest.param(map_one, 1, False, id="nothing to flush"),
    ],
)
def test_a_map_whose_flush_times_out_has_left_its_pages_mapped(
    revision: str, body: Body, waits: int, is_left: bool
) -> None:
    findings, results = run(machine_of(VTD.load_revision(revision), waits=waits), body)
    assert results == [ETIMEDOUT if is_left else OK]
    assert [finding.kind for finding in findings] == [FindingKind.NOT_ROLLED_BACK] * is_left
    for finding in findings:
        assert isinstance(finding, NotRolledBack)
        assert (finding.page, finding.result) == (G, ETIMEDOUT)


@pytest.mark.parametrize("is_found", [True, False])
def test_a_failed_map_need_not_take_back_an_entry_that_it_has_only_found(is_found: bool) -> None:
    machine = machine_of(VTD.load_revision("merged"))
    new = machine.allocate(page_order=1)
    machine.fail_hook("map_page", H, ENOMEM)
    machine.fail_hook("unmap_page", G, ENOMEM)

    async def body(machine: Machine, cpu: Cpu, domain: Domain) -> int:
        return await machine.hypervisor.map(cpu, domain, G, frame_at(machine, G) if is_found else new, page_order=1)

    findings, results = run(machine, body)
    assert results == [ENOMEM]
    assert [finding.kind for finding in findings] == ([] if is_found else [FindingKind.NOT_ROLLED_BACK])


@pytest.mark.parametrize("failing", [G, H])
def test_an_unmap_that_fails_may_stop_anywhere(failing: Dfn) -> None:
    machine = machine_of(VTD.load_revision("merged"))
    machine.fail_hook("unmap_page", failing, ENOMEM)
    assert run(machine, unmap_two) == ([], [ENOMEM])


def test_an_unmap_that_fails_may_put_back_what_it_has_removed() -> None:
    async def unmap_or_restore(cpu: Cpu, domain: Domain, dfn: Dfn, page_order: int) -> int:
        error, _ = await domain.ops.unmap_page(cpu, domain, dfn)
        error, _ = await domain.ops.unmap_page(cpu, domain, offset(dfn, 1))
        await domain.ops.map_page(cpu, domain, dfn, domain.p2m[dfn], READ_WRITE)
        return error

    machine = machine_of(attrs.evolve(V1, unmap=unmap_or_restore))
    machine.fail_hook("unmap_page", H, ENOMEM)
    assert run(machine, unmap_two) == ([], [ENOMEM])


async def map_first_half(cpu: Cpu, domain: Domain, dfn: Dfn, mfn: Mfn, page_order: int, flags: MapFlags) -> int:
    return await iommu_map(cpu, domain, dfn, mfn, page_order - 1, flags)


async def map_nothing(cpu: Cpu, domain: Domain, dfn: Dfn, mfn: Mfn, page_order: int, flags: MapFlags) -> int:
    return OK


async def map_next_frame(cpu: Cpu, domain: Domain, dfn: Dfn, mfn: Mfn, page_order: int, flags: MapFlags) -> int:
    return await iommu_map(cpu, domain, dfn, Mfn(mfn + 1), page_order, flags)


async def map_read_only(cpu: Cpu, domain: Domain, dfn: Dfn, mfn: Mfn, page_order: int, flags: MapFlags) -> int:
    return await iommu_map(cpu, domain, dfn, mfn, page_order, MapFlags.READABLE)


async def map_writable(cpu: Cpu, domain: Domain, dfn: Dfn, mfn: Mfn, page_order: int, flags: MapFlags) -> int:
    return await iommu_map(cpu, domain, dfn, mfn, page_order, READ_WRITE)


async def unmap_first_half(cpu: Cpu, domain: Domain, dfn: Dfn, page_order: int) -> int:
    return await iommu_unmap(cpu, domain, dfn, page_order - 1)


async def unmap_and_restore(cpu: Cpu, domain: Domain, dfn: Dfn, page_order: int) -> int:
    result = await iommu_unmap(cpu, domain, dfn, page_order)
    await domain.ops.map_page(cpu, domain, dfn, domain.p2m[dfn], READ_WRITE)
    return result


async def unmap_nothing(cpu: Cpu, domain: Domain, dfn: Dfn, page_order: int) -> int:
    return OK


async def map_two_read_only(machine: Machine, cpu: Cpu, domain: Domain) -> int:
    return await machine.hypervisor.map(cpu, domain, K, NEW, page_order=1, flags=MapFlags.READABLE)


WRAPPERS = pytest.mark.parametrize(
    ("body", "revision", "call", "page"),
    [
        pytest.param(map_two, attrs.evolve(V1, map=map_first_half), "map", L, id="a page is skipped"),
        pytest.param(map_two, attrs.evolve(V1, map=map_nothing), "map", K, id="all pages are skipped"),
        pytest.param(map_two, attrs.evolve(V1, map=map_next_frame), "map", K, id="another frame"),
        pytest.param(map_two, attrs.evolve(V1, map=map_read_only), "map", K, id="no write permission"),
        pytest.param(map_two_read_only, attrs.evolve(V1, map=map_writable), "map", K, id="too much permission"),
        pytest.param(unmap_two, attrs.evolve(V1, unmap=unmap_first_half), "unmap", H, id="a page is left"),
        pytest.param(unmap_two, attrs.evolve(V1, unmap=unmap_and_restore), "unmap", G, id="a page is put back"),
        pytest.param(unmap_two, attrs.evolve(V1, unmap=unmap_nothing), "unmap", G, id="all pages are left"),
    ],
)


@WRAPPERS
def test_success_is_a_wrong_result_unless_every_page_is_as_the_call_was_to_leave_it(
    body: Body, revision: Revision, call: str, page: Dfn
) -> None:
    (finding,), results = run(machine_of(revision), body)
    assert results == [OK]
    assert isinstance(finding, WrongResult)
    assert (finding.agent, finding.call, finding.domain) == ("cpu0", call, 1)
    assert (finding.dfn, finding.page_count, finding.page) == (K if call == "map" else G, 2, page)


@WRAPPERS
def test_wrappers_that_do_what_they_are_asked_to_give_no_wrong_result(
    body: Body, revision: Revision, call: str, page: Dfn
) -> None:
    assert run(machine_of(V1), body) == ([], [OK])


@pytest.mark.parametrize(("revision", "is_wrong"), [(V1, False), (attrs.evolve(V1, map=map_next_frame), True)])
def test_a_leaf_that_a_map_finds_counts_as_one_that_it_stores(revision: Revision, is_wrong: bool) -> None:
    machine = machine_of(revision)

    async def body(machine: Machine, cpu: Cpu, domain: Domain) -> int:
        return await machine.hypervisor.map(cpu, domain, H, Mfn(frame_at(machine, H) - is_wrong))

    findings, _ = run(machine, body)
    assert [finding.kind for finding in findings] == [FindingKind.WRONG_RESULT] * is_wrong
    assert not any(event.name == "pte.write" for event in machine.trace.events())


@pytest.mark.parametrize("is_present", [True, False])
def test_an_unmap_of_a_page_that_is_not_mapped_is_no_wrong_result(is_present: bool) -> None:
    machine = machine_of(V1)

    async def body(machine: Machine, cpu: Cpu, domain: Domain) -> int:
        return await machine.hypervisor.unmap(cpu, domain, G if is_present else Dfn(0x4000))

    assert run(machine, body) == ([], [OK])


@pytest.mark.parametrize(
    ("revision", "is_dying", "is_wrong"),
    [(V1, True, False), (V1, False, False), (attrs.evolve(V1, map=map_nothing), False, True)],
    ids=["refused", "mapped", "forgotten"],
)
def test_a_map_that_is_refused_for_its_domain_is_dying_is_no_wrong_result(
    revision: Revision, is_dying: bool, is_wrong: bool
) -> None:
    machine = machine_of(revision)
    machine.driver.fixes.add(Fix.DYING)

    async def body(machine: Machine, cpu: Cpu, domain: Domain) -> int:
        await domain.is_dying.write(is_dying)
        return await map_two(machine, cpu, domain)

    findings, results = run(machine, body)
    assert results == [OK]
    assert [finding.kind for finding in findings] == [FindingKind.WRONG_RESULT] * is_wrong
    is_mapped = any(event.name == "pte.write" for event in machine.trace.events())
    assert is_mapped is not (is_dying or is_wrong)


@pytest.mark.parametrize("is_other", [True, False])
def test_what_another_cpu_does_to_the_page_before_a_map_returns_is_not_the_business_of_the_map(is_other: bool) -> None:
    machine = machine_of()
    mapped, unmapped = machine.signal("mapped"), machine.signal("unmapped")

    async def map_and_wait(cpu: Cpu, domain: Domain, dfn: Dfn, mfn: Mfn, page_order: int, flags: MapFlags) -> int:
        result = await iommu_map(cpu, domain, dfn, mfn, page_order, flags)
        if not is_other:
            await iommu_unmap(cpu, domain, dfn, page_order)
        await mapped.send()
        await unmapped.wait()
        return result

    async def unmap(machine: Machine, cpu: Cpu, domain: Domain) -> int:
        await mapped.wait()
        result = await machine.hypervisor.unmap(cpu, domain, G)
        await unmapped.send()
        return result

    machine.hypervisor = attrs.evolve(machine.hypervisor, revision=attrs.evolve(V1, map=map_and_wait))
    findings, _ = run(machine, replace_one, unmap)
    assert [finding.kind for finding in findings] == ([] if is_other else [FindingKind.WRONG_RESULT])
    events = list(machine.trace.events())
    (cleared,), (returned,) = steps(events, "pte.clear", dfn=G), steps(events, "call.return", call="map")
    assert cleared < returned


@pytest.mark.parametrize("is_first", [True, False])
def test_what_a_softirq_does_to_the_page_while_a_map_runs_is_told_by_its_own_call(is_first: bool) -> None:
    machine = machine_of()

    async def unmap(cpu: Cpu) -> None:
        await machine.hypervisor.unmap(cpu, machine.domains[1], G)

    async def interrupted(cpu: Cpu, domain: Domain, dfn: Dfn, mfn: Mfn, page_order: int, flags: MapFlags) -> int:
        cpu.raise_softirq(unmap)
        if is_first:
            await cpu.process_pending_softirqs()
        result = await iommu_map(cpu, domain, dfn, mfn, page_order, flags)
        await cpu.process_pending_softirqs()
        return result

    machine.hypervisor = attrs.evolve(machine.hypervisor, revision=attrs.evolve(V1, map=interrupted))
    assert run(machine, replace_one) == ([], [OK])
    (written,), (cleared,) = (
        steps(machine.trace.events(), "pte.write", dfn=G),
        steps(machine.trace.events(), "pte.clear", dfn=G),
    )
    assert (cleared < written) is is_first


@pytest.mark.parametrize("is_deferred", [True, False])
@pytest.mark.parametrize(("revision", "is_wrong"), [(attrs.evolve(V1, map=map_first_half), True), (V1, False)])
def test_a_call_that_puts_its_flush_off_tells_at_its_return_all_the_same(
    revision: Revision, is_wrong: bool, is_deferred: bool
) -> None:
    machine = machine_of(revision)
    at_return: list[Finding] = []

    async def body(machine: Machine, cpu: Cpu, domain: Domain) -> int:
        await cpu.write(iommu_dont_flush_iotlb, is_deferred)
        result = await map_two(machine, cpu, domain)
        at_return.extend(machine.findings)
        await cpu.write(iommu_dont_flush_iotlb, False)
        return result

    findings, _ = run(machine, body)
    assert [finding.kind for finding in findings] == [FindingKind.WRONG_RESULT] * is_wrong
    assert at_return == findings
