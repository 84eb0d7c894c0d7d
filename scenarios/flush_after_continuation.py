"""D14: a batch that is cut into several passes puts its flush off to the last pass."""

from emu import Cpu, Dfn, Machine, Mfn, iommu_dont_flush_iotlb, offset, scenario

G = Dfn(0x1000)
PASSES = 2


@scenario(
    verdicts="""
    # A pass's deferred flush is due when the pass returns to the guest, whether its work is done or not.
    parameters              | implicit | v1   | merged | flush_on_error
    iommu=amd wait_faults>0 | no claim: a wait that is given up passes for completed (B55)
    repaired=true           | clean
    iommu=amd               | clean    | owed | owed   | owed  # hooks of implicit ignore the flag
    -                       | owed
    """,
    sequential=True,
)
def flush_after_continuation(m: Machine, *, repaired: bool = False) -> None:
    """A batch replaces a page in each of two passes, returns to the guest between them, and flushes at the end.

    repaired: each pass flushes what it has replaced (4be86bb194).
    """
    domain = m.domain(1, devices=("00:1f.0",))
    old, new = m.allocate(page_order=1), m.allocate(page_order=1)
    m.premap(domain, G, old, page_order=1, cached=True)

    @m.cpu(0)
    async def batch(cpu: Cpu) -> None:
        for page in range(PASSES):
            async with cpu.hypercall("add_to_physmap"):
                await cpu.write(iommu_dont_flush_iotlb, True)
                await m.hypervisor.map(cpu, domain, offset(G, page), Mfn(new + page))
                await cpu.write(iommu_dont_flush_iotlb, False)
                if repaired:
                    await m.hypervisor.flush(cpu, domain, offset(G, page), pages=1)
                elif page == PASSES - 1:
                    await m.hypervisor.flush(cpu, domain, G, pages=PASSES)
                if page < PASSES - 1:
                    cpu.create_continuation()
