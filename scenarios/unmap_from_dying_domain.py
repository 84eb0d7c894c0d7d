"""B41: a CPU frees the page tables of a dying domain while another CPU is about to clear an entry in them."""

from emu import Cpu, Dfn, Fix, Machine, scenario

G = Dfn(0x1000)


@scenario(
    verdicts="""
    # No wrapper knows of dying domains.
    hook_faults>0 | no claim: v1 loses the error of a hook (D1, D2)
    repaired=true | clean
    -             | freed-table
    """
)
def unmap_from_dying_domain(m: Machine, *, repaired: bool = False) -> None:
    """CPU 0 destroys a domain whose devices are gone; CPU 1 unmaps a page of it.

    repaired: an unmap checks under the mapping_lock whether the domain is dying, and the CPU that frees the tables
    waits for the lock (1ef48c82e7).
    """
    if repaired:
        m.driver.fixes.add(Fix.DYING)
    domain = m.domain(1)
    m.premap(domain, G, m.allocate())

    @m.cpu(0)
    async def destroyer(cpu: Cpu) -> None:
        async with cpu.hypercall("domctl"):
            await m.tables.free_all(cpu, domain)

    @m.cpu(1)
    async def unmapper(cpu: Cpu) -> None:
        async with cpu.hypercall("remove_from_physmap"):
            await m.hypervisor.unmap(cpu, domain, G)
