"""An unmap of a range fails: it must flush the pages that it cleared, for a second try finds nothing to do there."""

from emu import OK, Cpu, Dfn, Machine, Mfn, offset, scenario

G = Dfn(0x1000)


@scenario(
    verdicts="""
    # With v1 the caller learns of no failure: it does not try again, and frees a frame that is still mapped.
    parameters    | implicit | v1                  | merged | flush_on_error
    wait_faults>0 | no claim: a flush that is given up is not made again (B55, D19)
    -             | clean    | released,lost-error | clean  | clean
    """,
    sequential=True,
)
def unmap_again_page_by_page(m: Machine) -> None:
    """A CPU unmaps two pages, goes on page by page if one of them fails, and frees their frames."""
    domain = m.domain(1, devices=("00:1f.0",))
    frames = m.allocate(page_order=1, domain=domain)
    m.premap(domain, G, frames, page_order=1, cached=True)
    m.allow_faults(hooks=1)

    @m.cpu(0)
    async def remover(cpu: Cpu) -> None:
        async with cpu.hypercall("decrease_reservation"):
            results = [await m.hypervisor.unmap(cpu, domain, G, page_order=1)]
            if results != [OK]:
                results = [await m.hypervisor.unmap(cpu, domain, offset(G, page)) for page in range(2)]
            if not any(results):
                for page in range(2):
                    await m.pages.put(cpu, Mfn(frames + page))
