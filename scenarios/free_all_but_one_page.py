"""One page of a range needs no change: the other page must be flushed all the same."""

from enum import Enum
from typing import Annotated

from emu import OK, Bounds, Cpu, Dfn, Machine, Mfn, offset, scenario

G = Dfn(0x1000)


class Change(Enum):
    """The change of the range."""

    UNMAP = "unmap"
    REPLACE = "replace"


@scenario(
    verdicts="""
    hook_faults>0           | no claim: v1 loses the error of a hook (D1, D2)
    iommu=amd wait_faults>0 | no claim: a wait that is given up passes for completed (B55)
    change=replace kept=0   | clean
    change=replace          | clean
    kept=0                  | clean
    -                       | clean
    """,
    sequential=True,
)
def free_all_but_one_page(m: Machine, *, change: Change = Change.UNMAP, kept: Annotated[int, Bounds(0, 1)] = 1) -> None:
    """A CPU changes two pages, one of which needs no change, and frees the frame of the other.

    change: it unmaps the pages, or maps them to new frames.
    kept: the page that needs no change: nothing is mapped there, or its new frame is already.
    """
    domain = m.domain(1, devices=("00:1f.0",))
    old, new = m.allocate(domain=domain), m.allocate(page_order=1)
    m.premap(domain, offset(G, 1 - kept), old, cached=True)
    if change is Change.REPLACE:
        m.premap(domain, offset(G, kept), Mfn(new + kept), cached=True)

    @m.cpu(0)
    async def owner(cpu: Cpu) -> None:
        async with cpu.hypercall("memory_op"):
            if change is Change.UNMAP:
                result = await m.hypervisor.unmap(cpu, domain, G, page_order=1)
            else:
                result = await m.hypervisor.map(cpu, domain, G, new, page_order=1)
            if result == OK:
                await m.pages.put(cpu, old)
