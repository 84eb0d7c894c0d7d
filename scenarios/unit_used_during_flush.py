"""D23: a flush looks up which units a domain uses while another CPU lets it use one more."""

from emu import Cpu, Dfn, Machine, scenario

G = Dfn(0x1000)


@scenario(
    verdicts="""
    # AMD-Vi flushes every unit, whether or not a domain uses it.
    hook_faults>0 | no claim: what a failed hook leaves behind stays (B08, D1, D2, D20)
    wait_faults>0 | no claim: a flush that is given up is not made again (B55, D19)
    iommu=amd     | clean
    attached=true | clean
    -             | stale
    """,
)
def unit_used_during_flush(m: Machine, *, attached: bool = False) -> None:
    """CPU 0 unmaps a page; CPU 1 attaches the domain's first device behind the second unit.

    attached: the device is attached before CPU 0 begins.
    """
    m.scope(1, "01:00.0")
    domain = m.domain(1, devices=("00:1f.0",))
    late, done = m.plug("01:00.0"), m.signal("attached")
    m.premap(domain, G, m.allocate(), cached=True)

    @m.cpu(0)
    async def unmapper(cpu: Cpu) -> None:
        if attached:
            await done.wait()
        async with cpu.hypercall("remove_from_physmap"):
            await m.hypervisor.unmap(cpu, domain, G)

    @m.cpu(1)
    async def toolstack(cpu: Cpu) -> None:
        await m.assignment.attach(cpu, domain, late)
        await done.send()
