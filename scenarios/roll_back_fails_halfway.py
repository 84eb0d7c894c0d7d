"""D19, D20: the wrappers ignore an error of the roll-back, which leaves a page of a failed map mapped."""

from emu import ENOMEM, Cpu, Dfn, Machine, offset, scenario

G = Dfn(0x1000)


@scenario(
    verdicts="""
    # Only v1 lets the flush's result replace the error of the map, so the caller learns of no failure at all.
    parameters        | implicit                    | v1         | merged          | flush_on_error
    caching_mode=true | no claim: the flush of a page that was not present names domain id 0
    wait_faults>0     | no claim: a flush that is given up is not made again (B55, D19)
    np_cache=true     | not-rolled-back,stale-fault | lost-error | not-rolled-back | not-rolled-back
    -                 | not-rolled-back             | lost-error | not-rolled-back | not-rolled-back
    """,
    sequential=True,
)
def roll_back_fails_halfway(m: Machine) -> None:
    """A map of four pages fails on the third; its roll-back cannot unmap the second, which stays mapped."""
    domain = m.domain(0, devices=("00:1f.0",))
    frames = m.allocate(page_order=2)
    m.fail_hook("map_page", offset(G, 2), ENOMEM)
    m.fail_hook("unmap_page", offset(G, 1), ENOMEM)

    @m.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        async with cpu.hypercall("add_to_physmap"):
            await m.hypervisor.map(cpu, domain, G, frames, page_order=2)
