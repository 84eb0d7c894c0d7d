"""B05 on AMD-Vi: an unmap looks for the present bit in the wrong half of the entry, and so may ask for no flush."""

from typing import Annotated

from emu import Bounds, Cpu, Device, Dfn, Fix, Machine, Mfn, scenario

G = Dfn(0x1000)
FRAMES = (Mfn(0x80000), Mfn(0x300000))
"""A frame at 2 GiB and one at 12 GiB: bit 32 of the address is 0 and 1."""


@scenario(
    verdicts="""
    # Until an unmap reported what it had found, the wrapper or the hook flushed in any case.
    parameters    | implicit | v1    | merged         | flush_on_error
    hook_faults>0 | no claim: v1 loses the error of a hook (D1, D2)
    wait_faults>0 | no claim: a wait that is given up passes for completed (B55)
    repaired=true | clean
    bit_32=1      | clean  # what is found in the wrong half is right by chance
    -             | clean    | clean | stale:observed | stale:observed
    """,
    only={"amd": "the driver for VT-d reads an entry as one number"},
)
def unmap_looks_in_wrong_half(m: Machine, *, repaired: bool = False, bit_32: Annotated[int, Bounds(0, 1)] = 0) -> None:
    """A CPU unmaps a page, and takes bit 32 of the address of its frame for the present bit; a device reads the page.

    repaired: the present bit is looked for in the low half (ba9b5a09da).
    bit_32: the bit.
    """
    if not repaired:
        m.driver.fixes.remove(Fix.PRESENT_BIT)
    domain = m.domain(1, devices=("00:1f.0",))
    m.premap(domain, G, m.allocate(at=FRAMES[bit_32]), cached=True)
    unmapped = m.signal("unmapped")

    @m.cpu(0)
    async def unmapper(cpu: Cpu) -> None:
        async with cpu.hypercall("remove_from_physmap"):
            await m.hypervisor.unmap(cpu, domain, G)
        await unmapped.send()

    @m.device("00:1f.0")
    async def reader(device: Device) -> None:
        await unmapped.wait()
        await device.read(G)
