"""XSA-355 (B04): the references to moved pages run over the end of their array by one."""

from typing import Annotated

from emu import Bounds, Cpu, Dfn, Form, Machine, Physmap, offset, scenario

G = Dfn(0x1000)


@scenario(
    verdicts="""
    # Before XSA-346 there was no array.
    hook_faults>0                     | no claim: what a failed hook leaves behind stays (B08, D1, D2, D20)
    wait_faults>0                     | no claim: a flush that is given up is not made again (B55, D19)
    slots=1 form=2020-3               | clean
    form=2011,2013,2017,2020-1,2020-3 | clean
    slots=1                           | overrun
    -                                 | overrun
    """,
    sequential=True,
    small={"slots": "1"},
)
def move_more_than_fit(
    m: Machine, *, form: Form = Form.XSA_346_PART_2, slots: Annotated[int, Bounds(1, 16)] = 16
) -> None:
    """A CPU moves one page more than its array of references has room for.

    form: the year of the code; 2020-3 ends a pass one page earlier.
    slots: the size of the array.
    """
    domain = m.domain(1, devices=("00:1f.0",))
    physmap = Physmap(m.hypervisor, m.pages, form, slots)
    pages = slots + 1
    for page in range(pages):
        m.premap(domain, offset(G, page), m.allocate(domain=domain), cached=True)

    @m.cpu(0)
    async def mover(cpu: Cpu) -> None:
        await physmap.move_pages(cpu, domain, [(offset(G, page), offset(G, pages + page)) for page in range(pages)])
