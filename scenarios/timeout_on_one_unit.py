"""D22 (B09): the flush of one unit times out, and the success on the next unit replaces the error."""

from emu import Cpu, Dfn, Fix, Machine, scenario

G = Dfn(0x1000)


@scenario(
    verdicts="""
    repaired=true | clean  # a call that returns the error promises nothing
    -             | stale,lost-error
    """,
    sequential=True,
    small={"synchronous": "false"},
    only={"vtd": "on AMD-Vi no flush returns an error, so none is replaced"},
)
def timeout_on_one_unit(m: Machine, *, repaired: bool = False) -> None:
    """A CPU unmaps a page that two units translate, and may give up waiting for either of them.

    repaired: the first error is kept (e7059776f9).
    """
    if repaired:
        m.driver.fixes.add(Fix.FIRST_ERROR)
    m.scope(1, "01:00.0")
    domain = m.domain(1, devices=("00:1f.0", "01:00.0"))
    m.premap(domain, G, m.allocate(), cached=True)
    m.allow_faults(waits=1)

    @m.cpu(0)
    async def unmapper(cpu: Cpu) -> None:
        async with cpu.hypercall("remove_from_physmap"):
            await m.hypervisor.unmap(cpu, domain, G)
