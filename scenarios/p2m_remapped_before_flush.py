"""R1 on Arm: one CPU removes a page from the p2m, another one adds it with another frame."""

from emu import Cpu, Dfn, Fix, Machine, scenario

G = Dfn(0x1000)


@scenario(
    verdicts="""
    allocation_faults>0         | no claim: an entry that could not be made reports the failure
    wait_faults>0 repaired=true | no claim: a poll that is given up passes for completed (B63)
    repaired=true               | clean  # the p2m lock is held across the flush
    -                           | stale
    """,
    only={"smmu": "elsewhere the units have tables of their own"},
)
def p2m_remapped_before_flush(m: Machine, *, repaired: bool = False) -> None:
    """CPU 0 removes a page that a device has used, and CPU 1 adds another frame at its place.

    repaired: the p2m flushes the SMMU (9ed527dc95).
    """
    if repaired:
        m.driver.fixes.add(Fix.HAS_IOMMU)
    domain = m.domain(1, devices=("00:1f.0",))
    old, new = m.allocate(domain=domain), m.allocate(domain=domain)
    m.premap(domain, G, old, cached=True)

    @m.cpu(0)
    async def remover(cpu: Cpu) -> None:
        async with cpu.hypercall("remove_from_physmap"):
            await m.hypervisor.guest_physmap_remove_page(cpu, domain, G, old)

    @m.cpu(1)
    async def adder(cpu: Cpu) -> None:
        async with cpu.hypercall("add_to_physmap"):
            await m.hypervisor.guest_physmap_add_entry(cpu, domain, G, new)
