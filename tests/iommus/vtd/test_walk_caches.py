"""Walks that start at cached table entries: what devices then use, what invalidations forbid, and what is told."""

import attrs
import pytest

from emu.checks.details import Evidence
from emu.checks.findings import FindingKind, Released
from emu.cpus import Cpu
from emu.cpus.signal import Send
from emu.devices.device import Commit, Device
from emu.engine import Wait
from emu.engine.hosts import direct
from emu.hypervisor.tables import TakeTable
from emu.iommus.invalidation import Range, Remove
from emu.iommus.iotlb import Fill
from emu.iommus.requests import Request
from emu.iommus.unit import UnitState
from emu.iommus.vtd.formats import VTD_FORMAT, Granularity, IotlbInvalidation, encode_table
from emu.iommus.vtd.settings import VtdSettings
from emu.iommus.walk_cache import FillTables, FindStarts, ReachedTable, WalkCache
from emu.machine.description import Description
from emu.machine.machine import Machine
from emu.running.exploration import ScenarioExploration
from emu.running.plan import Plan
from emu.scenarios.expectation import CLEAN
from emu.scenarios.scenario import Scenario, scenario
from emu.units import Dfn, Maddr, address_frame, frame_address, offset
from tests.events import steps
from tests.programs import PROGRAMS
from tests.turns import Order
from tests.vtd import settle, unit_of

G, NIC = Dfn(0x200), "00:1f.0"
NEAR, FAR = offset(G, 1), offset(G, 1 << 9)
SMALL = {"levels": "3", "walk_caches": "true"}
FORMS = [
    {"synchronous": "true", "walk_at_once": "true"},
    {"synchronous": "true"},
    {"walk_at_once": "true"},
    {},
]


def words(machine: Machine) -> dict[int, Maddr]:
    """Return where the words of G lie, by level."""
    found, table = {}, machine.domains[1].pgd
    for level in (3, 2, 1):
        found[level] = VTD_FORMAT.entry_address(table, G, level)
        entry = VTD_FORMAT.read(machine.memory.peek(found[level]), level, G)
        assert entry is not None
        table = entry.address
    return found


async def invalidate(machine: Machine, cpu: Cpu, page: Dfn, *, order: int = 0, leaf_only: bool = False) -> None:
    """Invalidate pages and wait."""
    await settle(machine, cpu, IotlbInvalidation(Granularity.NARROW, 1, page, order, leaf_only=leaf_only))


def freed_table(*, leaf_only: bool) -> Scenario:
    """Return a program in which a CPU cuts a table off, invalidates, and frees the table; a device reads meanwhile."""

    def build(m: Machine) -> None:
        domain = m.domain(1, devices=(NIC,))
        m.premap(domain, G, m.allocate(), cached=True)
        m.premap(domain, NEAR, m.allocate())
        cut_off, table = words(m)[2], address_frame(words(m)[1])

        @m.cpu(0)
        async def driver(cpu: Cpu) -> None:
            await cpu.store64(cut_off, 0)
            await invalidate(m, cpu, G, order=1, leaf_only=leaf_only)
            await TakeTable(domain, table)
            await m.pages.put(cpu, table)

        @m.device(NIC)
        async def reader(device: Device) -> None:
            await device.read(NEAR)

    return scenario(expect=CLEAN)(build)


def explored(program: Scenario, parameters: dict[str, str]) -> tuple[set[FindingKind], list[Machine]]:
    """Explore a program to its end; return what is found, and the machines of all executions."""
    done, machines = ScenarioExploration(program.bind({**SMALL, **parameters}), __file__, Plan(sections=False)), []
    for execution in done.each():
        direct.run(execution)
        assert done.machine is not None
        machines.append(done.machine)
    assert done.is_exhausted
    return {cause.kind for cause in done.causes}, machines


def uses_freed_table(machine: Machine) -> bool:
    """Whether the device has read memory by a walk that started at an entry of a table that had been freed by then."""
    events = list(machine.trace.events())
    starts = [event.fields["chosen"] for event in events if event.name == "walk.start"]
    freed, read = steps(events, "page.free"), steps(events, "dma.read")
    return bool(freed and read) and freed[0] < read[0] and starts == [1]


# T09: a page-table page is freed after the invalidation of a page


@pytest.mark.parametrize("form", FORMS)
def test_after_an_invalidation_of_leaves_a_walk_may_go_through_a_table_that_is_freed(form: dict[str, str]) -> None:
    kinds, machines = explored(freed_table(leaf_only=True), form)
    assert kinds == {FindingKind.RELEASED}
    assert any(map(uses_freed_table, machines))


