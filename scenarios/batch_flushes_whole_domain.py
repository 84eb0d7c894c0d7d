"""A batch puts its flushes off and makes up for them with one flush of the whole domain.

`-p coherent=false` shows a map that does not write its entry back, or does so before the store.
"""

from emu import Cpu, Dfn, Machine, iommu_dont_flush_iotlb, offset, scenario

G = Dfn(0x1000)
PAGES = (G, offset(G, 2))


@scenario(
    verdicts="""
    # A missing write-back of an entry, or one before its store, shows with coherent=false only.
    wait_faults>0  | no claim: a flush that is given up is not made again (B55, D19)
    coherent=false | clean
    -              | clean
    """,
    sequential=True,
)
def batch_flushes_whole_domain(m: Machine) -> None:
    """A batch replaces pages that lie apart, flushes the whole domain at the end, and frees the displaced frames."""
    domain = m.domain(1, devices=("00:1f.0",))
    old, new = ([m.allocate(domain=domain) for _ in PAGES] for _ in range(2))
    for dfn, mfn in zip(PAGES, old, strict=True):
        m.premap(domain, dfn, mfn, cached=True)

    @m.cpu(0)
    async def batch(cpu: Cpu) -> None:
        async with cpu.hypercall("add_to_physmap_range"):
            await cpu.write(iommu_dont_flush_iotlb, True)
            results = [await m.hypervisor.map(cpu, domain, dfn, mfn) for dfn, mfn in zip(PAGES, new, strict=True)]
            await cpu.write(iommu_dont_flush_iotlb, False)
            results.append(await m.hypervisor.flush_all(cpu, domain))
            if not any(results):
                for mfn in old:
                    await m.pages.put(cpu, mfn)
