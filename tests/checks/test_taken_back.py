"""A call that fails promises that nothing is left in use of what it has taken back. Every trace is executed."""

from collections.abc import Awaitable, Callable

import pytest

from emu.checks.findings import FindingKind
from emu.checks.signatures import Signature
from emu.cpus import Cpu
from emu.hypervisor.domain import Domain
from emu.hypervisor.hooks import HookFault
from emu.hypervisor.ops import ENOMEM, OK, READ_WRITE, FlushType, MapFlags, iommu_dont_flush_iotlb
from emu.hypervisor.revisions.loader import BUNDLED
from emu.hypervisor.revisions.merged import iommu as merged
from emu.machine.machine import Machine
from emu.running.causes import Cause
from emu.scenarios.scenario import Build
from emu.units import Dfn, Mfn, offset
from tests.checks import exhausted
from tests.checks.exhausted import replace_calls

Flush = Callable[[Cpu, Domain], Awaitable[int]]

NIC = "00:1f.0"
G = Dfn(0x30)
H = offset(G, 1)
OLD, NEW = Mfn(0x180002), Mfn(0x180004)


def causes(build: Build, parameters: str = "") -> dict[Signature, Cause]:
    """Return what every trace of a program together shows, with small tables."""
    return exhausted.causes(build, f"levels=3 {parameters}")


def stale(dfn: Dfn, frame: Mfn) -> Signature:
    return Signature(FindingKind.STALE, "taken back", 1, dfn, frame, "vtd0", "cpu0")


async def no_flush(cpu: Cpu, domain: Domain) -> int:
    return OK


async def flush_domain(cpu: Cpu, domain: Domain) -> int:
    return await domain.ops.iotlb_flush_all(cpu, domain)


async def flush_as_if_added(cpu: Cpu, domain: Domain) -> int:
    return await domain.ops.iotlb_flush(cpu, domain, G, 1, FlushType.ADDED)


async def flush_first_page(cpu: Cpu, domain: Domain) -> int:
    return await domain.ops.iotlb_flush(cpu, domain, G, 1, FlushType.MODIFIED)


def two_pages(m: Machine) -> Domain:
    domain, old = m.domain(1, devices=(NIC,)), m.allocate(page_order=1)
    m.premap(domain, G, old, page_order=1, cached=True)
    return domain


def map_that_fails(first: Flush, last: Flush) -> Build:
    """Return a program: a map of two pages replaces the first, fails on the second and takes the first back.

    Args:
        first: called before the roll-back.
        last: called after it.
    """

    async def wrapper(cpu: Cpu, domain: Domain, dfn: Dfn, mfn: Mfn, page_order: int, flags: MapFlags) -> int:
        await domain.ops.map_page(cpu, domain, dfn, mfn, flags)
        result, _ = await domain.ops.map_page(cpu, domain, offset(dfn, 1), Mfn(mfn + 1), flags)
        await first(cpu, domain)
        await domain.ops.unmap_page(cpu, domain, dfn)
        await last(cpu, domain)
        return result

    def program(m: Machine) -> None:
        domain, new = two_pages(m), m.allocate(page_order=1)
        m.fail_hook("map_page", H, ENOMEM)
        replace_calls(m, map=wrapper)

        @m.cpu(0)
        async def mapper(cpu: Cpu) -> None:
            await m.hypervisor.map(cpu, domain, G, new, page_order=1)

    return program


@pytest.mark.parametrize(
    ("first", "last", "left"),
    [
        pytest.param(no_flush, flush_domain, [], id="flushed after the roll-back"),
        pytest.param(no_flush, flush_first_page, [], id="only what was changed"),
        pytest.param(flush_domain, no_flush, [NEW], id="flushed before the roll-back"),
        pytest.param(no_flush, flush_as_if_added, [OLD, NEW], id="as if nothing was there"),
        pytest.param(no_flush, no_flush, [OLD, NEW], id="not flushed"),
    ],
)
def test_what_a_failed_map_has_stored_and_what_it_has_replaced_must_be_gone(
    first: Flush, last: Flush, left: list[Mfn]
) -> None:
    assert set(causes(map_that_fails(first, last))) == {stale(G, frame) for frame in left}


