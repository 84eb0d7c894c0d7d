"""D18: the number of pages of a flush is an unsigned int, and 2^32 pages are none."""

from emu import Cpu, Dfn, Machine, iommu_dont_flush_iotlb, scenario

G = Dfn(0x1000)


@scenario(
    verdicts="""
    # Without a filter for a count of 0 the hook flushes everything; merged takes it for nothing to flush.
    parameters    | implicit | v1    | merged     | flush_on_error
    wait_faults>0 | no claim: a flush that is given up is not made again (B55, D19)
    hook_faults>0 | no claim: what a failed hook leaves behind stays (B08, D1, D2, D20)
    large=false   | clean
    iommu=amd     | clean    | clean | stale,owed | stale,owed
    -             | clean    | clean | stale,owed | stale,owed
    """,
    sequential=True,
)
def flush_count_overflows(m: Machine, *, large: bool = True) -> None:
    """A CPU unmaps a page, puts the flush off, and then flushes the 2^32 pages of which the page is one.

    large: else it flushes the page alone.
    """
    domain = m.domain(1, devices=("00:1f.0",))
    m.premap(domain, G, m.allocate(), cached=True)

    @m.cpu(0)
    async def unmapper(cpu: Cpu) -> None:
        async with cpu.hypercall("batch"):
            await cpu.write(iommu_dont_flush_iotlb, True)
            await m.hypervisor.unmap(cpu, domain, G)
            await cpu.write(iommu_dont_flush_iotlb, False)
            await m.hypervisor.flush(cpu, domain, Dfn(0) if large else G, pages=1 << 32 if large else 1)
