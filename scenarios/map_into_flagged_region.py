"""A CPU changes a page while iommu_dont_flush_iotlb is set, and another CPU maps the page before the flush."""

from enum import Enum

from emu import Cpu, Dfn, Machine, OuterLock, iommu_dont_flush_iotlb, scenario

G = Dfn(0x1000)


class Change(Enum):
    """The change of the page in the flagged region."""

    UNMAP = "unmap"
    REPLACE = "replace"


@scenario(
    verdicts="""
    # A lock across the flush helps; v1's unmap ignores the flag, so it flushes under the lock of the call.
    # On AMD-Vi a map or an unmap of implicit has flushed whatever the flag says, and a map under the mapping_lock.
    parameters                                   | implicit | v1    | merged | flush_on_error
    caching_mode=true                            | no claim: the flush of a page that was not present names domain id 0
    hook_faults>0                                | no claim: v1 loses the error of a hook (D1, D2)
    wait_faults>0                                | no claim: a flush that is given up is not made again (B55, D19)
    np_cache=true change=unmap                   | stale-fault,stale  # no flush for a page that was not present
    change=unmap,replace outer_lock=across-flush | clean
    change=unmap outer_lock=none                 | stale
    iommu=amd change=replace                     | clean    | stale | stale  | stale
    change=replace                               | stale
    iommu=amd                                    | clean    | clean | stale  | stale
    -                                            | stale    | clean | stale  | stale
    """
)
def map_into_flagged_region(
    m: Machine, *, change: Change = Change.UNMAP, outer_lock: OuterLock = OuterLock.PER_CALL
) -> None:
    """CPU 0 changes a page and puts the flush off to the end of a region; CPU 1 maps the page before that flush.

    change: CPU 0's change of the page; if it replaces the page, CPU 1 maps the same new frame.
    outer_lock: a per-call lock is dropped before the flush of the region.
    """
    domain = m.domain(1, devices=("00:1f.0",))
    old, new = m.allocate(), m.allocate()
    m.premap(domain, G, old, cached=True)
    whole = outer_lock if outer_lock is OuterLock.ACROSS_FLUSH else OuterLock.NONE
    each = outer_lock if outer_lock is OuterLock.PER_CALL else OuterLock.NONE

    @m.cpu(0)
    async def region(cpu: Cpu) -> None:
        async with cpu.hypercall("add_to_physmap_range"), domain.outer_lock(cpu, whole):
            await cpu.write(iommu_dont_flush_iotlb, True)
            async with domain.outer_lock(cpu, each):
                if change is Change.UNMAP:
                    await m.hypervisor.unmap(cpu, domain, G)
                else:
                    await m.hypervisor.map(cpu, domain, G, new)
            await cpu.write(iommu_dont_flush_iotlb, False)
            await m.hypervisor.flush(cpu, domain, G, pages=1)

    @m.cpu(1)
    async def mapper(cpu: Cpu) -> None:
        async with cpu.hypercall("add_to_physmap"), domain.outer_lock(cpu, outer_lock):
            await m.hypervisor.map(cpu, domain, G, new)
