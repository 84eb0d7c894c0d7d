"""Contention: the log of CPUs that wait for one lock."""

from emu import Cpu, Dfn, Machine, Mfn, PageOrder, offset, page_count, scenario

G = Dfn(0x1000)


@scenario(
    verdicts="""
    caching_mode=true   | no claim: the flush of a page that was not present names domain id 0
    hook_faults>0       | no claim: v1 loses the error of a hook (D1, D2)
    allocation_faults>0 | no claim: v1 loses the error of a map (D2)
    np_cache=true       | stale-fault  # no flush for a page that was not present
    -                   | clean
    """
)
def two_wait_for_mapping_lock(m: Machine, *, order: PageOrder = 0) -> None:
    """Three CPUs map neighbouring pages of one domain: one holds its mapping_lock, and two wait for it."""
    domain = m.domain(1, devices=("00:1f.0",))
    size = page_count(order)

    async def mapper(cpu: Cpu, dfn: Dfn, mfn: Mfn) -> None:
        async with cpu.hypercall("add_to_physmap"):
            await m.hypervisor.map(cpu, domain, dfn, mfn, page_order=order)

    for number in range(3):
        m.cpu(number).runs(mapper, offset(G, number * size), m.allocate(page_order=order))
