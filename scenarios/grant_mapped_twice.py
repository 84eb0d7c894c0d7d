"""A grant ends with the last of its mappings, not with the first: the frame is out of reach only then."""

from emu import CLEAN, NOT_ISOLATED, Cpu, Dfn, Expectation, Machine, offset, scenario

G = Dfn(0x1000)
H = offset(G, 1)


def unless_repaired(*, repaired: bool, **_: object) -> Expectation:
    """The wrappers do not know who owns a frame."""
    return CLEAN if repaired else NOT_ISOLATED


@scenario(expect=unless_repaired, sequential=True)
def grant_mapped_twice(m: Machine, *, repaired: bool = False) -> None:
    """A backend has mapped one granted frame at two pages; the grant ends when it has unmapped the first of them.

    repaired: the grant ends when it has unmapped both.
    """
    frontend, backend = m.domain(1), m.domain(2, devices=("00:1f.0",))
    frame = m.allocate(domain=frontend)
    m.let_map(frame, backend)
    for dfn in (G, H):
        m.premap(backend, dfn, frame, cached=True)

    @m.cpu(0)
    async def unmapper(cpu: Cpu) -> None:
        async with cpu.hypercall("grant_table_op"):
            await m.hypervisor.unmap(cpu, backend, G)
            if not repaired:
                await m.pages.withdraw(cpu, frame, backend)
            await m.hypervisor.unmap(cpu, backend, H)
            if repaired:
                await m.pages.withdraw(cpu, frame, backend)
