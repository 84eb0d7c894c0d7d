"""B19: a flush of all pages names one page, and a flush of a range leaves cached entries of higher tables."""

from enum import Enum

from emu import Cpu, Dfn, Fix, Machine, iommu_dont_flush_iotlb, scenario

G = Dfn(0x1000)


class Flushed(Enum):
    """The pages that a flush is for."""

    ALL = "all"
    RANGE = "range"


@scenario(
    verdicts="""
    # A hook of implicit flushes the page that it has changed, whatever the flag says.
    parameters                  | implicit | v1       | merged   | flush_on_error
    hook_faults>0               | no claim: v1 loses the error of a hook (D1, D2)
    wait_faults>0               | no claim: a flush that is given up is not made again (B55, D19)
    flushed=range repaired=true | clean
    repaired=true               | clean
    flushed=range               | released
    -                           | clean    | released,stale | released,stale | released,stale
    """,
    sequential=True,
    only={"amd": "a VT-d descriptor says the size in a field of its own"},
)
def flush_says_wrong_size(m: Machine, *, flushed: Flushed = Flushed.ALL, repaired: bool = False) -> None:
    """A CPU replaces a page and flushes all, or empties a table of two pages and flushes these, and frees the frame.

    repaired: the bit that says the size is cleared, and what is under it is set (3a1ba3c2e7).
    """
    if not repaired:
        m.driver.fixes.discard(Fix.SIZE)
    domain = m.domain(1, devices=("00:1f.0",))
    old, new = m.allocate(page_order=1, domain=domain), m.allocate()
    m.premap(domain, G, old, page_order=1, cached=True)

    @m.cpu(0)
    async def remover(cpu: Cpu) -> None:
        async with cpu.hypercall("remove_from_physmap"):
            await cpu.write(iommu_dont_flush_iotlb, True)
            if flushed is Flushed.ALL:
                await m.hypervisor.map(cpu, domain, G, new)
            else:
                await m.hypervisor.unmap(cpu, domain, G, page_order=1)
                await m.tables.take_out(cpu, domain, G)
            await cpu.write(iommu_dont_flush_iotlb, False)
            if flushed is Flushed.ALL:
                await m.hypervisor.flush_all(cpu, domain)
                await m.pages.put(cpu, old)
            else:
                await m.hypervisor.flush(cpu, domain, G, pages=2)
