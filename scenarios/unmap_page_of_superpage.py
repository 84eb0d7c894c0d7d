"""B38: a superpage is split by an empty table that is filled afterwards, and its other pages fault meanwhile."""

from emu import Cpu, Dfn, Fix, Machine, scenario

G = Dfn(0x200)


@scenario(
    verdicts="""
    # Only refuse_gaps=true calls a page that is unmapped for a while a finding.
    hook_faults>0                                   | no claim: v1 loses the error of a hook (D1, D2)
    allocation_faults>0                             | no claim: v1 loses the error of an unmap (D1)
    superpage_bits=1 refuse_gaps=true repaired=true | clean
    superpage_bits=1 refuse_gaps=true               | gap
    superpage_bits=1                                | clean
    -                                               | no claim: a superpage of 512 pages takes a thousand steps
    """,
    sequential=True,
    small={"superpage_bits": "1", "levels": "3"},
    only={"amd": "VT-d's driver of these years knows no superpages"},
)
def unmap_page_of_superpage(m: Machine, *, repaired: bool = False) -> None:
    """A CPU unmaps one page of a superpage, which is split for that.

    repaired: the table is filled before it takes the place of the superpage (2a758376f9).
    """
    if repaired:
        m.driver.fixes.add(Fix.FILL_FIRST)
    domain = m.domain(1, devices=("00:1f.0",))
    order = domain.format.leaf_orders[1]
    m.premap(domain, G, m.allocate(page_order=order), page_order=order, superpage=True, cached=True)

    @m.cpu(0)
    async def unmapper(cpu: Cpu) -> None:
        async with cpu.hypercall("remove_from_physmap"):
            await m.hypervisor.unmap(cpu, domain, G)
