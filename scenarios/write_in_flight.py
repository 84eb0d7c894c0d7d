"""V15, V16: a write that was translated before an invalidation is committed after it, where the unit does not drain."""

from emu import CLEAN, LATE, OK, Cpu, Device, Dfn, Expectation, Machine, scenario

G = Dfn(0x1000)


def unless_drained(*, drain: bool, **_: object) -> Expectation:
    """A unit that drains completes the invalidation only when the write is committed."""
    return CLEAN if drain else LATE


@scenario(expect=unless_drained)
def write_in_flight(m: Machine, *, release: bool = True) -> None:
    """A device posts a write to a page that a CPU unmaps, flushes and gives up: correct software, if the unit drains.

    release: the frame is freed at last.
    """
    domain = m.domain(1, devices=("00:1f.0",))
    frame = m.allocate(domain=domain)
    m.premap(domain, G, frame, cached=True)

    @m.cpu(0)
    async def remover(cpu: Cpu) -> None:
        async with cpu.hypercall("decrease_reservation"):
            if await m.hypervisor.unmap(cpu, domain, G) == OK and release:
                await m.pages.put(cpu, frame)

    @m.device("00:1f.0", posts=True)
    async def writer(device: Device) -> None:
        await device.post(G, 0xBAD)
