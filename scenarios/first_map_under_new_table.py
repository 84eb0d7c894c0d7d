"""A new table is entered in three stores: its address, then R, then W; more permissions need a flush (VT-d 6.5.3.3).

`-p allocation_faults=1` lets there be no memory for the table: only so does it show that a map calls that a success.
"""

from emu import CLEAN, LOST_ERROR, STALE_FAULT, Cpu, Dfn, Expectation, Machine, offset, scenario

G = Dfn(0x1000)


def if_widening_faults(
    *, neighbour: bool, widen: str, allocation_faults: int, revision: str, **_: object
) -> Expectation:
    """Where the table is there already, no entry is widened, and no memory is needed.

    With v1 the result of the flush replaces that of the map.
    """
    widened = STALE_FAULT if widen == "fault" else CLEAN
    lost = LOST_ERROR if allocation_faults and revision == "v1" else CLEAN
    if neighbour:
        return CLEAN
    return lost.with_also(widened) if lost.kind else widened


@scenario(expect=if_widening_faults, sequential=True)
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
