"""XSA-302 (B42): a device goes back to the hardware domain with writes in its queue that the guest has programmed."""

from emu import CLEAN, DOMID_IO, FOREIGN, Cpu, Device, Dfn, Expectation, Machine, scenario

G = Dfn(0x1000)


def unless_quarantined(*, repaired: bool, **_: object) -> Expectation:
    """In quarantine nothing is mapped: the write faults."""
    return CLEAN if repaired else FOREIGN


@scenario(expect=unless_quarantined)
def device_returned_with_writes_queued(m: Machine, *, repaired: bool = False) -> None:
    """A toolstack takes a device from a guest while a write that the guest has programmed is still to come.

    repaired: the device goes to the quarantine domain, which maps nothing (ba2ab00bbb).
    """
    hardware_domain, quarantine = m.domain(0), m.domain(DOMID_IO)
    guest = m.domain(1, devices=("00:1f.0",))
    m.premap(hardware_domain, G, m.allocate(domain=hardware_domain))
    m.premap(guest, G, m.allocate(domain=guest))

    @m.cpu(0)
    async def toolstack(cpu: Cpu) -> None:
        async with cpu.hypercall("domctl"):
            target = quarantine if repaired else hardware_domain
            await m.assignment.reassign(cpu, guest, target, m.devices["00:1f.0"])

    @m.device("00:1f.0")
    async def writer(device: Device) -> None:
        await device.write_programmed(G, 0xBAD)
