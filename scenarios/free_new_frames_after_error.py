"""A map fails and is rolled back: a caller that frees the new frames needs the flush of the roll-back."""

from emu import ENOMEM, OK, Cpu, Dfn, Machine, Mfn, offset, scenario

G = Dfn(0x1000)


@scenario(
    verdicts="""
    # With v1 the caller learns of no failure, so it frees nothing.
    parameters    | implicit | v1         | merged | flush_on_error
    hook_faults>0 | no claim: what a failed hook leaves behind stays (B08, D1, D2, D20)
    wait_faults>0 | no claim: a flush that is given up is not made again (B55, D19)
    extend=true   | clean    | lost-error | clean  | clean
    -             | clean    | lost-error | clean  | clean
    """,
    sequential=True,
)
def free_new_frames_after_error(m: Machine, *, extend: bool = False) -> None:
    """A CPU maps two new frames, fails on the second, and frees both.

    extend: the first page is mapped already, to its new frame; the roll-back unmaps it.
    """
    domain = m.domain(1, devices=("00:1f.0",))
    frames = m.allocate(page_order=1, domain=domain)
    m.fail_hook("map_page", offset(G, 1), ENOMEM)
    if extend:
        m.premap(domain, G, frames, cached=True)

    @m.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        async with cpu.hypercall("populate_physmap"):
            if await m.hypervisor.map(cpu, domain, G, frames, page_order=1) != OK:
                for page in range(2):
                    await m.pages.put(cpu, Mfn(frames + page))
