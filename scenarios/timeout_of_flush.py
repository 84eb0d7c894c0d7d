"""A CPU gives up waiting for a flush: the caller gets the error, and keeps the displaced frame."""

from enum import Enum

from emu import OK, Cpu, Dfn, Machine, iommu_dont_flush_iotlb, scenario

G = Dfn(0x1000)


class Flusher(Enum):
    """The call that flushes."""

    MAP = "map"
    FLUSH = "flush"
    FLUSH_ALL = "flush-all"


@scenario(
    verdicts="""
    # A map that returns the error of its flush leaves the new frame mapped (D19).
    parameters                        | implicit | v1             | merged         | flush_on_error
    hook_faults>0                     | no claim: v1 loses the error of a hook (D1, D2)
    iommu=amd flusher=flush,flush-all | clean    | released,stale | released,stale | released,stale
    iommu=amd                         | released,stale  # no flush reports an error (B55)
    flusher=flush,flush-all           | clean
    -                                 | not-rolled-back
    """,
    sequential=True,
)
def timeout_of_flush(m: Machine, *, flusher: Flusher = Flusher.MAP) -> None:
    """A CPU replaces a page, may give up waiting for the flush once, and frees the old frame after a success.

    flusher: the call that flushes; an explicit flush is called again after an error.
    """
    domain = m.domain(1, devices=("00:1f.0",))
    old, new = m.allocate(domain=domain), m.allocate()
    m.premap(domain, G, old, cached=True)
    m.allow_faults(waits=1)

    async def flush(cpu: Cpu) -> int:
        if flusher is Flusher.FLUSH_ALL:
            return await m.hypervisor.flush_all(cpu, domain)
        return await m.hypervisor.flush(cpu, domain, G, pages=1)

    @m.cpu(0)
    async def owner(cpu: Cpu) -> None:
        async with cpu.hypercall("add_to_physmap"):
            is_deferred = flusher is not Flusher.MAP
            await cpu.write(iommu_dont_flush_iotlb, is_deferred)
            result = await m.hypervisor.map(cpu, domain, G, new)
            await cpu.write(iommu_dont_flush_iotlb, False)
            if is_deferred and result == OK:
                result = await flush(cpu) and await flush(cpu)
            if result == OK:
                await m.pages.put(cpu, old)
