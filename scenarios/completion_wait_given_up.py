"""B55 on AMD-Vi: a CPU looks a thousand times whether its COMPLETION_WAIT has completed, and then goes on as if it had.

All waits set the same bit of a unit's status register, so a wait that completes late ends the wait of the next flush.
"""

from enum import Enum

from emu import OK, Cpu, Dfn, Fix, Machine, Mfn, offset, scenario

G = Dfn(0x1000)


class Early(Enum):
    """The CPU that goes on too early."""

    FIRST = "first"  # the one that has given its wait up
    NEXT = "next"  # the one whose wait is ended by the completion of the other's


@scenario(
    verdicts="""
    # An unmap that returns a success after such a wait has unmapped nothing yet, as far as the device is concerned.
    hook_faults>0            | no claim: v1 loses the error of a hook (D1, D2)
    wait_faults>0            | no claim: a wait that is given up passes for completed (B55)
    early=next repaired=true | clean
    repaired=true            | clean
    early=next               | released,stale
    -                        | released,stale
    """,
    small={"synchronous": "false"},
    only={"amd": "on VT-d a wait that is given up is an error, and each CPU has a status word of its own"},
)
def completion_wait_given_up(m: Machine, *, repaired: bool = False, early: Early = Early.FIRST) -> None:
    """Two CPUs unmap a page each; CPU 0 may give its wait up, and one of them frees the frame of its page.

    repaired: a CPU waits as long as the unit takes (e4fee66043).
    early: the CPU that frees its frame: the one that may give up, or the other.
    """
    if repaired:
        m.driver.fixes.add(Fix.WAIT_FOR_EVER)
    domain = m.domain(1, devices=("00:1f.0",))
    frames = m.allocate(page_order=1, domain=domain)
    m.premap(domain, G, frames, page_order=1, cached=True)
    m.allow_faults(waits=1, cpu=0)

    async def remover(cpu: Cpu, page: int, frees: bool) -> None:
        async with cpu.hypercall("decrease_reservation"):
            if await m.hypervisor.unmap(cpu, domain, offset(G, page)) == OK and frees:
                await m.pages.put(cpu, Mfn(frames + page))

    m.cpu(0).runs(remover, 0, early is Early.FIRST)
    m.cpu(1).runs(remover, 1, early is Early.NEXT)
