"""R2: the second of two CPUs that unmap a page finds nothing to do, and returns before the first has flushed."""

from emu import CLEAN, STALE, Cpu, Dfn, Expectation, Machine, OuterLock, PageOrder, scenario

G = Dfn(0x1000)


def unless_every_unmap_flushes(*, outer_lock: OuterLock, revision: str, coherent: bool, **_: object) -> Expectation:
    """An unmap of v1 flushes whatever it finds; a walk that does not snoop may undo even that (D21)."""
    if outer_lock is not OuterLock.NONE:
        return CLEAN
    return STALE if revision in {"implicit", "merged", "flush_on_error"} or not coherent else CLEAN


@scenario(expect=unless_every_unmap_flushes)
def unmap_twice_before_flush(m: Machine, *, order: PageOrder = 0, outer_lock: OuterLock = OuterLock.NONE) -> None:
    """Two CPUs unmap one page: one clears its entry, the other finds it cleared and returns before the flush."""
    domain = m.domain(1, devices=("00:1f.0",))
    m.premap(domain, G, m.allocate(page_order=order), page_order=order, cached=True)

    async def unmapper(cpu: Cpu) -> None:
        async with cpu.hypercall("remove_from_physmap"), domain.outer_lock(cpu, outer_lock):
            await m.hypervisor.unmap(cpu, domain, G, page_order=order)

    for number in range(2):
        m.cpu(number).runs(unmapper)
