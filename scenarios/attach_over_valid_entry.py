"""A device is attached to a domain although the tables of another domain translate for it."""

from emu import Cpu, Dfn, Machine, scenario

G = Dfn(0x1000)


@scenario(
    verdicts="""
    # VT-d's driver refuses. AMD's writes and flushes nothing, and says that all went well.
    wait_faults>0 | no claim: a flush that is given up is not made again (B55, D19)
    iommu=amd     | stale
    -             | clean
    """,
    sequential=True,
)
def attach_over_valid_entry(m: Machine) -> None:
    """A toolstack attaches a device to a second domain without having detached it from the first."""
    first, second = m.domain(1, devices=("00:1f.0",)), m.domain(2)
    m.premap(first, G, m.allocate(domain=first), cached=True)

    @m.cpu(0)
    async def toolstack(cpu: Cpu) -> None:
        async with cpu.hypercall("domctl"):
            await m.assignment.attach(cpu, second, m.devices["00:1f.0"])
