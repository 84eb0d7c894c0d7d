"""Xen locks the grant tables of two domains in the order of their addresses: this is what happens without an order."""

from emu import Cpu, Dfn, Domain, Machine, scenario

G = Dfn(0x1000)


@scenario(
    verdicts="""
    caching_mode=true   | no claim: the flush of a page that was not present names domain id 0
    hook_faults>0       | no claim: v1 loses the error of a hook (D1, D2)
    allocation_faults>0 | no claim: v1 loses the error of a map (D2)
    np_cache=true       | no claim: no flush for a page that was not present
    repaired=true       | clean
    -                   | deadlock
    """
)
def grant_locks_in_either_order(m: Machine, *, repaired: bool = False) -> None:
    """Two domains grant each other a frame, and each CPU locks the grant table of the owner first.

    repaired: both lock that of domain 1 first (double_gt_lock).
    """
    first, second = m.domain(1, devices=("00:1f.0",)), m.domain(2, devices=("00:02.0",))
    frames = {domain.number: m.allocate(domain=domain) for domain in (first, second)}

    async def map_grant(cpu: Cpu, owner: Domain, mapper: Domain) -> None:
        frame = frames[owner.number]
        locks = (first, second) if repaired else (owner, mapper)
        async with cpu.hypercall("grant_table_op"), locks[0].grant_lock.held(cpu), locks[1].grant_lock.held(cpu):
            await m.pages.let_map(cpu, frame, mapper)
            await m.hypervisor.map(cpu, mapper, G, frame)

    m.cpu(0).runs(map_grant, first, second)
    m.cpu(1).runs(map_grant, second, first)
