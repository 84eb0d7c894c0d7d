"""A device that is moved from one domain to another makes an access meanwhile."""

from emu import Cpu, Device, Dfn, Fix, Machine, scenario

G = Dfn(0x1000)


@scenario(
    verdicts="""
    # Between its two domains the device has a cleared entry: VT-d blocks its requests, AMD-Vi lets them through.
    wait_faults>0           | no claim: a flush that is given up is not made again (B55, D19)
    iommu=amd repaired=true | clean
    iommu=amd               | not-isolated
    -                       | clean
    """
)
def access_while_reassigned(m: Machine, *, repaired: bool = False) -> None:
    """A CPU moves a device to another domain while the device writes to the frame that has the number of the page.

    repaired: a detached device's requests are aborted (1b00c16bdf); it matters on AMD-Vi.
    """
    first, second = m.domain(1, devices=("00:1f.0",)), m.domain(2)
    frame = m.allocate(domain=second)
    page = Dfn(frame)
    if repaired and Fix.ABORT in m.driver.known_fixes:
        m.driver.fixes.add(Fix.ABORT)

    @m.cpu(0)
    async def toolstack(cpu: Cpu) -> None:
        async with cpu.hypercall("domctl"):
            await m.assignment.reassign(cpu, first, second, m.devices["00:1f.0"])

    @m.device("00:1f.0")
    async def writer(device: Device) -> None:
        await device.write(page, 0xBAD)
