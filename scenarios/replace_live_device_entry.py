"""XSA-347 (B48): a device's entry is replaced in two stores, and between them it has the new tables and the old id."""

from emu import Cpu, Device, Dfn, Fix, Machine, scenario

G = Dfn(0x1000)


@scenario(
    verdicts="""
    wait_faults>0 | no claim: a flush that is given up is not made again (B55, D19)
    repaired=true | clean
    -             | foreign-access
    """,
    only={"amd": "VT-d's context entries are cleared before they are written anew"},
)
def replace_live_device_entry(m: Machine, *, repaired: bool = False) -> None:
    """A CPU moves one of two devices; what that finds meanwhile is cached under the id of the domain that it leaves.

    repaired: the entry is replaced in one store of 128 bits (3fc44151d8).
    """
    m.driver.fixes |= {Fix.LIVE_ENTRY, Fix.WHOLE_ENTRY} if repaired else {Fix.LIVE_ENTRY}
    first, second = m.domain(1, devices=("00:1f.0", "00:02.0")), m.domain(2)
    for domain in (first, second):
        m.premap(domain, G, m.allocate(domain=domain))

    cached = m.signal("cached")

    @m.cpu(0)
    async def toolstack(cpu: Cpu) -> None:
        async with cpu.hypercall("domctl"):
            await m.assignment.reassign(cpu, first, second, m.devices["00:02.0"])

    @m.device("00:02.0")
    async def moved(device: Device) -> None:
        await device.read(G)
        await cached.send()

    @m.device("00:1f.0")
    async def staying(device: Device) -> None:
        await cached.wait()
        await device.write_programmed(G, 0xBAD)
