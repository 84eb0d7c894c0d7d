"""D14: arch_iommu_populate_page_table is cut into passes, and only the last one flushes."""

from enum import Enum

from emu import ERESTART, OK, Boot, Cpu, Dfn, Machine, PageType, offset, scenario

G = Dfn(0x1000)


class Change(Enum):
    """What the first pass does to the page that is used between the passes."""

    ADD = "add"  # it was not mapped
    REPLACE = "replace"  # it was mapped to another frame


@scenario(
    verdicts="""
    parameters               | implicit | v1             | merged         | flush_on_error
    hook_faults>0            | no claim: the toolstack gives up, and what it does then is not modelled
    wait_faults>0            | no claim: a flush that is given up is not made again (B55, D19)
    iommu=amd change=replace | clean    | stale,released | stale,released | stale,released  # implicit flushes each page
    change=replace           | stale,released
    caching_mode=true        | stale-fault
    np_cache=true            | stale-fault
    -                        | clean
    """,
    sequential=True,
    needs=("arch_iommu_populate_page_table",),
)
def map_between_populate_passes(m: Machine, *, change: Change = Change.ADD) -> None:
    """The guest gets its first device, and runs on: between two passes it maps a page that the first pass has mapped.

    change: what the first pass does to the page; the frame that it replaces is freed between the passes.
    """
    domain = m.domain(1, devices=("00:1f.0",))
    domain.boot = Boot(preempt_interval=1)
    frames = [m.allocate(domain=domain) for _ in range(2)]
    for number, frame in enumerate(frames):
        domain.page_list.enter(frame, offset(G, number), PageType.WRITABLE)
    old = m.allocate(domain=domain)
    if change is Change.REPLACE:
        m.premap(domain, G, old, cached=True)

    @m.cpu(0)
    async def toolstack(cpu: Cpu) -> None:
        result = ERESTART
        while result == ERESTART:
            async with cpu.hypercall("assign_device"):
                result = await m.hypervisor.populate(cpu, domain)
                if result == ERESTART:
                    cpu.create_continuation()
            if result == ERESTART:
                async with cpu.hypercall("physmap_add"):
                    found = await m.hypervisor.map(cpu, domain, G, frames[0])
                if change is Change.REPLACE and found == OK:
                    await m.pages.put(cpu, old)
