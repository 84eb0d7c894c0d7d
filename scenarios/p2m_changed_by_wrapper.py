"""B30 on Arm: a wrapper changes the p2m, and nobody flushes the SMMU unless the wrapper itself does."""

from enum import Enum

from emu import Cpu, Device, Dfn, Fix, Machine, MapFlags, Mfn, iommu_dont_flush_iotlb, scenario

G = Dfn(0x1000)
"""On Arm the wrappers map a page to the frame of its own number only."""


class Change(Enum):
    """The change of the page."""

    UNMAP = "unmap"
    PROTECT = "protect"  # it keeps its frame and loses a permission


class Flag(Enum):
    """Whether the flush is put off, and who makes it."""

    CLEAR = "clear"
    UNPAID = "unpaid"  # iommu_dont_flush_iotlb is set around the call, and nobody flushes
    PAID = "paid"  # the hypercall ends with an explicit flush


@scenario(
    verdicts="""
    # No caller on Arm reached the wrappers then: the rows judge the contract, by a direct call. No hook of Arm looks at
    # the flag: before the patch a call with the flag set flushes as little as one without. An explicit flush pays for
    # both, as xenmem_add_to_physmap makes it; one with the flags that the hooks have set would be none.
    parameters                               | implicit | v1    | merged | flush_on_error
    hook_faults>0                            | no claim: v1 loses the error of a hook (D1, D2)
    allocation_faults>0                      | no claim: v1 loses the error of a map (D2)
    wait_faults>0                            | no claim: a poll that is given up passes for completed (B63)
    change=protect flag=unpaid repaired=true | clean
    change=unmap,protect repaired=true       | clean
    change=protect flag=paid                 | clean
    flag=paid                                | clean
    change=protect flag=unpaid               | owed
    flag=unpaid                              | owed     | clean | owed   | owed  # an unmap of v1 flushes nevertheless
    change=protect                           | stale    | clean | stale  | stale
    -                                        | stale    | clean | stale  | stale
    """,
    only={"smmu": "elsewhere the units have tables of their own, which the hooks change and flush"},
)
def p2m_changed_by_wrapper(
    m: Machine, *, change: Change = Change.UNMAP, flag: Flag = Flag.CLEAR, repaired: bool = False
) -> None:
    """A wrapper unmaps or write-protects a page of the hardware domain, and a device that has used it tries again.

    change: what the wrapper does.
    flag: whether iommu_dont_flush_iotlb is set around the call, and who flushes then.
    repaired: the p2m flushes the SMMU (9ed527dc95).
    """
    if repaired:
        m.driver.fixes.add(Fix.HAS_IOMMU)
    domain = m.domain(0, devices=("00:1f.0",))
    frame = m.allocate(domain=domain, at=Mfn(G))
    m.premap(domain, G, frame, cached=True)
    changed = m.signal("changed")

    @m.cpu(0)
    async def changer(cpu: Cpu) -> None:
        async with cpu.hypercall("grant_table_op"):
            await cpu.write(iommu_dont_flush_iotlb, flag is not Flag.CLEAR)
            if change is Change.UNMAP:
                await m.hypervisor.unmap(cpu, domain, G)
            else:
                await m.hypervisor.map(cpu, domain, G, frame, flags=MapFlags.READABLE)
            await cpu.write(iommu_dont_flush_iotlb, False)
            if flag is Flag.PAID:
                await m.hypervisor.flush(cpu, domain, G, pages=1)
        await changed.send()

    @m.device("00:1f.0")
    async def user(device: Device) -> None:
        await changed.wait()
        await device.write(G, 0xBAD)
