"""Two steps that declare no common object give the same in both orders: an exploration may leave one of them out."""

import random
from math import inf
from typing import Any

import pytest

from emu.cpus import Cpu
from emu.devices.device import Device
from emu.engine import Agent, Execution
from emu.engine.strategies.round_robin import RoundRobinStrategy
from emu.hypervisor.device_entry import StoreDeviceEntry
from emu.hypervisor.domain import Domain
from emu.hypervisor.entries import StoreEntry
from emu.hypervisor.fixes import Fix
from emu.hypervisor.smmu.assignment import StoreStreamControl
from emu.iommus.amd.settings import AmdSettings
from emu.iommus.smmu.settings import SmmuSettings
from emu.iommus.vtd.settings import VtdSettings
from emu.machine.description import Description
from emu.machine.machine import Machine
from emu.platforms import AMD, PLATFORMS, SMMU
from emu.units import Dfn, Mfn
from tests.classes import cached_device_entries, cached_tables

DEVICES = ("00:1f.0", "00:1f.1", "00:02.0")
PAGES = 3
RELINKED, OF_AMD, OF_SMMU = "relinked", "amd", "smmu"
RELINKING = {RELINKED, OF_SMMU}
"""Kinds of machines on which walks start at cached table entries."""

Plan = list[tuple[str, int, int]]


def described(kind: str, iotlb_entries: int) -> Description:
    """Return the description of a machine with a limited IOTLB, or with one that is not if the limit is 0."""
    if kind == OF_AMD:
        return Description(platform=AMD, settings=AmdSettings(levels=2, iotlb_entries=iotlb_entries))
    if kind == OF_SMMU:
        return Description(platform=SMMU, settings=SmmuSettings(32, iotlb_entries=iotlb_entries, walk_caches=True))
    return Description(settings=VtdSettings(iotlb_entries=iotlb_entries, walk_caches=kind == RELINKED))


def crowd(kind: str, iotlb_entries: int | None) -> Machine:
    """Return a machine with three CPUs and three devices on two domains; pages are fresh, mapped or cached.

    Of one kind, walks start at cached table entries, and a CPU links tables to new ones and back without a flush. Of
    another kind, the units are AMD-Vi's, and a CPU takes a device away and gives it back. On SMMUs it does both.
    """
    machine = Machine(described(kind, iotlb_entries or 0))
    machine.driver.fixes |= machine.driver.known_fixes & {Fix.HAS_IOMMU}
    one, other = machine.domain(1, devices=DEVICES[:2]), machine.domain(2, devices=DEVICES[2:])
    frames = [machine.allocate() for _ in range(6)]
    for page in range(PAGES if kind != "fresh" else 0):
        for domain in (one, other):
            machine.premap(
                domain, Dfn(page), frames[page], cached=kind in {"cached", OF_AMD} or (kind in RELINKING and not page)
            )

    links = {domain.number: machine.memory.peek(domain.pgd) for domain in (one, other)}
    relinking = [("relink", 0, 1), ("relink", 0, 0), ("relink", 0, 1), ("relink", 0, 0)] if kind in RELINKING else []
    moving = [("detach", 0, 0), ("attach", 0, 0)] if kind in {OF_AMD, OF_SMMU} else []

    async def work(cpu: Cpu, domain: Domain, plan: Plan) -> None:
        for call, page, frame in plan:
            if kind == OF_SMMU and call in {"map", "unmap"}:
                await change_p2m(machine, cpu, domain, Dfn(page), frames[frame] if call == "map" else None)
            elif call == "map":
                await machine.hypervisor.map(cpu, domain, Dfn(page), Mfn(frames[frame]))
            elif call == "relink":
                word = machine.unit.format.entry_address(domain.pgd, Dfn(page), domain.levels)
                await cpu.store64(word, (links[domain.number], 0)[frame])
            elif call in {"detach", "attach"}:
                await getattr(machine.assignment, call)(cpu, domain, machine.devices[DEVICES[2]])
            else:
                await getattr(machine.hypervisor, call)(
                    cpu, domain, Dfn(page), **{"pages": 1} if call == "flush" else {}
                )

    async def stream(device: Device) -> None:
        for page in (0, 1, 2, 0, 1):
            await device.read(Dfn(page))

    machine.cpu(0).runs(work, one, [("map", 0, 3), ("unmap", 1, 0)])
    machine.cpu(1).runs(work, one, [("unmap", 0, 0), ("map", 1, 4), ("flush", 2, 0)])
    machine.cpu(2).runs(work, other, [("map", 0, 5), *relinking, *moving, ("unmap", 1, 0)])
    for bdf in DEVICES:
        machine.device(bdf).runs(stream)
    return machine


async def change_p2m(machine: Machine, cpu: Cpu, domain: Domain, gfn: Dfn, mfn: Mfn | None) -> None:
    """Map a page, or unmap it where there is no frame."""
    if mfn is None:
        await machine.hypervisor.guest_physmap_remove_page(cpu, domain, gfn, Mfn(0))
    else:
        await machine.hypervisor.guest_physmap_add_entry(cpu, domain, gfn, mfn)


def reach(kind: str, iotlb_entries: int | None, prefix: list[int]) -> tuple[Machine, Execution]:
    machine = crowd(kind, iotlb_entries)
    execution = machine.execution(RoundRobinStrategy())
    for agent in execution.agents:
        execution.start(agent)
    for number in prefix:
        execution.step(execution.agents[number])
    return machine, execution


