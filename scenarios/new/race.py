"""A race to begin with. `emu explore` executes every interleaving of it that matters, and `emu run` shows one."""

from emu import Cpu, Dfn, Machine, scenario

PAGE = Dfn(0x1000)
"""The device frame number of the page. Change it, or add more pages."""


@scenario(
    # What an exploration is to show: `clean`, or a kind of finding; `emu explain` lists the kinds. The first row whose
    # conditions hold counts. If what is found is not what stands here, `emu explore` says so, with exit status 1.
    verdicts="""
    repaired=true | clean
    -             | stale
    """
)
def race(m: Machine, *, repaired: bool = False) -> None:
    """CPU 1 maps a page anew that CPU 0 has unmapped and not yet flushed.

    repaired: CPU 1 waits until CPU 0's unmap has returned.
    """
    # What stands there before the first step: a domain with a device, and a page that the device has used, so that the
    # IOTLB holds its translation. A parameter of yours is a keyword above, which `-p NAME=VALUE` sets.
    domain = m.domain(1, devices=("00:1f.0",))
    m.premap(domain, PAGE, m.allocate(), cached=True)
    new = m.allocate()
    unmapped = m.signal("unmapped")

    # What each CPU does. An `await` is a place where another CPU may run, and nothing else is: put your own calls
    # here, such as `await m.hypervisor.flush(cpu, domain, PAGE, pages=1)`.
    @m.cpu(0)
    async def unmapper(cpu: Cpu) -> None:
        await m.hypervisor.unmap(cpu, domain, PAGE)
        await unmapped.send()

    @m.cpu(1)
    async def mapper(cpu: Cpu) -> None:
        if repaired:
            await unmapped.wait()
        await m.hypervisor.map(cpu, domain, PAGE, new)

    # A device is not needed to find a stale translation: `emu explore` adds the read that shows it. Where the question
    # is about the device itself, let one run: `@m.device("00:1f.0")`, and in it `await device.read(PAGE)`.
