"""B08: a map that fails halfway leaves a replaced entry cached, and a caller that stops at an error flushes nothing."""

from enum import Enum

from emu import ENOMEM, OK, Cpu, Dfn, Machine, iommu_dont_flush_iotlb, offset, scenario

G = Dfn(0x1000)


class Freed(Enum):
    """The frame that is freed."""

    OLD = "old"  # the frame of the first page before the map
    NEW = "new"  # the frame that the map entered there, and took back


@scenario(
    verdicts="""
    # v1 flushes the domain on every error, whatever the flag says; so does the code since 0229adb138. Without that
    # flush, the entry that the map itself has made and taken back is owed, too.
    parameters    | implicit      | v1    | merged        | flush_on_error
    hook_faults>0 | no claim: what a failed hook leaves behind stays (B08, D1, D2, D20)
    wait_faults>0 | no claim: a flush that is given up is not made again (B55, D19)
    iommu=amd     | clean         | clean | released,owed | clean  # hooks of implicit ignore the flag
    freed=new     | released,owed | clean | released,owed | clean
    -             | released,owed | clean | released,owed | clean
    """,
    sequential=True,
)
def failed_map_leaves_entries(m: Machine, *, freed: Freed = Freed.OLD) -> None:
    """A batch replaces two pages, fails on the second, stops there, and frees the old frame of the first.

    freed: the frame that it frees: the old or the new frame of the first page.
    """
    domain = m.domain(1, devices=("00:1f.0",))
    old, new = m.allocate(domain=domain), m.allocate(page_order=1, domain=domain if freed is Freed.NEW else None)
    m.premap(domain, G, old, cached=True)
    m.fail_hook("map_page", offset(G, 1), ENOMEM)

    @m.cpu(0)
    async def batch(cpu: Cpu) -> None:
        async with cpu.hypercall("add_to_physmap"):
            await cpu.write(iommu_dont_flush_iotlb, True)
            result = await m.hypervisor.map(cpu, domain, G, new, page_order=1)
            await cpu.write(iommu_dont_flush_iotlb, False)
            if result == OK:
                await m.hypervisor.flush(cpu, domain, G, pages=2)
            else:
                await m.pages.put(cpu, old if freed is Freed.OLD else new)
