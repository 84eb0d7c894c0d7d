"""B63: the poll for an SMMU's TLB gives up after a million reads, and no caller learns of it."""

from enum import Enum

from emu import Cpu, Dfn, Fix, Machine, Mfn, iommu_dont_flush_iotlb, scenario

G = Dfn(0x1000)
"""On Arm the wrappers map a page to the frame of its own number only."""


class By(Enum):
    """The call that polls."""

    UNMAP = "unmap"
    FLUSH = "flush"


@scenario(
    verdicts="""
    parameters    | implicit | v1               | merged | flush_on_error
    hook_faults>0 | no claim: v1 loses the error of a hook (D1, D2)
    by=flush      | lost-error,stale,owed
    repaired=true | lost-error,stale
    -             | stale    | lost-error,stale | stale  | stale  # in the others nobody polls
    """,
    sequential=True,
    small={"synchronous": "false"},
    only={"smmu": "the waits for other units are cells of other scenarios"},
)
def smmu_poll_given_up(m: Machine, *, by: By = By.UNMAP, repaired: bool = False) -> None:
    """A CPU unmaps a page that a device has used, and may give up waiting for the SMMU once.

    by: the call that waits: the unmap itself, or a flush after an unmap that has put it off.
    repaired: the p2m flushes the SMMU (9ed527dc95).
    """
    if repaired:
        m.driver.fixes.add(Fix.HAS_IOMMU)
    domain = m.domain(0, devices=("00:1f.0",))
    m.premap(domain, G, m.allocate(domain=domain, at=Mfn(G)), cached=True)
    m.allow_faults(waits=1)

    @m.cpu(0)
    async def unmapper(cpu: Cpu) -> None:
        async with cpu.hypercall("grant_table_op"):
            if by is By.FLUSH:
                await cpu.write(iommu_dont_flush_iotlb, True)
            await m.hypervisor.unmap(cpu, domain, G)
            if by is By.FLUSH:
                await cpu.write(iommu_dont_flush_iotlb, False)
                await m.hypervisor.flush(cpu, domain, G, pages=1)
