"""B41: a CPU frees the page tables of a dying domain while another CPU is about to map a page in them."""

from emu import Cpu, Dfn, Fix, Machine, Mfn, PageOrder, offset, page_count, scenario

G = Dfn(0x1000)


@scenario(
    verdicts="""
    # No wrapper knows of dying domains.
    hook_faults>0         | no claim: v1 loses the error of a hook (D1, D2)
    order=1 repaired=true | clean
    repaired=true         | clean
    order=1               | freed-table
    -                     | freed-table
    """
)
def map_into_dying_domain(m: Machine, *, repaired: bool = False, order: PageOrder = 0) -> None:
    """CPU 0 destroys a domain whose devices are gone; CPU 1 maps one more page of it.

    repaired: a map checks under the mapping_lock whether the domain is dying, and the CPU that frees the tables waits
    for the lock (1ef48c82e7).
    order: of the range that CPU 1 maps; all its pages but the last are mapped already, to the same frames.
    """
    if repaired:
        m.driver.fixes.add(Fix.DYING)
    domain = m.domain(1)
    m.premap(domain, G, m.allocate())
    first, new = offset(G, page_count(order)), m.allocate(page_order=order)
    for page in range(page_count(order) - 1):
        m.premap(domain, offset(first, page), Mfn(new + page))

    @m.cpu(0)
    async def destroyer(cpu: Cpu) -> None:
        async with cpu.hypercall("domctl"):
            await m.tables.free_all(cpu, domain)

    @m.cpu(1)
    async def mapper(cpu: Cpu) -> None:
        async with cpu.hypercall("add_to_physmap"):
            await m.hypervisor.map(cpu, domain, first, new, page_order=order)
