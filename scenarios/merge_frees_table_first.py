"""B35: a table whose leaves are merged into a superpage is freed while the entry above still leads to it."""

from emu import Cpu, Dfn, Fix, Machine, Mfn, offset, page_count, scenario

G = Dfn(0x200)


@scenario(
    verdicts="""
    hook_faults>0 | no claim: v1 loses the error of a hook (D1, D2)
    wait_faults>0 | no claim: a flush that is given up is not made again (B55, D19)
    repaired=true | clean
    -             | released
    """,
    sequential=True,
    small={"superpage_bits": "1", "levels": "3"},
    only={"amd": "VT-d's driver of these years knows no superpages"},
)
def merge_frees_table_first(m: Machine, *, repaired: bool = False) -> None:
    """A CPU maps the last page of a block, whose frames follow one another, and the driver merges its leaves.

    repaired: the table is freed after the flush (6b4d71d028).
    """
    m.driver.fixes.discard(Fix.NO_MERGE)
    if not repaired:
        m.driver.fixes.discard(Fix.FREE_AFTER_MERGE)
    domain = m.domain(1, devices=("00:1f.0",))
    order = domain.format.leaf_orders[1]
    frames, last = m.allocate(page_order=order), page_count(order) - 1
    for page in range(last):
        m.premap(domain, offset(G, page), Mfn(frames + page))

    @m.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        async with cpu.hypercall("populate_physmap"):
            await m.hypervisor.map(cpu, domain, offset(G, last), Mfn(frames + last))