def state(machine: Machine, execution: Execution) -> dict[str, Any]:
    """End the execution and return all that its later steps could have depended on, without the numbers of steps."""
    unit = machine.unit
    pending = [
        (agent.name, type(agent.pending).__name__, agent.can_step(), sorted(map(str, agent.pending.accesses())))
        for agent in execution.agents
        if agent.pending is not None
    ]
    legal = [
        (device.bdf, tables._replace(since=0, until=tables.until == inf), page, unit.ledger.legal(tables, Dfn(page)))
        for device in machine.devices.values()
        for tables in unit.tables_ever(device.source_id)
        for page in range(PAGES)
    ]
    execution.end()
    return {
        "pending": pending,
        "memory": {address: versions[-1].value for address, versions in machine.memory.versions.items()},
        "iotlb": {key: entry.translation for key, entry in machine.unit.iotlb.entries.items()},
        "tables": [one[:-1] for one in cached_tables(machine.unit)],
        "devices": {source: entry for source, (entry, _) in cached_device_entries(machine.unit).items()},
        "legal": legal,
        "findings": sorted((finding.kind.value, getattr(finding, "agent", "")) for finding in machine.findings),
    }


def are_independent(execution: Execution, pair: list[int]) -> bool:
    declared = []
    for number in pair:
        operation = execution.agents[number].pending
        assert operation is not None
        declared.append(tuple(operation.accesses()))
    return not any(one.conflicts(other) for one in declared[0] for other in declared[1])


@pytest.mark.parametrize("kind", ["fresh", "mapped", "cached", RELINKED, OF_AMD, OF_SMMU])
@pytest.mark.parametrize("iotlb_entries", [None, 2])
@pytest.mark.parametrize("seed", range(2))
def test_steps_that_share_no_object_commute(kind: str, iotlb_entries: int | None, seed: int) -> None:
    generator = random.Random(seed)
    _, execution = reach(kind, iotlb_entries, [])
    prefix: list[int] = []
    current, compared = -1, 0
    while enabled := [number for number, agent in enumerate(execution.agents) if agent.can_step()]:
        if len(enabled) > 1 and generator.random() < 0.3:
            pair = sorted(enabled, key=lambda _: generator.random())[:2]
            if are_independent(execution, pair):
                compared += 1
                assert state(*reach(kind, iotlb_entries, [*prefix, *pair])) == state(
                    *reach(kind, iotlb_entries, [*prefix, *reversed(pair)])
                )
        if current not in enabled or generator.random() < 0.2:
            current = enabled[int(generator.random() * len(enabled))]
        prefix.append(current)
        execution.step(execution.agents[current])
    execution.end()
    assert compared > 20


def joining(vendor: str) -> tuple[Machine, Execution]:
    """Return an execution in which one CPU clears a leaf next, and another stores the word that puts a device's entry
    in force.
    """
    machine = Machine(Description(platform=PLATFORMS[vendor], revision="merged"))
    domain, joined = machine.domain(1, devices=DEVICES[:1]), machine.plug(DEVICES[1])
    machine.premap(domain, Dfn(0), machine.allocate())

    @machine.cpu(0)
    async def unmapper(cpu: Cpu) -> None:
        if vendor == OF_SMMU:
            await change_p2m(machine, cpu, domain, Dfn(0), None)
        else:
            await machine.hypervisor.unmap(cpu, domain, Dfn(0))

    @machine.cpu(1)
    async def toolstack(cpu: Cpu) -> None:
        await machine.assignment.attach(cpu, domain, joined)

    execution = machine.execution(RoundRobinStrategy())
    for agent in execution.agents:
        execution.start(agent)
    by_name = {agent.name: agent for agent in execution.agents}
    store, count = STORES[vendor]
    advance(execution, by_name["cpu0"], StoreEntry, 0)
    advance(execution, by_name["cpu1"], store, count - 1)
    return machine, execution


STORES = {"vtd": (StoreDeviceEntry, 2), "amd": (StoreDeviceEntry, 3), "smmu": (StoreStreamControl, 1)}
"""By what and how many of them a driver writes a device's entry; the last one puts it in force."""


def advance(execution: Execution, agent: Agent, kind: type, skipped: int) -> None:
    """Let an agent go on to a store of a kind, past some others of that kind."""
    while True:
        if isinstance(agent.pending, kind):
            if not skipped:
                return
            skipped -= 1
        execution.step(agent)


@pytest.mark.parametrize("vendor", STORES)
def test_the_entry_of_a_device_and_a_leaf_of_its_tables_do_not_commute_and_say_so(vendor: str) -> None:
    found = []
    for order in (("cpu0", "cpu1"), ("cpu1", "cpu0")):
        machine, execution = joining(vendor)
        agents = {agent.name: agent for agent in execution.agents}
        assert not are_independent(execution, [agents["cpu0"].number, agents["cpu1"].number])
        for name in order:
            execution.step(agents[name])
        source_id = machine.devices[DEVICES[1]].source_id
        tables = next(one for one in machine.unit.tables_ever(source_id) if one.levels)
        found.append(len(machine.unit.ledger.legal(tables, Dfn(0))))
        execution.end()
    assert found == [1, 2]
