"""B37: page tables that an unmap has emptied are freed by a softirq, which must not run before the caller's flush."""

from emu import Cpu, Dfn, Machine, iommu_dont_flush_iotlb, scenario

G = Dfn(0x1000)


@scenario(
    verdicts="""
    # An unmap that flushes does so before the table is taken out, which is too early.
    hook_faults>0 | no claim: v1 loses the error of a hook (D1, D2)
    wait_faults>0 | no claim: a flush that is given up is not made again (B55, D19)
    iommu=amd     | released  # a flush of one page leaves cached entries of the tables above
    repaired=true | clean
    -             | released
    """,
    sequential=True,
)
def table_freed_before_flush(m: Machine, *, repaired: bool = False) -> None:
    """A batch unmaps the last page of a table, processes softirqs, which free the table, and then flushes.

    repaired: softirqs are left for the end of the hypercall, after the flush.
    """
    domain = m.domain(1, devices=("00:1f.0",))
    m.premap(domain, G, m.allocate(), cached=True)

    @m.cpu(0)
    async def batch(cpu: Cpu) -> None:
        async with cpu.hypercall("decrease_reservation"):
            await cpu.write(iommu_dont_flush_iotlb, True)
            await m.hypervisor.unmap(cpu, domain, G)
            await m.tables.take_out(cpu, domain, G)
            await cpu.write(iommu_dont_flush_iotlb, False)
            if not repaired:
                await cpu.process_pending_softirqs()
            await m.hypervisor.flush(cpu, domain, G, pages=1)
