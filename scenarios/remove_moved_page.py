"""R4, XSA-346 part 2 (B03): a moved page is removed at its new place while its old place still waits for the flush."""

from emu import Cpu, Dfn, Form, Machine, Physmap, offset, scenario

G = Dfn(0x1000)
H = offset(G, 1)


@scenario(
    verdicts="""
    parameters                 | implicit | v1    | merged   | flush_on_error
    hook_faults>0              | no claim: what a failed hook leaves behind stays (B08, D1, D2, D20)
    iommu=amd wait_faults>0    | no claim: a wait that is given up passes for completed (B55)
    form=2020-2 coherent=false | clean
    form=2020-2,2020-3         | clean
    iommu=amd                  | clean    | clean | released | released  # hooks of implicit ignore the flag
    -                          | released | clean | released | released  # an unmap of v1 flushes in spite of the flag
    """
)
def remove_moved_page(m: Machine, *, form: Form = Form.XSA_346_PART_1) -> None:
    """CPU 0 moves a page under the flag; CPU 1 removes it at its new place, flushes there, and frees the frame.

    form: the year of the code; 2020-2 keeps a reference until the old place is flushed.
    """
    domain = m.domain(1, devices=("00:1f.0",))
    physmap = Physmap(m.hypervisor, m.pages, form)
    m.premap(domain, G, m.allocate(domain=domain), cached=True)

    @m.cpu(0)
    async def mover(cpu: Cpu) -> None:
        await physmap.move_pages(cpu, domain, [(G, H)])

    @m.cpu(1)
    async def remover(cpu: Cpu) -> None:
        async with cpu.hypercall("remove_from_physmap"):
            await physmap.remove_page(cpu, domain, H)
