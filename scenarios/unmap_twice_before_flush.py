"""R2: the second of two CPUs that unmap a page finds nothing to do, and returns before the first has flushed."""

from emu import Cpu, Dfn, Machine, OuterLock, PageOrder, ScenarioError, offset, page_count, scenario

G = Dfn(0x1000)


@scenario(
    verdicts="""
    # An unmap of v1 flushes whatever it finds; a walk that does not snoop may undo even that (D21).
    parameters                            | implicit | v1    | merged | flush_on_error
    hook_faults>0                         | no claim: v1 loses the error of a hook (D1, D2)
    iommu=amd wait_faults>0               | no claim: a wait that is given up passes for completed (B55)
    order=1 hole=true outer_lock=per-call | clean
    outer_lock=per-call,across-flush      | clean
    order=1 hole=true coherent=false      | stale
    coherent=false                        | stale
    iommu=amd                             | clean    | clean | stale  | stale  # implicit flushes whatever it finds, too
    order=1 hole=true                     | stale    | clean | stale  | stale
    -                                     | stale    | clean | stale  | stale
    """
)
def unmap_twice_before_flush(
    m: Machine, *, order: PageOrder = 0, outer_lock: OuterLock = OuterLock.NONE, hole: bool = False
) -> None:
    """Two CPUs unmap one page: one clears its entry, the other finds it cleared and returns before the flush.

    hole: only the last page of the range is mapped.

    Raises:
        ScenarioError: if the range with a hole has one page only.
    """
    if hole and not order:
        raise ScenarioError("a range of one page has no hole before its last page: set order to 1 or more")
    domain = m.domain(1, devices=("00:1f.0",))
    if hole:
        m.premap(domain, offset(G, page_count(order) - 1), m.allocate(), cached=True)
    else:
        m.premap(domain, G, m.allocate(page_order=order), page_order=order, cached=True)

    async def unmapper(cpu: Cpu) -> None:
        async with cpu.hypercall("remove_from_physmap"), domain.outer_lock(cpu, outer_lock):
            await m.hypervisor.unmap(cpu, domain, G, page_order=order)

    for number in range(2):
        m.cpu(number).runs(unmapper)
