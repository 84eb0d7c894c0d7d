"""D24 on AMD-Vi: a device's firmware pages cannot all be mapped, and those that were stay mapped."""

from emu import ENOMEM, Cpu, Dfn, Machine, offset, scenario

FIRST = Dfn(0x20000)


@scenario(
    verdicts="""
    failing=false | clean
    -             | not-rolled-back
    """,
    sequential=True,
    needs=("amd_iommu_reserve_domain_unity_map",),
    only={"amd": "VT-d maps firmware pages one by one, and its caller handles a failure"},
)
def unity_map_fails_halfway(m: Machine, *, failing: bool = True) -> None:
    """A device is about to be assigned to a guest, and the third of its four firmware pages cannot be mapped.

    failing: without it all are mapped.
    """
    domain = m.domain(1, devices=("00:1f.0",))
    if failing:
        m.fail_hook("map_page", offset(FIRST, 2), ENOMEM)

    @m.cpu(0)
    async def toolstack(cpu: Cpu) -> None:
        async with cpu.hypercall("assign_device"):
            await m.hypervisor.reserve_unity_map(cpu, domain, FIRST, pages=4)
