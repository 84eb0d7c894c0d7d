"""A guest's tables get more levels while a device of the guest uses them."""

from emu import Cpu, Device, Dfn, Machine, scenario

G = Dfn(0x1000)
BEYOND = Dfn(1 << 18)


@scenario(
    verdicts="""
    # Only AMD's driver lets tables grow.
    hook_faults>0       | no claim: v1 loses the error of a hook (D1, D2)
    allocation_faults>0 | no claim: v1 loses the error of a map (D2)
    wait_faults>0       | no claim: a flush that is given up is not made again (B55, D19)
    caching_mode=true   | no claim: the flush of a page that was not present names domain id 0
    np_cache=true       | stale-fault  # no flush for a page that was not present
    -                   | clean
    """
)
def grow_tables_while_device_reads(m: Machine) -> None:
    """A CPU maps a page that two levels of tables do not reach, while a device reads another page."""
    domain = m.domain(1, devices=("00:1f.0",), is_hvm=True)
    m.premap(domain, G, m.allocate(domain=domain), cached=True)
    frame = m.allocate(domain=domain)

    @m.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        async with cpu.hypercall("add_to_physmap"):
            await m.hypervisor.map(cpu, domain, BEYOND, frame)

    @m.device("00:1f.0")
    async def reader(device: Device) -> None:
        await device.read(G)
