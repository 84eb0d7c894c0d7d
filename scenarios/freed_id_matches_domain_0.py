"""XSA-399 (B64) for the hardware domain: the map has 0 for a freed id, and 0 is the hardware domain's number.

It matters if the hardware domain's id on the unit is higher than the guest's: a look-up of a domain's id begins with
the lowest id.
"""

from enum import Enum

from emu import Cpu, Dfn, Fix, Machine, scenario

G = Dfn(0x1000)


class Beside(Enum):
    """The change of an id while the hardware domain's id is looked up."""

    TAKEN = "taken"
    FREED = "freed"


@scenario(
    verdicts="""
    # A CPU that takes an id writes its owner first, so no CPU sees the id taken and owned by domain 0.
    hook_faults>0              | no claim: v1 loses the error of a hook (D1, D2)
    wait_faults>0              | no claim: a flush that is given up is not made again (B55, D19)
    beside=freed repaired=true | clean
    beside=freed               | stale
    -                          | clean
    """,
    only={"vtd": "on AMD-Vi the id is the domain's number, which nobody takes, frees or looks up"},
)
def freed_id_matches_domain_0(m: Machine, *, beside: Beside = Beside.TAKEN, repaired: bool = False) -> None:
    """CPU 0 moves a guest's only device to another guest; CPU 1 unmaps a page of the hardware domain meanwhile.

    beside: CPU 1 does so while the other guest takes the freed id, or earlier, while the id is freed.
    repaired: the map has no domain's number for a freed id (d9eca7bb6c).
    """
    if repaired:
        m.driver.fixes.add(Fix.XSA_399)
    old, new = m.domain(1, devices=("00:02.0",)), m.domain(2)
    hardware_domain, device = m.domain(0, devices=("00:1f.0",)), m.devices["00:02.0"]
    m.premap(hardware_domain, G, m.allocate(), cached=True)
    freed = m.signal("freed")

    @m.cpu(0)
    async def toolstack(cpu: Cpu) -> None:
        async with cpu.hypercall("domctl"):
            await m.assignment.detach(cpu, old, device)
            if beside is Beside.TAKEN:
                await freed.send()
                await m.assignment.attach(cpu, new, device)

    @m.cpu(1)
    async def unmapper(cpu: Cpu) -> None:
        if beside is Beside.TAKEN:
            await freed.wait()
        async with cpu.hypercall("remove_from_physmap"):
            await m.hypervisor.unmap(cpu, hardware_domain, G)
