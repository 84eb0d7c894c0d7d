"""B14, XSA-78: an unmap tells the flush that its entry was not present, so the flush submits no invalidation."""

from emu import Cpu, Dfn, Fix, Machine, scenario

G = Dfn(0x1000)


@scenario(
    verdicts="""
    # In caching mode the flush submits an invalidation in any case, though under domain id 0.
    hook_faults>0 | no claim: v1 loses the error of a hook (D1, D2)
    repaired=true | clean
    -             | stale
    """,
    sequential=True,
    only={"vtd": "on AMD-Vi no flush asks whether the old entry was present"},
)
def unmap_claims_nothing_was_there(m: Machine, *, repaired: bool = False) -> None:
    """A CPU unmaps a page, and the driver's flush takes the old entry for one that was not present.

    repaired: the unmap tells the flush that its entry was present (85c72f9fe7).
    """
    if not repaired:
        m.driver.fixes.remove(Fix.XSA_78)
    domain = m.domain(1, devices=("00:1f.0",))
    m.premap(domain, G, m.allocate(), cached=True)

    @m.cpu(0)
    async def unmapper(cpu: Cpu) -> None:
        async with cpu.hypercall("remove_from_physmap"):
            await m.hypervisor.unmap(cpu, domain, G)
