"""D5a: how long old frames stay in reach while a large range is replaced."""

from typing import Annotated

from emu import Bounds, Cpu, Device, Dfn, Machine, PageOrder, offset, page_count, scenario

G = Dfn(0x1000)


@scenario(
    verdicts="""
    hook_faults>0 | no claim: v1 loses the error of a hook (D1, D2)
    wait_faults>0 | no claim: a flush that is given up is not made again (B55, D19)
    -             | clean
    """,
    small={"order": "1", "dma": "2"},
)
def replace_while_device_reads(m: Machine, *, order: PageOrder = 2, dma: Annotated[int, Bounds(1, 1000)] = 4) -> None:
    """A CPU replaces a range that a device reads; its caller keeps the old frames until the map has returned.

    dma: how often the device reads.
    """
    domain = m.domain(1, devices=("00:1f.0",))
    old, new = m.allocate(page_order=order), m.allocate(page_order=order)
    m.premap(domain, G, old, page_order=order, cached=True)

    @m.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        async with cpu.hypercall("add_to_physmap"):
            await m.hypervisor.map(cpu, domain, G, new, page_order=order)

    @m.device("00:1f.0")
    async def reader(device: Device) -> None:
        for count in range(dma):
            await device.read(offset(G, count % page_count(order)))
