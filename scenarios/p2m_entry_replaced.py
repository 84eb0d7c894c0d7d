"""E1 on Arm: where the p2m replaces an entry, it breaks before it makes for the CPUs, and not for the SMMU."""

from typing import Annotated

import attrs

from emu import Bounds, Cpu, Device, Dfn, Domain, Fix, Machine, Mfn, P2mType, offset, page_count, scenario
from emu.hypervisor.ops import ENOENT
from emu.hypervisor.smmu import find_entry, p2m_force_tlb_flush_sync, p2m_word, p2m_write_lock, p2m_write_pte

G = Dfn(0x1000)


@scenario(
    verdicts="""
    wait_faults>0                                         | no claim: a poll that is given up passes for completed (B63)
    in_place=true flush_between=true break_for_units=true | clean
    in_place=true flush_between=true                      | clean
    flush_between=true break_for_units=true               | clean
    flush_between=true                                    | clean
    in_place=true break_for_units=true                    | no-break
    in_place=true pages=2                                 | no-break
    in_place=true                                         | no-break
    break_for_units=true                                  | no-break  # so it is in all of Xen
    -                                                     | clean  # a call promises nothing before it returns
    """,
    only={"smmu": "elsewhere CPUs do not translate by the units' tables"},
)
def p2m_entry_replaced(
    m: Machine, *, in_place: bool = False, flush_between: bool = False, pages: Annotated[int, Bounds(1, 2)] = 1
) -> None:
    """A CPU adds a page that is mapped already, to another frame, while a device reads it; the p2m flushes the SMMU.

    in_place: the CPU does not clear the old entry, but stores the new one over it, and then flushes all TLBs.
    flush_between: the CPU removes the page first, which flushes all TLBs.
    pages: how many the CPU adds; of two the first is not mapped before.
    """
    m.driver.fixes.add(Fix.HAS_IOMMU)
    domain = m.domain(1, devices=("00:1f.0",))
    old, new, last = m.allocate(domain=domain), m.allocate(page_order=pages - 1, domain=domain), offset(G, pages - 1)
    m.premap(domain, last, old, cached=True)
    if in_place:
        others = {**m.hypervisor.revision.others, "guest_physmap_add_entry": add_in_place}
        m.hypervisor = attrs.evolve(m.hypervisor, revision=attrs.evolve(m.hypervisor.revision, others=others))

    @m.cpu(0)
    async def adder(cpu: Cpu) -> None:
        async with cpu.hypercall("add_to_physmap"):
            if flush_between:
                await m.hypervisor.guest_physmap_remove_page(cpu, domain, last, old)
            await m.hypervisor.guest_physmap_add_entry(cpu, domain, G, new, page_order=pages - 1)

    @m.device("00:1f.0")
    async def reader(device: Device) -> None:
        await device.read(last)


async def add_in_place(cpu: Cpu, domain: Domain, gfn: Dfn, mfn: Mfn, page_order: int, p2m_type: P2mType) -> int:
    """Store the entries of pages over whatever is there, and then flush all TLBs."""
    async with p2m_write_lock(cpu, domain) as p2m:
        for page in range(page_count(page_order)):
            found = await find_entry(p2m, offset(gfn, page), 1, alloc=True)
            if found is None:
                return ENOENT
            word = p2m_word(domain, Mfn(mfn + page), p2m_type)
            await p2m_write_pte(cpu, domain, offset(gfn, page), found[0], word)
        await p2m_force_tlb_flush_sync(p2m)
        return await domain.ops.iotlb_flush_all(cpu, domain)
