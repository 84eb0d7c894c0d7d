"""D12, D13, C2: filling the hardware domain's tables with its own pages, which has no result to return."""

from emu import ENOMEM, Boot, Cpu, Dfn, Fix, Machine, PageType, offset, scenario

G = Dfn(0x1000)
PAGES = (PageType.WRITABLE, PageType.TABLE, PageType.WRITABLE)


@scenario(
    verdicts="""
    parameters               | implicit | v1         | merged                    | flush_on_error
    hook_faults>0            | no claim: any page may fail, as one does here
    allocation_faults>0      | no claim: any page may fail, as one does here
    iommu=amd wait_faults>0  | no claim: a wait that is given up passes for completed (B55)
    # v1 calls the flush hook itself, so nobody logs that it failed (D13).
    wait_faults>0            | clean    | lost-error | clean                     | clean
    order_bug=true           | clean    | clean      | wrong-result,beyond-range | clean  # and the page beside them
    failing=true hook=false  | clean    | stale      | clean                     | clean
    hook=false               | clean
    failing=true             | clean  # the hook flushes everything, in v1 too
    -                        | clean
    """,
    sequential=True,
    needs=("iommu_hwdom_init", "arch_iommu_hwdom_init"),
)
def hwdom_init_after_error(m: Machine, *, failing: bool = False, hook: bool = True, order_bug: bool = False) -> None:
    """The tables of a hardware domain that is made late are filled while its device uses a page that is replaced.

    failing: one of its pages cannot be mapped: it is logged, and v1 then leaves the flush out.
    hook: the vendor's hook goes on with arch_iommu_hwdom_init; else it does nothing, as the SMMU's.
    order_bug: permissions and order change places, as in the merged patch until 3389a8dc8c.
    """
    if order_bug:
        m.driver.fixes.remove(Fix.HWDOM_ORDER)
    domain = m.domain(0, devices=("00:1f.0",))
    domain.boot = Boot(strict=True, softirq_interval=1)
    for number, type_ in enumerate(PAGES):
        domain.page_list.enter(m.allocate(domain=domain), offset(G, 2 * number), type_)
    for beside in (G, offset(G, 1)):
        m.premap(domain, beside, m.allocate(domain=domain), cached=True)
    if not hook:
        m.hooks.calls = None
    if failing:
        m.fail_hook("map_page", offset(G, 2), ENOMEM)

    @m.cpu(0)
    async def booter(cpu: Cpu) -> None:
        await m.hypervisor.hwdom_init(cpu, domain)
