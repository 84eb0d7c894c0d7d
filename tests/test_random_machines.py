"""Random programs of a machine: an exploration finds what enumerations find that do not know its search.

Programs are of assignments, two units, deferred regions, continuations, faults, and posted writes. Each is explored to
its end, and held against others, of which only the first asks what steps declare:

* every class of interleavings, with every way into each, so that what steps declare is tested, too;
* every state that the program can reach, and all interleavings one by one, where there are few enough;
* random schedules.
"""

import random
from collections.abc import Iterator

import attrs
import pytest

from emu import CLEAN, Cpu, Device, Dfn, Domain, Fix, Machine, iommu_dont_flush_iotlb, offset
from emu.checks.signatures import Signature, signature
from emu.engine.hosts import direct
from emu.engine.strategies.random import RandomStrategy
from emu.platforms import PLATFORMS
from emu.running.exploration import ScenarioExploration
from emu.running.plan import Plan
from emu.scenarios.scenario import BoundScenario, Scenario, scenario
from tests.classes import Classes
from tests.states import States

G = Dfn(0x1000)
NIC, DISK, FAR = "00:1f.0", "00:02.0", "01:00.0"
SETTINGS = {
    "vtd": (("coherent", "false"), ("caching_mode", "true"), ("drain", "false"), ("wait_faults", "1")),
    "amd": (("np_cache", "true"), ("wait_faults", "1")),
    "smmu": (("coherent", "false"), ("drain", "false"), ("wait_faults", "1"), ("break_for_units", "true")),
}
"""The settings of each vendor's machines, some of which a program has."""

FIRST = {"vtd": 20, "amd": 20, "smmu": 167}
"""The first of the seeds whose programs are always compared: among them are enough of each sort."""

REVISIONS = ("v1", "merged", "flush_on_error")

TRACES_MAX, SCHEDULES = 40, 20
FEW_TRACES, FEW_CLASSES, INTERLEAVINGS_MAX = 6, 200, 2_000

Step = tuple[str, int]
Plans = list[list[Step]]
STEPS = ("map", "unmap", "flush", "flush_all", "attach", "detach", "reassign", "put")


def drawn(seed: int, vendor: str = "vtd") -> tuple[Plans, dict[str, str]]:
    """Return what each of two CPUs does, and the parameters of a vendor's machine."""
    generator = random.Random(seed)

    def pick(number: int) -> int:
        return int(generator.random() * number)

    def steps() -> list[Step]:
        found = [(STEPS[pick(len(STEPS))], pick(2)) for _ in range(1 + pick(2))]
        return [("continue" if pick(3) == 0 else "defer", 0), *found] if pick(2) else found

    parameters = {**PLATFORMS[vendor].small, "revision": REVISIONS[pick(3)], "iommu": vendor}
    parameters |= {name: value for name, value in SETTINGS[vendor] if pick(5) == 0}
    plans = [steps() for _ in range(2 - (pick(4) == 0))] + [[("device", pick(4))]]
    if vendor == "smmu" and pick(2):
        plans[-1].append(("p2m flushes", 0))
    return plans, parameters


def program(plans: Plans, vendor: str) -> Scenario:
    """Return a scenario in which CPUs and perhaps a device do so."""

    def build(m: Machine) -> None:
        m.scope(1, FAR)
        domain, other = m.domain(1, devices=(NIC, FAR)), m.domain(2)
        m.plug(DISK)
        frames = [m.allocate(domain=domain) for _ in range(2)]
        m.premap(domain, G, frames[0], cached=True)
        *cpus, (kind, *flushes) = plans
        if flushes:
            m.driver.fixes.add(Fix.HAS_IOMMU)
        for number, plan in enumerate(cpus):
            m.cpu(number).runs(work, m, domain, other, plan)
        if kind[1] == 1:
            m.device(NIC).runs(writer)
        elif kind[1] == 2:
            m.device(NIC, posts=True).runs(poster)

    only = {vendor: "programs are drawn for one vendor at a time"}
    return scenario(expect=CLEAN, sequential=True, only=only)(build)


async def writer(device: Device) -> None:
    await device.write(G, 7)


async def poster(device: Device) -> None:
    await device.post(G, 7)


async def work(cpu: Cpu, m: Machine, domain: Domain, other: Domain, plan: list[Step]) -> None:
    """Take the steps of a plan in one hypercall."""
    async with cpu.hypercall("drawn"):
        held = [sorted(m.pages.frames)[-2:][cpu.number]]
        for what, which in plan:
            if what in {"defer", "continue"}:
                await cpu.write(iommu_dont_flush_iotlb, True)
                if what == "continue":
                    cpu.create_continuation()
            elif what == "put":
                if held:
                    await m.pages.put(cpu, held.pop())
            else:
                await call(cpu, m, domain, other, what, which)
        await cpu.write(iommu_dont_flush_iotlb, False)