@pytest.mark.parametrize("form", FORMS)
def test_after_an_invalidation_of_table_entries_none_may(form: dict[str, str]) -> None:
    kinds, machines = explored(freed_table(leaf_only=False), form)
    assert kinds == set()
    assert not any(map(uses_freed_table, machines))


@pytest.mark.parametrize("form", FORMS)
def test_a_unit_that_never_drops_table_entries_is_caught(form: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def of_leaves(self: Remove, unit: UnitState, covered: Range, start: int) -> None:
        begin(self, unit, attrs.evolve(covered, leaf_only=True), start)

    begin = Remove.__init__
    monkeypatch.setattr(Remove, "__init__", of_leaves)
    assert explored(freed_table(leaf_only=False), form)[0] == {FindingKind.ILLEGAL}


# Walks that are void


@pytest.mark.parametrize("form", FORMS[2:])
def test_a_walk_that_counts_what_it_found_cached_as_read_when_it_began_is_caught(
    form: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = ReachedTable.go_on

    def forget(self: ReachedTable, request: Request) -> None:
        began = request.began
        go_on(self, request)
        request.began = began

    monkeypatch.setattr(ReachedTable, "go_on", forget)
    assert FindingKind.ILLEGAL in explored(freed_table(leaf_only=False), form)[0]


def run(machine: Machine, strategy: Order) -> list[str]:
    execution = machine.execution(strategy)
    direct.run(execution)
    assert machine.conclude(execution) == []
    return [event.name for event in machine.trace.events()]


def machine_with(**settings: bool) -> Machine:
    """Return a machine that has cached the table entries of G and of a page of another table."""
    machine = Machine(Description(settings=VtdSettings(levels=3, walk_caches=True, **settings), is_checking=True))
    domain = machine.domain(1, devices=(NIC,))
    for page in (G, FAR):
        machine.premap(domain, page, machine.allocate(), cached=True)
    machine.premap(domain, NEAR, machine.allocate())
    return machine


def cache_of(machine: Machine) -> WalkCache:
    """Return the table entries that the unit has cached."""
    cache = unit_of(machine).walk_cache
    assert cache is not None
    return cache


def reads(machine: Machine, *pages: Dfn) -> list[int | None]:
    """Have the device read pages; return where the results will be."""
    results: list[int | None] = []

    @machine.device(NIC)
    async def reader(device: Device) -> None:
        results.extend([await device.read(page) for page in pages])

    return results


def relinks(machine: Machine, level: int, invalidated: Dfn) -> None:
    """Have a CPU replace G's word of a level by one that leads to an empty table, and invalidate a page."""
    word = words(machine)[level]

    @machine.cpu(0)
    async def driver(cpu: Cpu) -> None:
        empty = frame_address(machine.memory.allocate_table(1))
        await cpu.store64(word, encode_table(empty))
        await invalidate(machine, cpu, invalidated)


def test_a_walk_that_found_what_an_invalidation_was_about_to_drop_begins_again() -> None:
    machine = machine_with()
    results = reads(machine, NEAR)
    relinks(machine, 2, NEAR)
    events = run(machine, Order([("cpu0", Wait), ("vtd0", Remove), (NIC, Fill), ("vtd0", None)]))
    assert events.index("invalidate.begin") < events.index("walk_cache.lookup") < events.index("iotlb.invalidate")
    assert "walk.void" in events
    assert results == [None]


def test_a_walk_goes_on_whose_cached_entry_an_invalidation_did_not_cover_whatever_was_replaced_above() -> None:
    machine = machine_with()
    cache_of(machine).invalidate(1, FAR, FAR)
    results = reads(machine, NEAR)
    relinks(machine, 3, FAR)
    events = run(machine, Order([("cpu0", Wait), (NIC, Fill), ("vtd0", None)]))
    assert events.index("walk_cache.lookup") < events.index("iotlb.invalidate") < events.index("iotlb.fill")
    assert "walk.void" not in events
    assert results == [0]


# Where a walk starts

FLUSHED: list[tuple[str, type | None]] = [("cpu0", None), ("vtd0", None), ("cpu0", None)]


@pytest.mark.parametrize(("start", "result"), [(0, None), (1, 0)])
@pytest.mark.parametrize("walk_at_once", [False, True])
def test_a_walk_may_start_at_a_replaced_entry_or_at_the_root(
    start: int, result: int | None, walk_at_once: bool
) -> None:
    machine = machine_with(walk_at_once=walk_at_once)
    results = reads(machine, NEAR)
    relinks(machine, 2, FAR)
    events = run(machine, Order([*FLUSHED], start))
    assert "walk.start" in events
    assert results == [result]


def test_where_nothing_was_replaced_nothing_is_chosen() -> None:
    machine = machine_with()
    results = reads(machine, NEAR)
    events = run(machine, Order([]))
    assert "walk.start" not in events
    assert results == [0]


def test_a_replaced_entry_leads_no_walk_to_other_pages_than_those_it_stands_for() -> None:
    machine = machine_with()
    machine.premap(machine.domains[1], offset(FAR, 1), machine.allocate())
    results = reads(machine, offset(FAR, 1))
    relinks(machine, 2, G)
    events = run(machine, Order([*FLUSHED]))
    assert "walk.start" not in events
    assert results == [0]


# What a walk caches


def test_a_walk_that_faults_has_cached_the_table_entries_above() -> None:
    machine = machine_with()
    unmapped = offset(G, 7)
    results = reads(machine, unmapped)
    cache = cache_of(machine)
    cache.entries.clear()
    run(machine, Order([]))
    assert results == [None]
    assert [one.tables.levels for one in cache.find(machine.devices[NIC].source_id, unmapped)] == [1, 2]


def test_a_walk_caches_nothing_of_what_an_invalidation_has_dropped_meanwhile() -> None:
    machine = machine_with()
    cache_of(machine).entries.clear()
    reads(machine, NEAR)
    relinks(machine, 2, NEAR)
    events = run(machine, Order([(NIC, FillTables), ("cpu0", Wait), ("vtd0", None), (NIC, FindStarts)]))
    assert events.index("walk_cache.void") < events.index("walk.void") < events.index("walk_cache.fill")


def test_an_invalidation_tells_how_many_table_entries_it_has_dropped() -> None:
    machine = machine_with()
    relinks(machine, 2, G)
    run(machine, Order([]))
    (dropped,) = [event.fields for event in machine.trace.events() if event.name == "iotlb.invalidate"]
    assert (dropped["removed"], dropped["tables_removed"]) == (1, 2)


# What is found


@pytest.mark.parametrize(("start", "kinds"), [(1, [FindingKind.LATE]), (0, [])])
def test_an_access_through_a_cached_entry_may_be_late(start: int, kinds: list[FindingKind]) -> None:
    machine = machine_with(drain=False)
    results = reads(machine, NEAR)
    domain, word, stored = machine.domains[1], words(machine)[2], machine.signal("stored")

    @machine.cpu(0)
    async def driver(cpu: Cpu) -> None:
        await cpu.store64(word, 0)
        await stored.send()
        await machine.hypervisor.flush(cpu, domain, NEAR, pages=1)

    execution = machine.execution(Order([("cpu0", Send), (NIC, Commit), *FLUSHED, ("cpu0", None)], start))
    direct.run(execution)
    assert [finding.kind for finding in machine.conclude(execution)] == kinds
    assert results == [0 if start else None]


@pytest.mark.parametrize("walk_caches", ["true", "false"])
def test_an_access_through_a_cached_entry_may_go_to_the_domain_that_the_device_has_left(walk_caches: str) -> None:
    program = PROGRAMS["access_by_tables_that_a_device_has_left"]
    parameters = {**FORMS[0], "levels": "3", "walk_caches": walk_caches}
    done = ScenarioExploration(program.bind(parameters), __file__, Plan())
    for execution in done.each():
        direct.run(execution)
    foreign = [cause.check for cause in done.causes if cause.kind is FindingKind.FOREIGN]
    assert ("programmed by domain 2" in foreign) is (walk_caches == "true")


@pytest.mark.parametrize("start", [0, 1])
def test_a_freed_table_was_used_if_a_walk_is_refused_that_has_read_it(start: int) -> None:
    machine = machine_with()
    cut_off, leaf = words(machine)[2], words(machine)[1]
    machine.memory.put(leaf, 0)
    machine.unit.iotlb.invalidate(1, G, G)
    results = reads(machine, G)

    @machine.cpu(0)
    async def driver(cpu: Cpu) -> None:
        await cpu.store64(cut_off, 0)
        await TakeTable(machine.domains[1], address_frame(leaf))
        await machine.pages.put(cpu, address_frame(leaf))

    execution = machine.execution(Order([("cpu0", None)], start))
    direct.run(execution)
    (finding,) = machine.conclude(execution)
    assert isinstance(finding, Released)
    assert finding.table == address_frame(leaf)
    assert finding.evidence is (Evidence.OBSERVED if start else Evidence.POSSIBLE)
    assert results == [None]
