"""B56 on AMD-Vi: a command for which the command buffer has no room is dropped, and no caller looks at the result."""

from emu import OK, Cpu, Dfn, Fix, Machine, Mfn, offset, scenario

G = Dfn(0x1000)


@scenario(
    verdicts="""
    # A flush posts two commands under the unit's lock. A ring of two slots is full when it holds one.
    hook_faults>0                 | no claim: v1 loses the error of a hook (D1, D2)
    wait_faults>0                 | no claim: a wait that is given up passes for completed (B55)
    queue_entries=2 repaired=true | clean
    queue_entries=2               | released,stale
    -                             | clean
    """,
    small={"queue_entries": "2", "synchronous": "false"},
    only={"amd": "on VT-d a CPU waits for room in the invalidation queue"},
)
def command_buffer_full(m: Machine, *, repaired: bool = False) -> None:
    """Two CPUs unmap a page each and free its frame, while the unit is slow to fetch their commands.

    It shows with few slots only, such as `-p queue_entries=2`.

    repaired: a CPU waits for room (c4e4434357).
    """
    if repaired:
        m.driver.fixes.add(Fix.RING_ROOM)
    domain = m.domain(1, devices=("00:1f.0",))
    frames = m.allocate(page_order=1, domain=domain)
    m.premap(domain, G, frames, page_order=1, cached=True)

    async def remover(cpu: Cpu, page: int) -> None:
        async with cpu.hypercall("decrease_reservation"):
            if await m.hypervisor.unmap(cpu, domain, offset(G, page)) == OK:
                await m.pages.put(cpu, Mfn(frames + page))

    for number in range(2):
        m.cpu(number).runs(remover, number)