async def call(cpu: Cpu, m: Machine, domain: Domain, other: Domain, what: str, which: int) -> None:
    """Make one call."""
    page, device = offset(G, which), m.devices[(NIC, DISK)[which]]
    if domain.cpu_tlb is not None and what == "map":
        await m.hypervisor.guest_physmap_add_entry(cpu, domain, page, max(m.pages.frames))
    elif domain.cpu_tlb is not None and what == "unmap":
        await m.hypervisor.guest_physmap_remove_page(cpu, domain, page, max(m.pages.frames))
    elif what == "map":
        await m.hypervisor.map(cpu, domain, page, max(m.pages.frames))
    elif what == "unmap":
        await m.hypervisor.unmap(cpu, domain, page)
    elif what == "flush":
        await m.hypervisor.flush(cpu, domain, page, pages=1)
    elif what == "flush_all":
        await m.hypervisor.flush_all(cpu, domain)
    elif what == "attach":
        await m.assignment.attach(cpu, other, device)
    elif what == "detach":
        await m.assignment.detach(cpu, domain, device)
    else:
        await m.assignment.reassign(cpu, domain, other, device)


def explored(bound: BoundScenario, plan: Plan) -> ScenarioExploration | None:
    """Return an exploration; None where it does not end in the given number of executions."""
    done = ScenarioExploration(bound, __file__, plan)
    for execution in done.each():
        direct.run(execution)
    return done if done.is_exhausted else None


def seen_at_random(bound: BoundScenario) -> Iterator[Signature]:
    """Yield what random schedules show."""
    for seed in range(SCHEDULES):
        machine = bound.build()
        execution = machine.execution(RandomStrategy.seeded(seed))
        direct.run(execution)
        yield from (signature(finding, machine.trace) for finding in machine.conclude(execution))


@attrs.define
class Compared:
    """How many programs were explored to the end, showed anything, and were executed in all their interleavings."""

    explored: int = 0
    shown: int = 0
    enumerated: int = 0

    def add(self, seed: int, vendor: str) -> None:
        """Compare a program, if an exploration of it ends in the given number of executions."""
        plans, parameters = drawn(seed, vendor)
        bound = program(plans, vendor).bind(parameters)
        found = explored(bound, Plan(executions=TRACES_MAX, sections=False))
        if found is None:
            return
        what = (seed, plans, parameters)
        classes = Classes.of(bound)
        assert set(found.causes) == classes.signatures, what
        assert found.done == classes.traces, what
        short = explored(bound, Plan(executions=25 * TRACES_MAX))
        assert short is not None, what
        assert set(short.causes) == classes.signatures, what
        assert set(seen_at_random(bound)) <= classes.signatures, what
        self.explored += 1
        self.shown += bool(found.causes)
        if len(classes.known) <= FEW_CLASSES:
            every = explored(bound, Plan("depth-first", executions=INTERLEAVINGS_MAX))
            self.enumerated += every is not None
            assert every is None or set(every.causes) == classes.signatures, what

    @classmethod
    def of(cls, seeds: range, vendor: str) -> "Compared":
        """Compare programs."""
        compared = cls()
        for seed in seeds:
            compared.add(seed, vendor)
        return compared


def reached(seed: int, vendor: str) -> bool:
    """Hold the exploration of a program that has few traces against every state that it can reach, if they are few."""
    plans, parameters = drawn(seed, vendor)
    bound = program(plans, vendor).bind(parameters)
    found = explored(bound, Plan(executions=FEW_TRACES))
    states = States.of(bound) if found is not None else None
    if found is None or states is None:
        return False
    assert set(found.causes) == states.signatures, (seed, plans, parameters)
    return True


@pytest.mark.ci_long
@pytest.mark.parametrize("vendor", SETTINGS)
def test_an_exploration_finds_what_every_interleaving_of_a_random_program_shows(vendor: str) -> None:
    first = FIRST[vendor]
    compared = Compared.of(range(first, first + 12), vendor)
    assert compared.explored >= 7, compared
    assert compared.shown >= 3, compared
    assert compared.enumerated >= 2, compared


@pytest.mark.parametrize("vendor", SETTINGS)
def test_it_finds_what_is_found_in_every_state_that_a_random_program_can_reach(vendor: str) -> None:
    first = FIRST[vendor] + 4
    assert sum(reached(seed, vendor) for seed in range(first, first + 8)) >= 4


@pytest.mark.long
@pytest.mark.parametrize("vendor", SETTINGS)
@pytest.mark.parametrize("part", range(10))
def test_so_it_does_for_five_hundred_programs(part: int, vendor: str) -> None:
    compared = Compared.of(range(100 * part, 100 * (part + 1)), vendor)
    assert compared.explored >= 50, compared
    assert compared.shown >= 15, compared
    assert compared.enumerated >= 5, compared


@pytest.mark.long
@pytest.mark.parametrize("vendor", SETTINGS)
@pytest.mark.parametrize("part", range(10))
def test_so_it_does_in_every_state_of_eight_hundred_programs(part: int, vendor: str) -> None:
    seeds = range(10_000 + 300 * part, 10_000 + 300 * (part + 1))
    assert sum(reached(seed, vendor) for seed in seeds) >= 80
