"""R1 on an SMMUv3 with Xen of today: the p2m lock is held across the flush, so no CPU comes between.

The caller that removes a page has looked its frame up before, without the lock: since 5a4a2cef08 (2022) it gets an
error, and keeps the frame, where another one has taken its place.
"""

from emu import OK, Cpu, Dfn, Machine, scenario

G = Dfn(0x1000)


@scenario(
    verdicts="""
    parameters           | today
    allocation_faults>0  | no claim: an entry that could not be made reports the failure
    wait_faults>0        | no claim: a CMD_SYNC that is given up passes for completed (B63)
    -                    | clean
    """,
    only={"smmuv3": "p2m_remapped_before_flush tells it of the SMMUv2"},
)
def p2m_remapped_today(m: Machine) -> None:
    """CPU 0 removes a page that a device has used and frees it, and CPU 1 adds another frame at its place."""
    domain = m.domain(1, devices=("00:1f.0",))
    old, new = m.allocate(domain=domain), m.allocate(domain=domain)
    m.premap(domain, G, old, cached=True)

    @m.cpu(0)
    async def remover(cpu: Cpu) -> None:
        async with cpu.hypercall("remove_from_physmap"):
            if await m.hypervisor.guest_physmap_remove_page(cpu, domain, G, old) == OK:
                await m.pages.put(cpu, old)

    @m.cpu(1)
    async def adder(cpu: Cpu) -> None:
        async with cpu.hypercall("add_to_physmap"):
            await m.hypervisor.guest_physmap_add_entry(cpu, domain, G, new)
