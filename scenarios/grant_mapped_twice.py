"""A grant ends with the last of its mappings, not with the first: the frame is out of reach only then."""

from typing import Annotated

from emu import Bounds, Cpu, Dfn, Machine, offset, scenario

G = Dfn(0x1000)
H = offset(G, 1)


@scenario(
    verdicts="""
    # The wrappers do not know who owns a frame.
    hook_faults>0              | no claim: v1 loses the error of a hook (D1, D2)
    wait_faults>0              | no claim: a flush that is given up is not made again (B55, D19)
    release=true repaired=true | clean
    repaired=true              | clean
    release=true units=2       | released
    release=true               | released
    units=2                    | not-isolated
    -                          | not-isolated
    """,
    sequential=True,
)
def grant_mapped_twice(
    m: Machine, *, repaired: bool = False, release: bool = False, units: Annotated[int, Bounds(1, 2)] = 1
) -> None:
    """A backend has mapped one granted frame at two pages; the grant ends when the first page is unmapped.

    repaired: the grant ends when both pages are unmapped.
    release: the frontend frees the frame as soon as the grant has ended.
    units: with 2, the device of the backend stands behind the second unit.
    """
    if units == 2:
        m.scope(1, "00:1f.0")
    frontend, backend = m.domain(1), m.domain(2, devices=("00:1f.0",))
    frame = m.allocate(domain=frontend)
    m.let_map(frame, backend)
    for dfn in (G, H):
        m.premap(backend, dfn, frame, cached=True)

    async def end_grant(cpu: Cpu) -> None:
        await m.pages.withdraw(cpu, frame, backend)
        if release:
            await m.pages.put(cpu, frame)

    @m.cpu(0)
    async def unmapper(cpu: Cpu) -> None:
        async with cpu.hypercall("grant_table_op"):
            await m.hypervisor.unmap(cpu, backend, G)
            if not repaired:
                await end_grant(cpu)
            await m.hypervisor.unmap(cpu, backend, H)
            if repaired:
                await end_grant(cpu)
