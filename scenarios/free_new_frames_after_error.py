"""A map fails and is taken back: a caller that frees the new frames needs the flush of the roll-back."""

from emu import CLEAN, ENOMEM, LOST_ERROR, OK, Cpu, Dfn, Expectation, Machine, Mfn, offset, scenario

G = Dfn(0x1000)


def unless_error_is_lost(*, revision: str, **_: object) -> Expectation:
    """With v1 the caller learns of no failure, so that it frees nothing."""
    return LOST_ERROR if revision == "v1" else CLEAN


@scenario(expect=unless_error_is_lost, sequential=True)
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
