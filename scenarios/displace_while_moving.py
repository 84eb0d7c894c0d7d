"""R3, XSA-346 part 1 (B02): a displaced page is freed inside the batch that flushes it at the end."""

from emu import Cpu, Dfn, Form, Machine, Physmap, offset, scenario

G = Dfn(0x1000)
H = offset(G, 1)


@scenario(
    verdicts="""
    parameters                | implicit | v1    | merged   | flush_on_error
    hook_faults>0             | no claim: what a failed hook leaves behind stays (B08, D1, D2, D20)
    wait_faults>0             | no claim: a flush that is given up is not made again (B55, D19)
    form=2020-1,2020-2,2020-3 | clean
    iommu=amd                 | clean    | clean | released | released  # hooks of implicit ignore the flag
    -                         | released | clean | released | released  # an unmap of v1 flushes in spite of the flag
    """
)
def displace_while_moving(m: Machine, *, form: Form = Form.XSA_222) -> None:
    """CPU 0 moves a page to the place of another page; CPU 1 gives the displaced page's frame to another domain.

    form: the year of the code; 2020-1 removes the displaced page with the flag cleared.
    """
    domain, other = m.domain(1, devices=("00:1f.0",)), m.domain(2)
    physmap = Physmap(m.hypervisor, m.pages, form)
    for dfn in (G, H):
        m.premap(domain, dfn, m.allocate(domain=domain), cached=True)

    @m.cpu(0)
    async def mover(cpu: Cpu) -> None:
        await physmap.move_pages(cpu, domain, [(G, H)])

    @m.cpu(1)
    async def allocator(cpu: Cpu) -> None:
        async with cpu.hypercall("populate_physmap"):
            await m.pages.allocate(cpu, other)
