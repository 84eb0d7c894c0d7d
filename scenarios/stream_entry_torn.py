"""Torn: a detach clears the word with the VMID and the control of the walks before the first word is invalidated.

A unit of 64-bit reads that has read the first word before finds an entry without S2AA64: tables of AArch32, beginning a
level further down. A unit that walks such tables takes the highest table for one of the next level, and so the lowest
tables for pages: the device reaches the page tables themselves. A unit that does not aborts the request. Linux and the
manual clear V alone, wait, and only then the rest.
"""

from emu import Cpu, Device, Dfn, Machine, scenario

G = Dfn(0x2000)
"""The entry of its second-lowest table is number 0x10 of that table."""

TORN = Dfn(0x10)
"""Where that entry stands for a page, in tables that begin a level further down."""


@scenario(
    verdicts="""
    parameters              | today
    coherent=false          | no claim: lines of the stream table are never written back
    wait_faults>0           | no claim: a CMD_SYNC that is given up passes for completed (B63)
    aarch32=true quiet=true | clean
    aarch32=true            | not-isolated
    -                       | clean  # the entry is not legal: the unit aborts the request
    """,
    only={"smmuv3": "other units find no entry whose words were read before and after a change"},
    small={"walk_at_once": "false"},
)
def stream_entry_torn(m: Machine, *, quiet: bool = False) -> None:
    """A toolstack takes a device from a guest while the device writes to a page that the guest does not have.

    quiet: the device was stopped before.
    """
    domain = m.domain(1, devices=("00:1f.0",))
    m.premap(domain, G, m.allocate(domain=domain))
    detached = m.signal("detached")

    @m.cpu(0)
    async def toolstack(cpu: Cpu) -> None:
        async with cpu.hypercall("domctl"):
            await m.assignment.detach(cpu, domain, m.devices["00:1f.0"])
        await detached.send()

    @m.device("00:1f.0")
    async def user(device: Device) -> None:
        if quiet:
            await detached.wait()
        await device.write(TORN, 0xBAD)
