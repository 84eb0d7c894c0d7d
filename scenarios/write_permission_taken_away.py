"""XSA-275 (B21) on VT-d: a page keeps its frame and loses a permission, which needs a flush like any change."""

from emu import Cpu, Device, Dfn, Machine, MapFlags, scenario

G = Dfn(0x1000)


@scenario(
    verdicts="""
    hook_faults>0 | no claim: v1 loses the error of a hook (D1, D2)
    wait_faults>0 | no claim: a flush that is given up is not made again (B55, D19)
    -             | clean
    """
)
def write_permission_taken_away(m: Machine) -> None:
    """A CPU maps a page to the same frame once more, read-only, and a device tries to write to it afterwards."""
    domain = m.domain(1, devices=("00:1f.0",))
    frame = m.allocate(domain=domain)
    m.premap(domain, G, frame, cached=True)
    protected = m.signal("protected")

    @m.cpu(0)
    async def protector(cpu: Cpu) -> None:
        async with cpu.hypercall("shadow_op"):
            await m.hypervisor.map(cpu, domain, G, frame, flags=MapFlags.READABLE)
        await protected.send()

    @m.device("00:1f.0")
    async def writer(device: Device) -> None:
        await protected.wait()
        await device.read(G)
        await device.write(G, 0xBAD)
