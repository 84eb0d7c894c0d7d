"""D7: iommu_dont_flush_iotlb belongs to a CPU, not to a domain: a softirq that interrupts the loop flushes nothing."""

from emu import OK, Cpu, Dfn, Machine, Mfn, iommu_dont_flush_iotlb, offset, scenario

G = Dfn(0x1000)
PAGES = 2


@scenario(
    verdicts="""
    parameters                 | implicit | v1       | merged   | flush_on_error
    iommu=amd wait_faults>0    | no claim: a wait that is given up passes for completed (B55)
    release=true repaired=true | clean
    repaired=true              | clean  # the softirq runs with the flag cleared
    iommu=amd release=true     | clean    | released | released | released
    iommu=amd                  | clean    | owed     | owed     | owed  # hooks of implicit ignore the flag
    release=true               | released
    -                          | owed
    """,
    sequential=True,
)
def softirq_in_flagged_loop(m: Machine, *, repaired: bool = False, release: bool = False) -> None:
    """A softirq inside a flagged loop replaces a page of another domain, and nobody flushes that page afterwards.

    release: the softirq then frees the old frame.
    repaired: the loop clears the flag while it processes softirqs.
    """
    hardware_domain = m.domain(0, devices=("00:1f.0",))
    guest = m.domain(1, devices=("00:02.0",))
    old = m.allocate(domain=guest)
    m.premap(guest, G, old, cached=True)
    new, identity = m.allocate(), m.allocate(page_order=1)

    async def replace_guest_page(cpu: Cpu) -> None:
        result = await m.hypervisor.map(cpu, guest, G, new)
        if release and result == OK:
            await m.pages.put(cpu, old)

    @m.cpu(0)
    async def builder(cpu: Cpu) -> None:
        async with cpu.hypercall("hwdom_init"):
            cpu.raise_softirq(replace_guest_page)
            await cpu.write(iommu_dont_flush_iotlb, True)
            for page in range(PAGES):
                await m.hypervisor.map(cpu, hardware_domain, offset(G, page), Mfn(identity + page))
                if repaired:
                    await cpu.write(iommu_dont_flush_iotlb, False)
                await cpu.process_pending_softirqs()
                if repaired:
                    await cpu.write(iommu_dont_flush_iotlb, True)
            await cpu.write(iommu_dont_flush_iotlb, False)
            await m.hypervisor.flush_all(cpu, hardware_domain)
