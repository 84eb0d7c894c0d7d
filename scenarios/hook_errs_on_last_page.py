"""A wrong change of a driver's map hook. No release of Xen has this error."""

from enum import Enum

import attrs

from emu import OK, Cpu, Dfn, Domain, FlushType, IommuOps, Machine, MapFlags, Mfn, offset, scenario

G = Dfn(0x1000)
H = offset(G, 1)


class Error(Enum):
    """The hook's error."""

    SKIP = "skip"  # store nothing, and report success
    OVERSHOOT = "overshoot"  # map the next page, too
    CLEAR_FIRST = "clear-first"  # clear the entry before setting it


@attrs.frozen
class ErringHooks:
    """A driver's hooks, with an error in map_page."""

    driver: IommuOps[Domain]
    error: Error

    async def map_page(self, cpu: Cpu, domain: Domain, dfn: Dfn, mfn: Mfn, flags: MapFlags) -> tuple[int, FlushType]:
        """Map a page, and err if it is H."""
        if dfn == H and self.error is Error.SKIP:
            return OK, FlushType.MODIFIED
        if dfn == H and self.error is Error.CLEAR_FIRST:
            await self.driver.unmap_page(cpu, domain, dfn)
        if dfn == H and self.error is Error.OVERSHOOT:
            await self.driver.map_page(cpu, domain, offset(dfn, 1), Mfn(mfn + 1), flags)
        return await self.driver.map_page(cpu, domain, dfn, mfn, flags)

    async def unmap_page(self, cpu: Cpu, domain: Domain, dfn: Dfn) -> tuple[int, FlushType]:
        """Unmap a page."""
        return await self.driver.unmap_page(cpu, domain, dfn)

    async def iotlb_flush(self, cpu: Cpu, domain: Domain, dfn: Dfn, page_count: int, flush_type: FlushType) -> int:
        """Flush a range."""
        return await self.driver.iotlb_flush(cpu, domain, dfn, page_count, flush_type)

    async def iotlb_flush_all(self, cpu: Cpu, domain: Domain) -> int:
        """Flush a domain."""
        return await self.driver.iotlb_flush_all(cpu, domain)


@scenario(
    verdicts="""
    hook_faults>0                      | no claim: v1 loses the error of a hook (D1, D2)
    wait_faults>0                      | no claim: a flush that is given up is not made again (B55, D19)
    repaired=true refuse_gaps=true     | clean
    repaired=true                      | clean
    error=overshoot                    | beyond-range
    error=clear-first refuse_gaps=true | gap
    error=clear-first                  | clean  # a gap is a finding only with refuse_gaps
    -                                  | wrong-result
    """,
    sequential=True,
)
def hook_errs_on_last_page(m: Machine, *, error: Error = Error.SKIP, repaired: bool = False) -> None:
    """A CPU replaces two pages, and the driver's hook errs on the second page.

    error: the hook's error on that page.
    repaired: the hook has no error.
    """
    if not repaired:
        m.hooks.driver = ErringHooks(m.hooks.driver, error)
    domain = m.domain(1, devices=("00:1f.0",))
    old, new = m.allocate(page_order=1), m.allocate(page_order=2)
    m.premap(domain, G, old, page_order=1, cached=True)

    @m.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        async with cpu.hypercall("add_to_physmap"):
            await m.hypervisor.map(cpu, domain, G, new, page_order=1)
