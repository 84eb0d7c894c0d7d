"""B51: commands stay in a CPU's cache, where an SMMUv3 that does not snoop does not see them."""

from emu import OK, Cpu, Dfn, Fix, Machine, scenario

G = Dfn(0x1000)


@scenario(
    verdicts="""
    # The unit stops at a command that is none: what stood in the slot before.
    parameters                                | today
    repaired=true wait_faults>0               | no claim: a CMD_SYNC that is given up passes for completed (B63)
    coherent=false repaired=true              | clean
    coherent=false wait_faults>0              | released,stale,lost-error,deadlock
    coherent=false                            | deadlock
    wait_faults>0                             | no claim: a CMD_SYNC that is given up passes for completed (B63)
    -                                         | clean
    """,
    only={"smmuv3": "other units that do not snoop have no queue, or read it through the caches"},
    sequential=True,
)
def command_left_in_cache(m: Machine, *, repaired: bool = False) -> None:
    """A guest gives a page back that its device has used.

    repaired: the lines of the queue are written back (3a11099edd).
    """
    if not repaired:
        m.driver.fixes.discard(Fix.QUEUE_CLEAN)
    domain = m.domain(1, devices=("00:1f.0",))
    frame = m.allocate(domain=domain)
    m.premap(domain, G, frame, cached=True)

    @m.cpu(0)
    async def owner(cpu: Cpu) -> None:
        async with cpu.hypercall("decrease_reservation"):
            if await m.hypervisor.guest_physmap_remove_page(cpu, domain, G, frame) == OK:
                await m.pages.put(cpu, frame)
