"""A new table is entered in three stores: its address, then R, then W; more permissions need a flush (VT-d 6.5.3.3).

`-p allocation_faults=1` lets the allocation of the table fail; without it a map that calls this a success is not found.
"""

from emu import Cpu, Dfn, Machine, offset, scenario

G = Dfn(0x1000)


@scenario(
    verdicts="""
    # Where the table exists already, no entry is widened, and no memory is needed. With v1 the result of the flush
    # replaces that of the map. A failed allocation that is reported as a success shows with allocation_faults=1 only.
    parameters                      | implicit    | v1                     | merged      | flush_on_error
    caching_mode=true               | no claim: the flush of a page that was not present names domain id 0
    hook_faults>0                   | no claim: v1 loses the error of a hook (D1, D2)
    np_cache=true                   | stale-fault,lost-error  # no flush for a page that was not present
    iommu=amd allocation_faults>0   | clean       | lost-error             | clean       | clean
    iommu=amd                       | clean  # the present bit of the entry is stored last
    widen=fault neighbour=true      | clean
    neighbour=true                  | clean
    widen=fault allocation_faults>0 | stale-fault | lost-error,stale-fault | stale-fault | stale-fault
    allocation_faults>0             | clean       | lost-error             | clean       | clean
    widen=fault                     | stale-fault
    -                               | clean
    """,
    sequential=True,
)
def first_map_under_new_table(m: Machine, *, neighbour: bool = False) -> None:
    """A CPU maps the first page under a new table; a unit may have cached the table's entry while that had only R.

    neighbour: another page is mapped under the same table already.
    """
    domain = m.domain(1, devices=("00:1f.0",))
    frame = m.allocate()
    if neighbour:
        m.premap(domain, offset(G, 1), m.allocate())

    @m.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        async with cpu.hypercall("add_to_physmap"):
            await m.hypervisor.map(cpu, domain, G, frame)
