"""Weaker hardware never shows less: what a coherent unit without a write buffer shows, every weaker one shows, too.

Programs are drawn at random, of CPUs alone; the causes that an exploration finds are compared, not how often it does.
"""

import random

import pytest

from emu import CLEAN, Cpu, Dfn, Domain, Machine, Mfn, iommu_dont_flush_iotlb, offset
from emu.checks.signatures import Signature
from emu.running.exploration import ScenarioExploration
from emu.running.plan import Plan
from emu.scenarios.scenario import Scenario, scenario

G = Dfn(0x1000)
PAGES, FRAMES = 2, 2
SMALL = {"synchronous": "true", "revision": "merged"}
WEAKER = {
    "vtd": ("levels=3", ("coherent=false", "write_buffer=true", "coherent=false write_buffer=true")),
    "smmu": ("ipa_bits=32", ("coherent=false",)),
}
"""For each vendor the settings of small machines, and the weaker hardware that it may have."""

STRONG_MAX, WEAK_MAX = 20, 120
"""Programs of more traces are left out: always the same ones."""

Step = tuple[str, int, int]
Plans = list[list[list[Step]]]
"""For each CPU its hypercalls, each a list of steps: what is done, to which page, with which frame."""


def drawn(seed: int) -> Plans:
    """Return what each of one or two CPUs does; a hypercall that begins with "defer" puts its flushes off."""
    generator = random.Random(seed)

    def pick(number: int) -> int:
        return int(generator.random() * number)

    def step() -> Step:
        what = ("map", "unmap", "map", "unmap", "flush", "put")[pick(6)]
        return what, pick(PAGES), pick(FRAMES)

    def hypercall() -> list[Step]:
        steps = [step() for _ in range(1 + pick(3))]
        return [("defer", 0, 0), *steps] if pick(2) else steps

    cpus = 1 + (pick(4) == 0)
    return [[hypercall() for _ in range(1 + pick(3 - cpus))] for _ in range(cpus)]


def program(plans: Plans, vendor: str) -> Scenario:
    """Return a scenario in which the CPUs do so. The frames belong to a domain without a device."""

    def build(m: Machine) -> None:
        domain, owner = m.domain(1, devices=("00:1f.0",)), m.domain(2)
        frames = [m.allocate(domain=owner) for _ in range(FRAMES)]
        m.premap(domain, G, frames[0])
        for number, plan in enumerate(plans):
            m.cpu(number).runs(work, m, domain, frames, plan)

    only = {vendor: "programs are explored on one vendor's hardware at a time"}
    return scenario(expect=CLEAN, sequential=True, only=only)(build)


async def work(cpu: Cpu, m: Machine, domain: Domain, frames: list[Mfn], plan: list[list[Step]]) -> None:
    """Make the hypercalls of a plan. Each CPU frees one frame, the one of its own number, when it is first told to."""
    held = [frames[cpu.number]]
    for steps in plan:
        async with cpu.hypercall("drawn"):
            for what, page, frame in steps:
                if what == "defer":
                    await cpu.write(iommu_dont_flush_iotlb, True)
                elif domain.cpu_tlb is not None and what in {"map", "unmap"}:
                    await change_p2m(cpu, m, domain, offset(G, page), frames[frame] if what == "map" else None)
                elif what == "map":
                    await m.hypervisor.map(cpu, domain, offset(G, page), frames[frame])
                elif what == "unmap":
                    await m.hypervisor.unmap(cpu, domain, offset(G, page))
                elif what == "flush":
                    await m.hypervisor.flush(cpu, domain, offset(G, page), pages=1)
                elif held:
                    await m.pages.put(cpu, held.pop())
            await cpu.write(iommu_dont_flush_iotlb, False)


async def change_p2m(cpu: Cpu, m: Machine, domain: Domain, gfn: Dfn, mfn: Mfn | None) -> None:
    """Map a page, or unmap it where there is no frame."""
    if mfn is None:
        await m.hypervisor.guest_physmap_remove_page(cpu, domain, gfn, Mfn(0))
    else:
        await m.hypervisor.guest_physmap_add_entry(cpu, domain, gfn, mfn)


def causes(plans: Plans, vendor: str, parameters: str, executions: int) -> set[Signature] | None:
    """Return what all traces of a program show together; None where there are too many."""
    small, _ = WEAKER[vendor]
    values = {**SMALL, "iommu": vendor, **dict(pair.split("=") for pair in f"{small} {parameters}".split())}
    done = ScenarioExploration(program(plans, vendor).bind(values), __file__, Plan(executions=executions, shrink=None))
    done.on("direct")
    assert done.failure is None
    return set(done.causes) if done.is_exhausted else None


def compared(seeds: range, vendor: str) -> tuple[int, int]:
    """Compare programs; return how many show anything, and how many were compared altogether."""
    shown = both = 0
    for seed in seeds:
        plans = drawn(seed)
        strong = causes(plans, vendor, "", STRONG_MAX)
        if strong is None:
            continue
        for parameters in WEAKER[vendor][1]:
            weak = causes(plans, vendor, parameters, WEAK_MAX)
            assert weak is None or strong <= weak, (seed, parameters, plans)
            both += weak is not None
        shown += bool(strong)
    return shown, both


@pytest.mark.parametrize("vendor", WEAKER)
def test_what_a_coherent_unit_without_a_write_buffer_shows_every_weaker_one_shows_too(vendor: str) -> None:
    shown, both = compared(range(12, 18), vendor)
    assert shown >= 2
    assert both >= 4 * len(WEAKER[vendor][1])


@pytest.mark.long
@pytest.mark.parametrize("vendor", WEAKER)
def test_so_it_is_for_many_more_programs(vendor: str) -> None:
    shown, both = compared(range(500), vendor)
    assert shown >= 80
    assert both >= 334 * len(WEAKER[vendor][1])