@pytest.mark.parametrize(("flush", "is_left"), [(flush_domain, False), (no_flush, True)])
def test_what_a_failed_unmap_has_removed_must_be_gone(flush: Flush, is_left: bool) -> None:
    async def wrapper(cpu: Cpu, domain: Domain, dfn: Dfn, page_order: int) -> int:
        result, _ = await merged.iommu_unmap(cpu, domain, dfn, page_order)
        await flush(cpu, domain)
        return result

    def program(m: Machine) -> None:
        domain = two_pages(m)
        m.fail_hook("unmap_page", H, ENOMEM)
        replace_calls(m, unmap=wrapper)

        @m.cpu(0)
        async def unmapper(cpu: Cpu) -> None:
            await m.hypervisor.unmap(cpu, domain, G, page_order=1)

    assert list(causes(program)) == [stale(G, OLD)] * is_left


@pytest.mark.parametrize("is_put_back", [True, False])
def test_what_a_failed_unmap_has_put_back_is_in_use_again(is_put_back: bool) -> None:
    async def wrapper(cpu: Cpu, domain: Domain, dfn: Dfn, page_order: int) -> int:
        await domain.ops.unmap_page(cpu, domain, dfn)
        if is_put_back:
            await domain.ops.map_page(cpu, domain, dfn, OLD, READ_WRITE)
        return ENOMEM

    def program(m: Machine) -> None:
        domain = two_pages(m)
        replace_calls(m, unmap=wrapper)

        @m.cpu(0)
        async def unmapper(cpu: Cpu) -> None:
            await m.hypervisor.unmap(cpu, domain, G)

    assert list(causes(program)) == ([] if is_put_back else [stale(G, OLD)])


@pytest.mark.parametrize("is_stored", [True, False])
def test_a_failed_call_does_not_answer_for_an_entry_that_it_has_only_found(is_stored: bool) -> None:
    """Another call had cleared the entry, and has put its flush off; or this one clears it."""

    async def wrapper(cpu: Cpu, domain: Domain, dfn: Dfn, page_order: int) -> int:
        if page_order:
            await domain.ops.unmap_page(cpu, domain, dfn)
            return ENOMEM
        await domain.ops.unmap_page(cpu, domain, dfn)
        return OK

    def program(m: Machine) -> None:
        domain = two_pages(m)
        replace_calls(m, unmap=wrapper)

        @m.cpu(0)
        async def unmapper(cpu: Cpu) -> None:
            async with cpu.hypercall("memory_op"):
                if not is_stored:
                    await cpu.write(iommu_dont_flush_iotlb, True)
                    await m.hypervisor.unmap(cpu, domain, G)
                    await cpu.write(iommu_dont_flush_iotlb, False)
                await m.hypervisor.unmap(cpu, domain, G, page_order=1)
                await m.hypervisor.flush_all(cpu, domain)

    assert list(causes(program)) == [stale(G, OLD)] * is_stored


@pytest.mark.parametrize("waits", [0, 1])
def test_a_failure_of_the_flush_itself_promises_nothing(waits: int) -> None:
    """The hook fails or not, and the flush of what was done until then may time out."""

    def program(m: Machine) -> None:
        domain = two_pages(m)
        m.fail_hook("unmap_page", H, ENOMEM)
        m.allow_faults(waits=waits)

        @m.cpu(0)
        async def unmapper(cpu: Cpu) -> None:
            await m.hypervisor.unmap(cpu, domain, G, page_order=1)

    assert causes(program, "revision=merged synchronous=false") == {}


@pytest.mark.parametrize("revision", BUNDLED)
@pytest.mark.parametrize("hook", ["map_page", "unmap_page"])
@pytest.mark.parametrize("order", [0, 1])
def test_each_revision_leaves_nothing_in_use_after_an_error_unless_it_was_to_put_its_flush_off(
    revision: str, hook: str, order: int
) -> None:
    def program(m: Machine) -> None:
        domain, new = two_pages(m), m.allocate(page_order=1)
        m.hooks.failing.append(HookFault(hook, offset(G, order), ENOMEM))

        @m.cpu(0)
        async def caller(cpu: Cpu) -> None:
            if hook == "map_page":
                await m.hypervisor.map(cpu, domain, G, new, page_order=order)
            else:
                await m.hypervisor.unmap(cpu, domain, G, page_order=order)

    assert {found.kind for found in causes(program, f"revision={revision}")} <= {FindingKind.LOST_ERROR}
