"""R6, XSA-347 (B47) on AMD-Vi: an entry is stored in two halves, and a walk between the stores finds a third one."""

from enum import Enum
from typing import Annotated

from emu import Bounds, Cpu, Device, Dfn, Fix, Machine, Mfn, offset, scenario

G = Dfn(0x1000)
OLD, NEW = Mfn(0x80001), Mfn(0x300002)
"""Frames below and above 4 GiB: the high half of NEW and the low half of OLD lead to frame 0x380001."""


class Change(Enum):
    """The change of the page."""

    REPLACE = "replace"
    MAP = "map"
    UNMAP = "unmap"


@scenario(
    verdicts="""
    hook_faults>0            | no claim: v1 loses the error of a hook (D1, D2)
    wait_faults>0            | no claim: a wait that is given up passes for completed (B55)
    pages=2 np_cache=true    | no claim: the page that was not present is flushed with the other, or not at all
    change=map np_cache=true | stale-fault  # no flush for a page that was not present
    change=map               | clean  # the half with the present bit is stored last
    change=unmap             | clean  # an entry is cleared in one store
    pages=2 repaired=true    | clean
    repaired=true            | clean
    pages=2                  | torn-entry
    -                        | torn-entry
    """,
    only={"amd": "the driver for VT-d stores an entry in one step"},
)
def entry_replaced_in_halves(
    m: Machine,
    *,
    repaired: bool = False,
    change: Change = Change.REPLACE,
    pages: Annotated[int, Bounds(1, 2)] = 1,
) -> None:
    """A CPU changes a page that a device reads; the old frame and the new one differ in both halves of the address.

    repaired: an entry is stored in one step (3b055121c5).
    change: what the CPU does: map the page to another frame, map it for the first time, or unmap it.
    pages: how many the CPU changes; of two the first is not mapped before.
    """
    if repaired:
        m.driver.fixes.add(Fix.XSA_347)
    domain = m.domain(1, devices=("00:1f.0",))
    old, new, last = m.allocate(at=OLD), m.allocate(page_order=pages - 1, at=NEW), offset(G, pages - 1)
    if change is not Change.MAP:
        m.premap(domain, last, old)

    @m.cpu(0)
    async def changer(cpu: Cpu) -> None:
        async with cpu.hypercall("memory_op"):
            if change is Change.UNMAP:
                await m.hypervisor.unmap(cpu, domain, G, page_order=pages - 1)
            else:
                await m.hypervisor.map(cpu, domain, G, new, page_order=pages - 1)

    @m.device("00:1f.0")
    async def reader(device: Device) -> None:
        await device.read(last)
