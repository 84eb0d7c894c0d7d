"""R1: two CPUs, one page, and a flush that is still to come."""

from typing import Annotated

from emu import Bounds, Cpu, Device, Dfn, Machine, OuterLock, PageOrder, scenario

G = Dfn(0x1000)


@scenario(
    verdicts="""
    # Clean where the mapper cannot come before the flush, or flushes the domain itself.
    parameters                       | implicit | v1    | merged | flush_on_error
    caching_mode=true                | no claim: the flush of a page that was not present names domain id 0
    hook_faults>0                    | no claim: v1 loses the error of a hook (D1, D2)
    wait_faults>0                    | no claim: a flush that is given up is not made again (B55, D19)
    np_cache=true                    | stale-fault,stale  # no flush for a page that was not present
    repaired=true                    | clean
    outer_lock=per-call,across-flush | clean
    iommu=amd order>0                | stale  # nor for more than one
    order>0                          | stale    | clean | clean  | clean
    dma>0                            | stale:observed
    -                                | stale
    """
)
def remap_before_flush(
    m: Machine,
    *,
    order: PageOrder = 0,
    outer_lock: OuterLock = OuterLock.NONE,
    dma: Annotated[int, Bounds(0, 100)] = 0,
    repaired: bool = False,
) -> None:
    """CPU 1 maps a page whose old entry CPU 0 has cleared but not yet flushed, and is told that no flush is needed.

    dma: how many times a device of the domain reads the page meanwhile.
    repaired: CPU 1 waits until CPU 0's unmap has returned.
    """
    domain = m.domain(1, devices=("00:1f.0",))
    old, new = m.allocate(page_order=order), m.allocate(page_order=order)
    m.premap(domain, G, old, page_order=order, cached=True)
    unmapped = m.signal("unmapped")

    @m.cpu(0)
    async def unmapper(cpu: Cpu) -> None:
        async with cpu.hypercall("remove_from_physmap"), domain.outer_lock(cpu, outer_lock):
            await m.hypervisor.unmap(cpu, domain, G, page_order=order)
        if repaired:
            await unmapped.send()

    @m.cpu(1)
    async def mapper(cpu: Cpu) -> None:
        if repaired:
            await unmapped.wait()
        async with cpu.hypercall("add_to_physmap"), domain.outer_lock(cpu, outer_lock):
            await m.hypervisor.map(cpu, domain, G, new, page_order=order)

    if dma:

        @m.device("00:1f.0")
        async def reader(device: Device) -> None:
            for _ in range(dma):
                await device.read(G)
