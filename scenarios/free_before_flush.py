"""B33 on VT-d: a frame is freed between the change of its entry and the flush."""

from emu import OK, Cpu, Dfn, Machine, iommu_dont_flush_iotlb, scenario

G = Dfn(0x1000)


@scenario(
    verdicts="""
    parameters              | implicit | v1    | merged   | flush_on_error
    hook_faults>0           | no claim: v1 loses the error of a hook (D1, D2)
    iommu=amd wait_faults>0 | no claim: a wait that is given up passes for completed (B55)
    repaired=true           | clean
    iommu=amd               | clean    | clean | released | released  # hooks of implicit ignore the flag
    -                       | released | clean | released | released  # an unmap of v1 flushes in spite of the flag
    """
)
def free_before_flush(m: Machine, *, repaired: bool = False) -> None:
    """A CPU unmaps a page, frees its frame and flushes; another CPU allocates a frame for another domain meanwhile.

    repaired: the frame is freed after the flush.
    """
    domain, other = m.domain(1, devices=("00:1f.0",)), m.domain(2)
    frame = m.allocate(domain=domain)
    m.premap(domain, G, frame, cached=True)

    @m.cpu(0)
    async def owner(cpu: Cpu) -> None:
        async with cpu.hypercall("memory_op"):
            await cpu.write(iommu_dont_flush_iotlb, True)
            result = await m.hypervisor.unmap(cpu, domain, G)
            await cpu.write(iommu_dont_flush_iotlb, False)
            if result == OK and not repaired:
                await m.pages.put(cpu, frame)
            flushed = await m.hypervisor.flush(cpu, domain, G, pages=1)
            if result == flushed == OK and repaired:
                await m.pages.put(cpu, frame)

    @m.cpu(1)
    async def allocator(cpu: Cpu) -> None:
        async with cpu.hypercall("populate_physmap"):
            await m.pages.allocate(cpu, other)
