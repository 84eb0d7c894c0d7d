"""B33 on Arm: what an entry of the p2m held is freed before the SMMU is flushed, or while nobody flushes it (B30)."""

from enum import Enum

from emu import OK, Cpu, Dfn, Fix, Machine, P2mType, scenario

G = Dfn(0x200)


class Held(Enum):
    """What the entry holds that is removed or replaced."""

    RAM = "ram"  # a page of the domain's own, which the caller frees after the removal
    FOREIGN = "foreign"  # a page of another domain, whose last reference the entry has
    TABLE = "table"  # a table of smaller pages


@scenario(
    verdicts="""
    allocation_faults>0                                          | no claim: a failed allocation is reported
    wait_faults>0                                                | no claim: a given-up poll passes for completed
    held=table superpage_bits=1 repaired=true flushed_first=true | clean
    held=table superpage_bits=1 repaired=true                    | released
    held=table superpage_bits=1                                  | released,stale,stale-fault
    held=table                                                   | no claim: a full table takes thousands of steps
    held=foreign repaired=true flushed_first=true                | clean
    held=foreign repaired=true                                   | released
    held=foreign                                                 | released,stale
    repaired=true                                                | clean  # the caller frees the page after the flush
    -                                                            | released,stale
    """,
    small={"superpage_bits": "1"},
    only={"smmu": "elsewhere the units have tables of their own"},
)
def p2m_page_freed(m: Machine, *, held: Held = Held.RAM, repaired: bool = False, flushed_first: bool = False) -> None:
    """A CPU removes a page, or enters another one or a block in its place; what was there before is freed and reused.

    held: what was there.
    repaired: the p2m flushes the SMMU (9ed527dc95).
    flushed_first: it does so before it frees anything (6718787797).
    """
    m.driver.fixes |= {Fix.HAS_IOMMU} if repaired else set()
    m.driver.fixes |= {Fix.FLUSH_BEFORE_FREE} if flushed_first else set()
    domain, other = m.domain(1, devices=("00:1f.0",)), m.domain(2)
    owner = other if held is Held.FOREIGN else domain
    old = m.allocate(domain=owner)
    m.let_map(old, domain)
    m.premap(domain, G, old, cached=True)
    order = m.unit.format.leaf_orders[1] if held is Held.TABLE else 0
    new = m.allocate(page_order=order, domain=domain)

    @m.cpu(0)
    async def changer(cpu: Cpu) -> None:
        async with cpu.hypercall("memory_op"):
            if held is Held.FOREIGN:
                await m.pages.put(cpu, old)
            if held is Held.RAM:
                result = await m.hypervisor.guest_physmap_remove_page(cpu, domain, G, old)
                if result == OK:
                    await m.pages.put(cpu, old)
            else:
                await m.hypervisor.guest_physmap_add_entry(
                    cpu, domain, G, new, page_order=order, p2m_type=P2mType.RAM_RW
                )

    @m.cpu(1)
    async def allocator(cpu: Cpu) -> None:
        async with cpu.hypercall("populate_physmap"):
            await m.pages.allocate(cpu, other)
