"""XSA-80 (B01): an error exit leaves iommu_dont_flush_iotlb set, and a later call on that CPU is not flushed."""

from enum import Enum

from emu import ENOMEM, OK, Cpu, Dfn, Machine, iommu_dont_flush_iotlb, offset, scenario

G = Dfn(0x1000)


class Later(Enum):
    """The call that comes after the error exit."""

    UNMAP = "unmap"
    REPLACE = "replace"
    REMOVE = "remove"  # unmap a page and free its frame


@scenario(
    verdicts="""
    parameters                 | implicit | v1    | merged   | flush_on_error
    iommu=amd wait_faults>0    | no claim: a wait that is given up passes for completed (B55)
    later=unmap repaired=true  | clean
    later=remove repaired=true | clean
    repaired=true              | clean
    iommu=amd later=unmap      | clean    | clean | owed     | owed
    iommu=amd later=remove     | clean    | clean | released | released
    iommu=amd                  | clean    | owed  | owed     | owed  # hooks of implicit ignore the flag
    later=unmap                | owed     | clean | owed     | owed  # an unmap of v1 does not read the flag
    later=remove               | released | clean | released | released
    -                          | owed
    """,
    sequential=True,
)
def flag_left_set(m: Machine, *, later: Later = Later.REPLACE, repaired: bool = False) -> None:
    """A batch fails and leaves iommu_dont_flush_iotlb set; the next hypercall on that CPU flushes nothing.

    later: what the next hypercall does.
    repaired: the error exit clears the flag as well.
    """
    domain = m.domain(0, devices=("00:1f.0",))
    old, new = m.allocate(domain=domain), m.allocate()
    m.premap(domain, G, old, cached=True)
    failing = offset(G, 1)
    m.fail_hook("map_page", failing, ENOMEM)

    async def batch(cpu: Cpu) -> None:
        await cpu.write(iommu_dont_flush_iotlb, True)
        if await m.hypervisor.map(cpu, domain, failing, new) != OK and not repaired:
            return
        await cpu.write(iommu_dont_flush_iotlb, False)
        await m.hypervisor.flush(cpu, domain, failing, pages=1)

    @m.cpu(0)
    async def guest(cpu: Cpu) -> None:
        async with cpu.hypercall("add_to_physmap_range"):
            await batch(cpu)
        async with cpu.hypercall("memory_op"):
            if later is Later.REPLACE:
                result = await m.hypervisor.map(cpu, domain, G, new)
            else:
                result = await m.hypervisor.unmap(cpu, domain, G)
            if later is Later.REMOVE and result == OK:
                await m.pages.put(cpu, old)
