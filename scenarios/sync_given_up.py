"""B63 on the SMMUv3: a CMD_SYNC that was given up after a second passes for completed, and the caller is not told."""

from emu import OK, Cpu, Dfn, Machine, scenario

G = Dfn(0x1000)


@scenario(
    verdicts="""
    parameters   | today
    given_up=false wait_faults>0  | no claim: then it may be given up all the same
    given_up=false                | clean
    -                             | released,lost-error,stale
    """,
    only={"smmuv3": "of other units' flushes page_changed_by_callers and timeout_of_flush tell"},
    sequential=True,
)
def sync_given_up(m: Machine, *, given_up: bool = True) -> None:
    """A guest gives a page back that its device has used, and the CPU gives up waiting for the flush.

    given_up: it may do so.
    """
    domain = m.domain(1, devices=("00:1f.0",))
    frame = m.allocate(domain=domain)
    m.premap(domain, G, frame, cached=True)
    m.allow_faults(waits=int(given_up))

    @m.cpu(0)
    async def owner(cpu: Cpu) -> None:
        async with cpu.hypercall("decrease_reservation"):
            if await m.hypervisor.guest_physmap_remove_page(cpu, domain, G, frame) == OK:
                await m.pages.put(cpu, frame)
