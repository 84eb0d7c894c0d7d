"""A domain keeps its id on a unit, and is flushed there, as long as it has one device behind the unit."""

from emu import OK, Cpu, Dfn, Machine, scenario

G = Dfn(0x1000)


@scenario(
    verdicts="""
    hook_faults>0 | no claim: v1 loses the error of a hook (D1, D2)
    wait_faults>0 | no claim: a flush that is given up is not made again (B55, D19)
    iommu=amd     | not-isolated  # the device that was taken passes untranslated
    -             | clean
    """,
    sequential=True,
)
def detach_one_of_two_devices(m: Machine) -> None:
    """A toolstack takes one of two devices from a guest; then a page of the guest is unmapped and freed."""
    domain = m.domain(1, devices=("00:1f.0", "00:1f.1"))
    frame = m.allocate(domain=domain)
    m.premap(domain, G, frame, cached=True)

    @m.cpu(0)
    async def toolstack(cpu: Cpu) -> None:
        async with cpu.hypercall("domctl"):
            await m.assignment.detach(cpu, domain, m.devices["00:1f.0"])
        async with cpu.hypercall("decrease_reservation"):
            if await m.hypervisor.unmap(cpu, domain, G) == OK:
                await m.pages.put(cpu, frame)
