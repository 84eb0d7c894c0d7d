"""R2 on Arm: the second of two CPUs that remove a page from the p2m finds nothing to do."""

from enum import Enum

from emu import Cpu, Dfn, Fix, Machine, Mfn, scenario

G = Dfn(0x1000)
"""On Arm the wrappers map a page to the frame of its own number only."""


class By(Enum):
    """The way by which the CPUs remove the page."""

    P2M = "p2m"
    WRAPPER = "wrapper"


@scenario(
    verdicts="""
    parameters               | implicit | v1    | merged | flush_on_error
    hook_faults>0            | no claim: v1 loses the error of a hook (D1, D2)
    wait_faults>0            | no claim: a poll that is given up passes for completed (B63)
    by=wrapper repaired=true | clean
    by=wrapper               | stale    | clean | stale  | stale  # an unmap of v1 flushes whatever it finds
    repaired=true            | clean  # the p2m lock is held across the flush
    -                        | stale
    """,
    only={"smmu": "elsewhere the units have tables of their own"},
)
def p2m_page_removed_twice(m: Machine, *, by: By = By.P2M, repaired: bool = False) -> None:
    """Two CPUs remove a page that a device has used; one clears its entry, and the other finds it cleared.

    by: whether they call the p2m, or the wrapper whose hook calls it.
    repaired: the p2m flushes the SMMU (9ed527dc95).
    """
    if repaired:
        m.driver.fixes.add(Fix.HAS_IOMMU)
    domain = m.domain(0, devices=("00:1f.0",))
    frame = m.allocate(domain=domain, at=Mfn(G))
    m.premap(domain, G, frame, cached=True)

    async def remover(cpu: Cpu) -> None:
        async with cpu.hypercall("remove_from_physmap"):
            if by is By.P2M:
                await m.hypervisor.guest_physmap_remove_page(cpu, domain, G, frame)
            else:
                await m.hypervisor.unmap(cpu, domain, G)

    for number in range(2):
        m.cpu(number).runs(remover)
