"""D5b: a CPU finds the page mapped already as it wants, and returns before the CPU that mapped it has flushed."""

from emu import Cpu, Dfn, Machine, OuterLock, PageOrder, scenario

G = Dfn(0x1000)


@scenario(
    verdicts="""
    # On AMD-Vi a map of implicit flushes under the mapping_lock.
    parameters                       | implicit | v1    | merged | flush_on_error
    hook_faults>0                    | no claim: v1 loses the error of a hook (D1, D2)
    wait_faults>0                    | no claim: a flush that is given up is not made again (B55, D19)
    outer_lock=per-call,across-flush | clean  # the outer lock keeps the second CPU out until the first has flushed
    iommu=amd                        | clean    | stale | stale  | stale
    order=1                          | stale
    -                                | stale
    """
)
def map_same_frame_before_flush(m: Machine, *, order: PageOrder = 0, outer_lock: OuterLock = OuterLock.NONE) -> None:
    """CPU 0 replaces pages; CPU 1 maps the first page to the same new frame and finds nothing to do."""
    domain = m.domain(1, devices=("00:1f.0",))
    old, new = m.allocate(page_order=order), m.allocate(page_order=order)
    m.premap(domain, G, old, page_order=order, cached=True)

    async def mapper(cpu: Cpu, page_order: int) -> None:
        async with cpu.hypercall("add_to_physmap"), domain.outer_lock(cpu, outer_lock):
            await m.hypervisor.map(cpu, domain, G, new, page_order=page_order)

    m.cpu(0).runs(mapper, order)
    m.cpu(1).runs(mapper, 0)
