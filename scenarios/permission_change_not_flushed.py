"""XSA-275 (B21): an entry that keeps its frame and loses a permission does not count as changed."""

from emu import Cpu, Device, Dfn, Fix, Machine, MapFlags, scenario

G = Dfn(0x1000)


@scenario(
    verdicts="""
    hook_faults>0 | no claim: v1 loses the error of a hook (D1, D2)
    wait_faults>0 | no claim: a flush that is given up is not made again (B55, D19)
    repaired=true | clean
    -             | stale
    """,
    only={"amd": "VT-d's driver compares the whole entry"},
)
def permission_change_not_flushed(m: Machine, *, repaired: bool = False) -> None:
    """A CPU maps a page to the same frame once more, read-only, and a device tries to write to it afterwards.

    repaired: an entry with other permissions counts as changed (1a7ffe466c).
    """
    if not repaired:
        m.driver.fixes.discard(Fix.XSA_275)
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
        await device.write(G, 0xBAD)
