"""D1 (B07): the result of the flush replaces that of the unmap, and the caller frees a frame that is still mapped."""

from emu import ENOMEM, OK, Cpu, Dfn, Machine, Mfn, offset, scenario

G = Dfn(0x1000)


@scenario(
    verdicts="""
    # Only v1 lets the flush's result replace the error.
    parameters              | implicit | v1                  | merged | flush_on_error
    iommu=amd wait_faults>0 | no claim: a wait that is given up passes for completed (B55)
    -                       | clean    | released,lost-error | clean  | clean
    """,
    sequential=True,
)
def unmap_fails_halfway(m: Machine) -> None:
    """An unmap fails on the second of two pages and says that all went well; the caller frees both frames."""
    domain = m.domain(1, devices=("00:1f.0",))
    frames = m.allocate(page_order=1, domain=domain)
    m.premap(domain, G, frames, page_order=1, cached=True)
    m.fail_hook("unmap_page", offset(G, 1), ENOMEM)

    @m.cpu(0)
    async def remover(cpu: Cpu) -> None:
        async with cpu.hypercall("decrease_reservation"):
            if await m.hypervisor.unmap(cpu, domain, G, page_order=1) == OK:
                for page in range(2):
                    await m.pages.put(cpu, Mfn(frames + page))
