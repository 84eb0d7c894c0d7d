"""R5, XSA-399 (B64): a domain id can be taken again before the CPU that frees the id has cleared its owner."""

from typing import Annotated

from emu import Bounds, Cpu, Dfn, Fix, Machine, scenario

G = Dfn(0x1000)


@scenario(
    verdicts="""
    # The flush of every revision skips a unit on which the domain has no id.
    hook_faults>0         | no claim: v1 loses the error of a hook (D1, D2)
    units=2 repaired=true | clean
    repaired=true         | clean
    units=2               | stale
    -                     | stale
    """,
    # Derived: on AMD-Vi a domain's entries have its number as their tag on every unit. No CPU takes, frees or looks up
    # an id, so none can find one that is half freed, and every flush reaches every unit.
    only={"vtd": "on AMD-Vi the id is the domain's number, which nobody takes, frees or looks up"},
)
def domain_id_freed_too_early(m: Machine, *, repaired: bool = False, units: Annotated[int, Bounds(1, 2)] = 1) -> None:
    """CPU 0 detaches the last device of domain 1; CPU 1 attaches a device to domain 2 and unmaps a page of domain 2.

    repaired: the owner of an id is cleared before its bit is (d9eca7bb6c).
    units: with 2, both devices stand behind the second unit, and domain 2 has another device behind the first.
    """
    if repaired:
        m.driver.fixes.add(Fix.XSA_399)
    if units == 2:
        m.scope(1, "00:1f.0", "00:02.0")
    old, new = m.domain(1, devices=("00:1f.0",)), m.domain(2, devices=("01:00.0",)[: units - 1])
    m.premap(new, G, m.allocate())
    device = m.plug("00:02.0")

    @m.cpu(0)
    async def destroyer(cpu: Cpu) -> None:
        async with cpu.hypercall("domctl"):
            await m.assignment.detach(cpu, old, m.devices["00:1f.0"])

    @m.cpu(1)
    async def builder(cpu: Cpu) -> None:
        async with cpu.hypercall("domctl"):
            await m.assignment.attach(cpu, new, device)
        async with cpu.hypercall("remove_from_physmap"):
            await m.hypervisor.unmap(cpu, new, G)
