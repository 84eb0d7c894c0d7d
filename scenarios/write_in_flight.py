"""V15, V16: a write that was translated before an invalidation is committed after it, where the unit does not drain."""

from emu import OK, Cpu, Device, Dfn, Machine, Mfn, PageOrder, offset, page_count, scenario

G = Dfn(0x1000)


@scenario(
    verdicts="""
    # A unit that drains completes the invalidation only when the write is committed.
    hook_faults>0                     | no claim: v1 loses the error of a hook (D1, D2)
    iommu=amd wait_faults>0           | no claim: a wait that is given up passes for completed (B55)
    order=1 drain=false release=false | late-access
    order=1 drain=false               | late-access
    drain=false                       | late-access
    order=1                           | clean
    -                                 | clean
    """
)
def write_in_flight(m: Machine, *, release: bool = True, order: PageOrder = 0) -> None:
    """A device posts a write to a page that a CPU unmaps, flushes and frees: correct software, if the unit drains.

    release: the CPU frees the frames after the unmap.
    order: the order of the range that the CPU unmaps; the device writes to its last page.
    """
    domain = m.domain(1, devices=("00:1f.0",))
    frames = m.allocate(page_order=order, domain=domain)
    m.premap(domain, G, frames, page_order=order, cached=True)

    @m.cpu(0)
    async def remover(cpu: Cpu) -> None:
        async with cpu.hypercall("decrease_reservation"):
            if await m.hypervisor.unmap(cpu, domain, G, page_order=order) == OK and release:
                for page in range(page_count(order)):
                    await m.pages.put(cpu, Mfn(frames + page))

    @m.device("00:1f.0", posts=True)
    async def writer(device: Device) -> None:
        await device.post(offset(G, page_count(order) - 1), 0xBAD)
