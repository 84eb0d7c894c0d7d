"""XSA-302 (B42): a device goes back to the hardware domain with writes in its queue that the guest has programmed."""

from typing import Annotated

from emu import DOMID_IO, Bounds, Cpu, Device, Dfn, Machine, scenario

G = Dfn(0x1000)
BDFS = ("00:1f.0", "00:1f.1")


@scenario(
    verdicts="""
    iommu=amd wait_faults>0 | no claim: a wait that is given up passes for completed (B55)
    iommu=amd repaired=true | not-isolated  # between the two domains the device passes untranslated
    iommu=amd               | foreign-access,not-isolated
    devices=2 repaired=true | clean
    repaired=true           | clean  # in quarantine nothing is mapped: the write faults
    devices=2               | foreign-access
    -                       | foreign-access
    """
)
def device_returned_with_writes_queued(
    m: Machine, *, repaired: bool = False, devices: Annotated[int, Bounds(1, len(BDFS))] = 1
) -> None:
    """A toolstack takes a device from a guest while a write that the guest has programmed is still pending.

    repaired: the device goes to the quarantine domain, which maps nothing (ba2ab00bbb).
    devices: how many devices the toolstack takes, one after the other; the last has the write in its queue.
    """
    bdfs = BDFS[:devices]
    hardware_domain, quarantine = m.domain(0), m.domain(DOMID_IO)
    guest = m.domain(1, devices=bdfs)
    m.premap(hardware_domain, G, m.allocate(domain=hardware_domain))
    m.premap(guest, G, m.allocate(domain=guest))

    @m.cpu(0)
    async def toolstack(cpu: Cpu) -> None:
        async with cpu.hypercall("domctl"):
            target = quarantine if repaired else hardware_domain
            for bdf in bdfs:
                await m.assignment.reassign(cpu, guest, target, m.devices[bdf])

    @m.device(bdfs[-1])
    async def writer(device: Device) -> None:
        await device.write_programmed(G, 0xBAD)
