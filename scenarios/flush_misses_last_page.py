"""Off by one: a batch replaces a range, puts the flush off, and then flushes one page too few."""

from emu import OK, Cpu, Dfn, Machine, Mfn, iommu_dont_flush_iotlb, page_count, scenario

G = Dfn(0x1000)
ORDER = 1
PAGES = page_count(ORDER)


@scenario(
    verdicts="""
    # Every map leaves the flush to a caller that has set the flag.
    parameters                 | implicit | v1       | merged   | flush_on_error
    iommu=amd wait_faults>0    | no claim: a wait that is given up passes for completed (B55)
    release=true repaired=true | clean
    repaired=true              | clean
    iommu=amd release=true     | clean    | released | released | released
    iommu=amd                  | clean    | owed     | owed     | owed  # hooks of implicit ignore the flag
    release=true               | released
    -                          | owed
    """,
    sequential=True,
)
def flush_misses_last_page(m: Machine, *, release: bool = False, repaired: bool = False) -> None:
    """A batch replaces two pages under the flag and flushes only the first page.

    release: it then frees the frames that it has displaced.
    repaired: it flushes both pages.
    """
    domain = m.domain(1, devices=("00:1f.0",))
    old, new = m.allocate(page_order=ORDER, domain=domain), m.allocate(page_order=ORDER)
    m.premap(domain, G, old, page_order=ORDER, cached=True)

    @m.cpu(0)
    async def batch(cpu: Cpu) -> None:
        async with cpu.hypercall("add_to_physmap"):
            await cpu.write(iommu_dont_flush_iotlb, True)
            result = await m.hypervisor.map(cpu, domain, G, new, page_order=ORDER)
            await cpu.write(iommu_dont_flush_iotlb, False)
            flushed = await m.hypervisor.flush(cpu, domain, G, pages=PAGES if repaired else PAGES - 1)
            if result == flushed == OK and release:
                for page in range(PAGES):
                    await m.pages.put(cpu, Mfn(old + page))
