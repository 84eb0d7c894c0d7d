"""A new table is entered in three stores: its address, then R, then W; more permissions need a flush (VT-d 6.5.3.3)."""

from emu import Cpu, Dfn, Machine, offset, scenario

G = Dfn(0x1000)


@scenario(
    verdicts="""
    widen=fault neighbour=true | clean  # where the table is there already, no entry is widened
    widen=fault                | stale-fault
    -                          | clean
    """,
    sequential=True,
)
def first_map_under_new_table(m: Machine, *, neighbour: bool = False) -> None:
    """A CPU maps the first page under a new table, whose entry a unit may have cached while it permitted reads only.

    neighbour: another page is mapped there already.
    """
    domain = m.domain(1, devices=("00:1f.0",))
    frame = m.allocate()
    if neighbour:
        m.premap(domain, offset(G, 1), m.allocate())

    @m.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        async with cpu.hypercall("add_to_physmap"):
            await m.hypervisor.map(cpu, domain, G, frame)
