"""D7 in the function that has it: arch_iommu_hwdom_init of v1 sets the flag around a loop that processes softirqs."""

from emu import OK, Boot, Cpu, Dfn, Machine, RamType, scenario

G = Dfn(0x1000)


@scenario(
    verdicts="""
    parameters              | implicit | v1       | merged | flush_on_error
    iommu=amd wait_faults>0 | no claim: a wait that is given up passes for completed (B55)
    release=true            | clean    | released | clean  | clean
    -                       | clean    | owed     | clean  | clean
    """,
    sequential=True,
    needs=("arch_iommu_hwdom_init",),
)
def softirq_in_hwdom_init(m: Machine, *, release: bool = False) -> None:
    """A softirq that interrupts the loop replaces a page of another domain, and nobody flushes that page afterwards.

    release: the softirq then frees the old frame.
    """
    hardware_domain = m.domain(0, devices=("00:1f.0",))
    hardware_domain.boot = Boot(pages=3, softirq_interval=2, types={Dfn(1): RamType.UNUSABLE})
    guest = m.domain(1, devices=("00:02.0",))
    old, new = m.allocate(domain=guest), m.allocate(domain=guest)
    m.premap(guest, G, old, cached=True)

    async def replace_guest_page(cpu: Cpu) -> None:
        result = await m.hypervisor.map(cpu, guest, G, new)
        if release and result == OK:
            await m.pages.put(cpu, old)

    @m.cpu(0)
    async def booter(cpu: Cpu) -> None:
        cpu.raise_softirq(replace_guest_page)
        await m.hypervisor.arch_hwdom_init(cpu, hardware_domain)
