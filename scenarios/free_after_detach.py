"""B12: a device cannot be detached from a domain, and the domain's frames and page tables are freed all the same.

`-p coherent=false` shows a detach that does not write the context entry back.
"""

from emu import OK, Cpu, Dfn, Machine, scenario

G = Dfn(0x1000)


@scenario(
    verdicts="""
    # No wrapper deals with context entries.
    iommu=amd                    | released,stale,not-isolated  # a detach that gives up waiting reports success
    repaired=true coherent=false | clean
    repaired=true                | clean
    -                            | released
    """,
    sequential=True,
    small={"repaired": "true"},
)
def free_after_detach(m: Machine, *, repaired: bool = False) -> None:
    """A toolstack destroys a domain: it detaches the device, may give up waiting once, and frees frame and tables.

    repaired: it stops if the device could not be detached (f591755823).
    """
    domain = m.domain(1, devices=("00:1f.0",))
    frame = m.allocate(domain=domain)
    m.premap(domain, G, frame, cached=True)
    m.allow_faults(waits=1)

    @m.cpu(0)
    async def toolstack(cpu: Cpu) -> None:
        async with cpu.hypercall("domctl"):
            result = await m.assignment.detach(cpu, domain, m.devices["00:1f.0"])
            if result == OK or not repaired:
                await m.pages.put(cpu, frame)
                await m.tables.free_all(cpu, domain)
