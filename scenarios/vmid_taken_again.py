"""A VMID is freed with a domain's last device, and taken again: nothing that is cached under it is invalidated."""

from enum import Enum

from emu import Cpu, Dfn, Machine, scenario

G = Dfn(0x1000)


class Taker(Enum):
    """The domain that takes the VMID."""

    OTHER = "other"
    SAME = "same"  # it changes a page meanwhile, and has no context that could be flushed


@scenario(
    verdicts="""
    # The driver has no repair: it invalidates all VMIDs when it starts, and none later.
    parameters            | today
    coherent=false        | no claim: lines of the stream table are never written back
    wait_faults>0         | no claim: a CMD_SYNC that is given up passes for completed (B63)
    in_use=true           | clean  # the VMID is not freed
    taker=same            | stale
    -                     | not-isolated
    """,
    only={"smmuv3": "elsewhere a domain's tag is its own, or what is cached under it is flushed when it is freed"},
    sequential=True,
)
def vmid_taken_again(m: Machine, *, taker: Taker = Taker.OTHER, in_use: bool = False) -> None:
    """A toolstack takes a guest's device, a page of the guest is removed, and the device is given to a guest.

    taker: that guest.
    in_use: the first guest has another device behind the unit, and keeps it.
    """
    nic, disk = "00:1f.0", "00:02.0"
    domain, other = m.domain(1, devices=(nic, disk) if in_use else (nic,)), m.domain(2)
    frame = m.allocate(domain=domain)
    m.premap(domain, G, frame, cached=True)

    @m.cpu(0)
    async def toolstack(cpu: Cpu) -> None:
        async with cpu.hypercall("domctl"):
            await m.assignment.detach(cpu, domain, m.devices[nic])
        if taker is Taker.SAME:
            async with cpu.hypercall("remove_from_physmap"):
                await m.hypervisor.guest_physmap_remove_page(cpu, domain, G, frame)
        async with cpu.hypercall("domctl"):
            await m.assignment.attach(cpu, domain if taker is Taker.SAME else other, m.devices[nic])
