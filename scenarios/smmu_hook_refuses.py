"""D1 and D2 on Arm: the SMMU's hooks refuse a call, and the wrappers of the patch return what their flush returns."""

from enum import Enum

from emu import Cpu, Dfn, Machine, MapFlags, Mfn, iommu_dont_flush_iotlb, scenario

G = Dfn(0x1000)
"""On Arm the wrappers map a page to the frame of its own number only."""


class Refused(Enum):
    """What the hooks refuse."""

    PERMISSIONS = "permissions"  # a map with neither of them
    GUEST = "guest"  # an unmap in a domain that is not direct mapped


@scenario(
    verdicts="""
    # The caller gets -EINVAL, and a guest is crashed; v1 returns the success of the flush instead.
    parameters                 | implicit | v1         | merged | flush_on_error
    hook_faults>0              | no claim: v1 loses the error of a hook (D1, D2)
    wait_faults>0              | no claim: a poll that is given up passes for completed (B63)
    refused=guest flagged=true | clean    | lost-error | clean  | clean  # an unmap of v1 flushes in spite of the flag
    refused=guest              | clean    | lost-error | clean  | clean
    flagged=true               | clean
    -                          | clean    | lost-error | clean  | clean
    """,
    sequential=True,
    only={"smmu": "elsewhere the hooks refuse neither"},
)
def smmu_hook_refuses(m: Machine, *, refused: Refused = Refused.PERMISSIONS, flagged: bool = False) -> None:
    """A CPU maps a page of the hardware domain without permissions, or unmaps one of a guest.

    refused: which of the two.
    flagged: iommu_dont_flush_iotlb is set meanwhile.
    """
    domain = m.domain(0 if refused is Refused.PERMISSIONS else 1, devices=("00:1f.0",))
    frame = m.allocate(domain=domain, at=Mfn(G))

    @m.cpu(0)
    async def caller(cpu: Cpu) -> None:
        async with cpu.hypercall("grant_table_op"):
            if flagged:
                await cpu.write(iommu_dont_flush_iotlb, True)
            if refused is Refused.PERMISSIONS:
                await m.hypervisor.map(cpu, domain, G, frame, flags=MapFlags(0))
            else:
                await m.hypervisor.unmap(cpu, domain, G)
            if flagged:
                await cpu.write(iommu_dont_flush_iotlb, False)
