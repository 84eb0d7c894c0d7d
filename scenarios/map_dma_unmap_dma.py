"""The plain case: calls and accesses take turns, so nothing may be found."""

from emu import Cpu, Device, Dfn, Fix, Machine, Mfn, PageOrder, offset, page_count, scenario

G = Dfn(0x1000)


@scenario(
    verdicts="""
    # In caching mode a page is flushed under the wrong domain id; the flush of a whole domain names the right one.
    parameters                                          | implicit    | v1    | merged | flush_on_error
    hook_faults>0                                       | no claim: v1 loses the error of a hook (D1, D2)
    allocation_faults>0                                 | no claim: v1 loses the error of a map (D2)
    iommu=amd wait_faults>0                             | no claim: a wait that is given up passes for completed (B55)
    order=1 extend=true caching_mode=true repaired=true | clean
    caching_mode=true repaired=true                     | clean
    order=1 extend=true caching_mode=true               | stale-fault | clean | clean  | clean
    caching_mode=true order>0                           | stale-fault | clean | clean  | clean
    caching_mode=true                                   | stale-fault
    order=1 extend=true np_cache=true                   | stale-fault
    np_cache=true order>0                               | stale-fault
    np_cache=true                                       | stale-fault  # it is flushed if an entry was replaced only
    order=1 extend=true                                 | clean
    -                                                   | clean
    """
)
def map_dma_unmap_dma(m: Machine, *, order: PageOrder = 0, repaired: bool = False, extend: bool = False) -> None:
    """A CPU maps pages, a device uses them, the CPU unmaps them, and the device tries again.

    repaired: a page that was not present is flushed under the domain's own id (c5c84e9766); it matters in caching mode.
    extend: all pages but the last are mapped already, to the same frames.
    """
    if repaired:
        m.driver.fixes.add(Fix.OWN_ID)
    domain = m.domain(1, devices=("00:1f.0",))
    frames = m.allocate(page_order=order)
    for page in range(page_count(order) - 1 if extend else 0):
        m.premap(domain, offset(G, page), Mfn(frames + page))
    mapped, used, unmapped = m.signal("mapped"), m.signal("used"), m.signal("unmapped")

    @m.cpu(0)
    async def owner(cpu: Cpu) -> None:
        async with cpu.hypercall("add_to_physmap"):
            await m.hypervisor.map(cpu, domain, G, frames, page_order=order)
        await mapped.send()
        await used.wait()
        async with cpu.hypercall("remove_from_physmap"):
            await m.hypervisor.unmap(cpu, domain, G, page_order=order)
        await unmapped.send()

    @m.device("00:1f.0")
    async def user(device: Device) -> None:
        last = offset(G, page_count(order) - 1)
        await mapped.wait()
        await device.write(G, 0xC0FFEE)
        await device.read(last)
        await used.send()
        await unmapped.wait()
        await device.write(G, 0xBAD)
        await device.read(last)
