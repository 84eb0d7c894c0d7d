"""D2: the result of the flush replaces that of the map."""

from typing import Annotated

from emu import (
    ENOMEM,
    Bounds,
    Cpu,
    Dfn,
    Machine,
    PageOrder,
    ScenarioError,
    iommu_dont_flush_iotlb,
    offset,
    page_count,
    scenario,
)

G = Dfn(0x1000)


@scenario(
    verdicts="""
    # Only v1 lets the flush's result replace the error, and without a flush there is no such result.
    parameters              | implicit | v1         | merged | flush_on_error
    hook_faults>0           | no claim: what a failed hook leaves behind stays (B08, D1, D2, D20)
    iommu=amd wait_faults>0 | no claim: a wait that is given up passes for completed (B55)
    dont_flush=true         | clean
    -                       | clean    | lost-error | clean  | clean
    """,
    sequential=True,
)
def map_fails_halfway(
    m: Machine,
    *,
    order: PageOrder = 2,
    failing_page: Annotated[int, Bounds(0, 4095)] = 2,
    domain: Annotated[int, Bounds(0, 32_767)] = 1,
    dont_flush: bool = False,
) -> None:
    """A map runs out of memory on one of its pages, takes back the others, and says that all went well.

    domain: 0 is the hardware domain, which is not crashed, so that nothing else tells of the failure.
    dont_flush: the caller has set iommu_dont_flush_iotlb.

    Raises:
        ScenarioError: if the map has no such page.
    """
    if failing_page >= page_count(order):
        raise ScenarioError(f"a map of order {order} has no page {failing_page}: set failing_page below its size")
    d = m.domain(domain, devices=("00:1f.0",))
    frames = m.allocate(page_order=order)
    m.fail_hook("map_page", offset(G, failing_page), ENOMEM)

    @m.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        async with cpu.hypercall("add_to_physmap"):
            if dont_flush:
                await cpu.write(iommu_dont_flush_iotlb, True)
            await m.hypervisor.map(cpu, d, G, frames, page_order=order)
            if dont_flush:
                await cpu.write(iommu_dont_flush_iotlb, False)
                await m.hypervisor.flush(cpu, d, G, pages=page_count(order))
