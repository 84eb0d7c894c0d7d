"""B76 on Arm: Xen has made an entry invalid for hardware, to track a guest, and a removal takes it for unused."""

from emu import Cpu, Device, Dfn, Fix, Machine, scenario
from emu.hypervisor.smmu.set_way import p2m_invalidate_root, p2m_resolve_translation_fault

G = Dfn(0x1000)


@scenario(
    verdicts="""
    wait_faults>0 tracked=false | no claim: a poll that is given up passes for completed (B63)
    tracked=false repaired=true | clean
    tracked=false               | stale
    repaired=true               | stale  # until 2b45ff6030 the valid bits of shared tables were tracked, too
    -                           | stale
    """,
    sequential=True,
    only={"smmu": "elsewhere the units have tables of their own"},
)
def p2m_tracked_entry_removed(m: Machine, *, tracked: bool = True, repaired: bool = False) -> None:
    """The valid bits of a p2m are cleared, faults of CPUs move them down to a page's entry, and the page is removed.

    tracked: the valid bits are cleared before the removal.
    repaired: the p2m flushes the SMMU (9ed527dc95).
    """
    if repaired:
        m.driver.fixes.add(Fix.HAS_IOMMU)
    domain = m.domain(1, devices=("00:1f.0",))
    frame = m.allocate(domain=domain)
    m.premap(domain, G, frame, cached=True)
    removed = m.signal("removed")

    @m.cpu(0)
    async def remover(cpu: Cpu) -> None:
        if tracked:
            await p2m_invalidate_root(cpu, domain)
            for _ in range(domain.levels - 1):
                await p2m_resolve_translation_fault(cpu, domain, G)
        async with cpu.hypercall("remove_from_physmap"):
            await m.hypervisor.guest_physmap_remove_page(cpu, domain, G, frame)
        await removed.send()

    @m.device("00:1f.0")
    async def writer(device: Device) -> None:
        await removed.wait()
        await device.write(G, 0xBAD)
