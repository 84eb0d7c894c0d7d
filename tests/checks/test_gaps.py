"""Where gaps are refused, a page that is mapped before and after a change always is. Every trace is executed."""

import pytest

from emu.checks.findings import FindingKind
from emu.checks.signatures import Signature
from emu.cpus import Cpu
from emu.hypervisor.domain import Domain
from emu.hypervisor.ops import ENOMEM, OK, READ_WRITE, FlushType, MapFlags, iommu_dont_flush_iotlb
from emu.machine.machine import Machine
from emu.running.causes import Cause
from emu.scenarios.expectation import CLEAN
from emu.scenarios.scenario import Build, scenario
from emu.units import Dfn, Mfn, offset
from tests.checks import exhausted
from tests.checks.exhausted import explored, replace_calls

NIC = "00:1f.0"
G = Dfn(0x30)
H = offset(G, 1)


def causes(build: Build, *, refused: bool) -> dict[Signature, Cause]:
    """Return what every trace of a program together shows, if gaps are refused or not."""
    return exhausted.causes(build, f"levels=3 refuse_gaps={refused}")


def gap(page: Dfn, call: str = "map") -> Signature:
    return Signature(FindingKind.GAP, call, 1, page, None, None, "cpu0")


async def clear_and_set(cpu: Cpu, domain: Domain, dfn: Dfn, mfn: Mfn, page_order: int, flags: MapFlags) -> int:
    await domain.ops.unmap_page(cpu, domain, dfn)
    await domain.ops.map_page(cpu, domain, dfn, mfn, flags)
    return await domain.ops.iotlb_flush(cpu, domain, dfn, 1, FlushType.MODIFIED)


@pytest.mark.parametrize("refused", [True, False])
@pytest.mark.parametrize("is_live", [True, False])
def test_only_a_live_entry_has_a_gap_and_only_where_that_is_refused(is_live: bool, refused: bool) -> None:
    def program(m: Machine) -> None:
        domain, new = m.domain(1, devices=(NIC,)), m.allocate()
        m.premap(domain, G if is_live else H, m.allocate(), cached=True)
        replace_calls(m, map=clear_and_set)

        @m.cpu(0)
        async def mapper(cpu: Cpu) -> None:
            await m.hypervisor.map(cpu, domain, G, new)

    assert list(causes(program, refused=refused)) == [gap(G)] * (is_live and refused)


@pytest.mark.parametrize("ends", ["mapped again", "unmapped", "mapped elsewhere", "one after the other"])
@pytest.mark.parametrize("refused", [True, False])
def test_calls_of_one_hypercall_that_are_deferred_make_a_gap_together(ends: str, refused: bool) -> None:
    def program(m: Machine) -> None:
        domain, new = m.domain(1, devices=(NIC,)), m.allocate()
        m.premap(domain, G, m.allocate(), cached=True)

        @m.cpu(0)
        async def mover(cpu: Cpu) -> None:
            async with cpu.hypercall("memory_op"):
                await cpu.write(iommu_dont_flush_iotlb, ends != "one after the other")
                await m.hypervisor.unmap(cpu, domain, G)
                if ends != "unmapped":
                    await m.hypervisor.map(cpu, domain, H if ends == "mapped elsewhere" else G, new)
                await cpu.write(iommu_dont_flush_iotlb, False)
                await m.hypervisor.flush_all(cpu, domain)

    assert list(causes(program, refused=refused)) == [gap(G)] * (refused and ends == "mapped again")


@pytest.mark.parametrize("is_put_back", [True, False])
def test_an_unmap_that_fails_and_puts_back_what_it_has_cleared_leaves_a_gap(is_put_back: bool) -> None:
    async def unmap(cpu: Cpu, domain: Domain, dfn: Dfn, page_order: int) -> int:
        await domain.ops.unmap_page(cpu, domain, dfn)
        if is_put_back:
            await domain.ops.map_page(cpu, domain, dfn, domain.p2m[dfn], READ_WRITE)
        await domain.ops.iotlb_flush_all(cpu, domain)
        return ENOMEM

    def program(m: Machine) -> None:
        domain = m.domain(1, devices=(NIC,))
        m.premap(domain, G, m.allocate(), cached=True)
        replace_calls(m, unmap=unmap)

        @m.cpu(0)
        async def unmapper(cpu: Cpu) -> None:
            await m.hypervisor.unmap(cpu, domain, G)

    assert list(causes(program, refused=True)) == [gap(G, "unmap")] * is_put_back


@pytest.mark.parametrize("revision", ["implicit", "v1", "merged", "flush_on_error"])
def test_no_revision_of_xen_clears_what_it_replaces(revision: str) -> None:
    def program(m: Machine) -> None:
        domain, new = m.domain(1, devices=(NIC,)), m.allocate(page_order=1)
        m.premap(domain, G, m.allocate(page_order=1), page_order=1, cached=True)

        @m.cpu(0)
        async def mapper(cpu: Cpu) -> None:
            assert await m.hypervisor.map(cpu, domain, G, new, page_order=1) == OK

    built = scenario(expect=CLEAN, sequential=True)(program)
    assert explored(built, f"levels=3 refuse_gaps=true revision={revision}").causes == {}
