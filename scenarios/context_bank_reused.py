"""B63 and reuse: a context bank is freed although the SMMU has not answered, and the next domain gets its VMID."""

from emu import OK, Cpu, Device, Dfn, Machine, scenario

G = Dfn(0x1000)


@scenario(
    verdicts="""
    answered=true wait_faults>0 | no claim: a poll that is given up passes for completed (B63)
    answered=true               | clean
    -                           | not-isolated,stale
    """,
    small={"synchronous": "false"},
    only={"smmu": "other units tag what they cache by the number of the domain, or by an id that is freed otherwise"},
)
def context_bank_reused(m: Machine, *, answered: bool = False) -> None:
    """A domain loses its device, and another domain gets one; it meets what is cached for the first.

    answered: the CPU never gives up waiting for the SMMU.
    """
    first, second = m.domain(1, devices=("00:1f.0",)), m.domain(2)
    frame = m.allocate(domain=first)
    m.premap(first, G, frame, cached=True)
    device, attached = m.devices["00:1f.0"], m.signal("attached")
    if not answered:
        m.allow_faults(waits=1)

    @m.cpu(0)
    async def toolstack(cpu: Cpu) -> None:
        async with cpu.hypercall("assign_device"):
            if await m.assignment.detach(cpu, first, device) == OK:
                await m.assignment.attach(cpu, second, device)
        await attached.send()

    @m.device("00:1f.0")
    async def reader(device: Device) -> None:
        await attached.wait()
        await device.read(G)
