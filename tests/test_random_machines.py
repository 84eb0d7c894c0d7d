"""Random programs of a machine: an exploration finds what schedules find that know neither its search nor declarations.

Programs are of assignments, two units, deferred regions, continuations, faults, and posted writes. Each is explored to
its end. Nothing that random schedules show may be missing there; where a program has few enough interleavings, all of
them are executed one by one, and show exactly what the exploration has found.
"""

import random
from collections.abc import Iterator

import pytest

from emu import CLEAN, Cpu, Device, Dfn, Domain, Machine, iommu_dont_flush_iotlb, offset
from emu.checks.signatures import Signature, signature
from emu.engine.hosts import direct
from emu.engine.strategies.random import RandomStrategy
from emu.running.exploration import ScenarioExploration
from emu.running.plan import Plan
from emu.scenarios.scenario import BoundScenario, Scenario, scenario

G = Dfn(0x1000)
NIC, DISK, FAR = "00:1f.0", "00:02.0", "01:00.0"
SMALL = {"levels": "3", "synchronous": "true", "walk_at_once": "true"}
SETTINGS = (("coherent", "false"), ("caching_mode", "true"), ("drain", "false"), ("wait_faults", "1"))
REVISIONS = ("v1", "merged", "flush_on_error")

TRACES_MAX, INTERLEAVINGS_MAX, SCHEDULES = 150, 1_000, 20

Step = tuple[str, int]
Plans = list[list[Step]]
STEPS = ("map", "unmap", "flush", "flush_all", "attach", "detach", "reassign", "put")


def drawn(seed: int) -> tuple[Plans, dict[str, str]]:
    """Return what each of two CPUs does, and the parameters of the machine."""
    generator = random.Random(seed)

    def pick(number: int) -> int:
        return int(generator.random() * number)

    def steps() -> list[Step]:
        found = [(STEPS[pick(len(STEPS))], pick(2)) for _ in range(1 + pick(2))]
        return [("continue" if pick(3) == 0 else "defer", 0), *found] if pick(2) else found

    parameters = {**SMALL, "revision": REVISIONS[pick(3)]}
    parameters |= {name: value for name, value in SETTINGS if pick(5) == 0}
    return [steps() for _ in range(2 - (pick(4) == 0))] + [[("device", pick(4))]], parameters


def program(plans: Plans) -> Scenario:
    """Return a scenario in which CPUs and perhaps a device do so."""

    def build(m: Machine) -> None:
        m.scope(1, FAR)
        domain, other = m.domain(1, devices=(NIC, FAR)), m.domain(2)
        m.plug(DISK)
        frames = [m.allocate(domain=domain) for _ in range(2)]
        m.premap(domain, G, frames[0], cached=True)
        *cpus, (kind,) = plans
        for number, plan in enumerate(cpus):
            m.cpu(number).runs(work, m, domain, other, plan)
        if kind[1] == 1:
            m.device(NIC).runs(writer)
        elif kind[1] == 2:
            m.device(NIC, posts=True).runs(poster)

    return scenario(expect=CLEAN, sequential=True)(build)


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
    if what == "map":
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


def explored(bound: BoundScenario, plan: Plan) -> set[Signature] | None:
    """Return what an exploration finds; None where it does not end in the given number of executions."""
    done = ScenarioExploration(bound, __file__, plan)
    for execution in done.each():
        direct.run(execution)
    return set(done.causes) if done.is_exhausted else None


def seen_at_random(bound: BoundScenario) -> Iterator[Signature]:
    """Yield what random schedules show."""
    for seed in range(SCHEDULES):
        machine = bound.build()
        execution = machine.execution(RandomStrategy.seeded(seed))
        direct.run(execution)
        yield from (signature(finding, machine.trace) for finding in machine.conclude(execution))


def compared(seeds: range) -> tuple[int, int, int]:
    """Compare programs; return how many were explored, how many showed anything, how many had every interleaving."""
    ended = shown = enumerated = 0
    for seed in seeds:
        plans, parameters = drawn(seed)
        bound = program(plans).bind(parameters)
        found = explored(bound, Plan(executions=TRACES_MAX))
        if found is None:
            continue
        ended += 1
        shown += bool(found)
        assert set(seen_at_random(bound)) <= found, (seed, plans, parameters)
        every = explored(bound, Plan("depth-first", executions=INTERLEAVINGS_MAX))
        enumerated += every is not None
        assert every is None or every == found, (seed, plans, parameters)
    return ended, shown, enumerated


def test_an_exploration_finds_what_any_schedule_of_a_random_program_shows() -> None:
    ended, shown, _ = compared(range(8))
    assert ended >= 4
    assert shown >= 2


@pytest.mark.long
def test_so_it_does_for_five_hundred_programs() -> None:
    ended, shown, enumerated = compared(range(8, 508))
    assert ended >= 250
    assert shown >= 100
    assert enumerated >= 50
