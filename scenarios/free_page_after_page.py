"""A CPU flushes twice: it must not take the status of the first flush for that of the second.

`-p coherent=false` shows an unmap that does not write its entry back, or does so before the store.
"""

from emu import OK, Cpu, Dfn, Machine, Mfn, offset, scenario

G = Dfn(0x1000)


@scenario(
    verdicts="""
    # A missing write-back of an entry, or one before its store, shows with coherent=false only.
    hook_faults>0  | no claim: v1 loses the error of a hook (D1, D2)
    wait_faults>0  | no claim: a flush that is given up is not made again (B55, D19)
    coherent=false | clean
    -              | clean
    """,
    sequential=True,
)
def free_page_after_page(m: Machine) -> None:
    """A CPU unmaps two pages, one after the other, and frees the frame of each as soon as it is unmapped."""
    domain = m.domain(1, devices=("00:1f.0",))
    frames = m.allocate(page_order=1, domain=domain)
    m.premap(domain, G, frames, page_order=1, cached=True)

    @m.cpu(0)
    async def remover(cpu: Cpu) -> None:
        async with cpu.hypercall("decrease_reservation"):
            for page in range(2):
                if await m.hypervisor.unmap(cpu, domain, offset(G, page)) == OK:
                    await m.pages.put(cpu, Mfn(frames + page))
