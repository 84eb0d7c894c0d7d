"""What an IOMMU may do and what not: VT-d, AMD-Vi and SMMUv2, rule by rule.

1. Fill a leaf that is present and can be reached, at any time: all may (VT-d 6.2.4).
2. Fill an entry that is not present: VT-d only with caching mode (CAP.CM), AMD-Vi only with NpCache, SMMUs never
   (DDI 0487, D8.16).
3. Keep a table entry after the table's frame was freed: until an invalidation that covers it completes, with IH clear
   (VT-d 6.2.5, 6.5.2.3), with PDE set (AMD-Vi 2.4.3), or of its VMID (IHI 0062, TLBIVMID). One of leaves only lets it
   stay; SMMUv2 has none for a whole domain.
4. Evict, at any time: all may (VT-d 6.2.4).
5. Let a walk that read an entry before an invalidation began fill with it until the invalidation has completed: all
   may (VT-d 6.5.3.3, AMD-Vi 2.4.3). After that: none.
6. Let a write that was translated before an invalidation reach memory after the wait: VT-d if the unit cannot drain or
   is not asked to (section 6.5.4), AMD-Vi never (section 2.4.1). The public text of SMMUv2 leaves it open: a setting.

What a unit may do, the ledger allows and some execution does. What it may not, the ledger does not allow, and the check
of what devices use is silent over all executions of a small program: a unit that breaks just this rule is found out.
Left out, because they are not modelled: writes to other devices, and invalidations wider than asked.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import attrs
import pytest

from emu.checks.findings import FindingKind
from emu.cpus import Cpu
from emu.engine import Event, Wait
from emu.errors import ScenarioError
from emu.iommus.invalidation import Begin, Complete, Range, Remove
from emu.iommus.iotlb import Evict, Fill
from emu.iommus.requests import Request
from emu.iommus.unit import UnitState
from emu.iommus.walk import walk_tables
from emu.iommus.walk_cache import FillTables
from emu.machine.machine import Machine
from emu.units import Dfn
from tests.events import steps
from tests.iommus.rules import (
    FAR,
    NEAR,
    NEW,
    NIC,
    OLD,
    UNIT,
    VENDORS,
    Asked,
    G,
    Vendor,
    freed_table,
    leading_to_new,
    legal,
    legal_meanwhile,
    mapped,
    mapped_later,
    reads,
    replaced,
    results,
    run,
    unmapped,
    words,
)

AT_ONCE = {"synchronous": True, "walk_at_once": True}
LEAVES = Asked(G, leaf_only=True)
BOTH = Asked(G)


ALL_OF_THEM = VENDORS.values()


@pytest.fixture(params=VENDORS)
def vendor(request: pytest.FixtureRequest) -> Vendor:
    return VENDORS[request.param]


@pytest.fixture(params=[one.name for one in ALL_OF_THEM if one.caching])
def caching_vendor(request: pytest.FixtureRequest) -> Vendor:
    return VENDORS[request.param]


def each(asked: Mapping[str, Asked | None]) -> pytest.MarkDecorator:
    """Return a mark for every vendor with each invalidation that it can be asked for."""
    cases = [(one, name) for one in ALL_OF_THEM for name in asked if one.can_ask(asked[name])]
    sets = [pytest.param(one, asked[name], id=f"{one.name}-{name}") for one, name in cases]
    return pytest.mark.parametrize(("vendor", "asked"), sets)


def order(events: list[Event], *names: str) -> list[str]:
    """Return which of these happened, in their order."""
    return [event.name for event in events if event.name in names]


# 1. Fill a leaf that is present

STAGES = ["signal.send", "invalidate.begin", "iotlb.invalidate", "invalidate.complete"]
"""A word was replaced and software goes on; its invalidation begins, drops, completes. At last the unit tells."""


@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize("stage", range(6))
def test_a_present_leaf_may_be_filled_before_and_after_its_replacement_and_at_each_stage_of_an_invalidation(
    vendor: Vendor, level: int, stage: int
) -> None:
    machine = vendor.machine(partial(replaced, level=level, asked=BOTH))
    allowed, found = legal_meanwhile(machine), NEW if stage else OLD
    tells, told = vendor.tells
    about_to = [Begin, Remove, Complete, tells, None]
    before: list[tuple[str, type | None]] = [("cpu0", Wait), (UNIT, about_to[stage - 1])] if stage else []
    events, stages = run(machine, [*before, (NIC, None), ("cpu1", None)]), [*STAGES, told]
    assert order(events, *stages, "iotlb.fill") == [*stages[:stage], "iotlb.fill", *stages[stage:]]
    assert results(events) == [found]
    assert found in allowed[0]


def test_a_leaf_that_stood_for_a_moment_may_be_cached_though_no_device_has_asked_for_it(vendor: Vendor) -> None:
    machine = vendor.machine(mapped)
    leaf, new = words(machine)[1], leading_to_new(machine, 1)

    @machine.cpu(0)
    async def driver(cpu: Cpu) -> None:
        await cpu.store64(leaf, new)
        await cpu.store64(leaf, 0)

    run(machine, [])
    assert legal(machine) == {OLD, NEW, None}


# 2. Fill an entry that is not present

ABSENT = [pytest.param(NEAR, id="leaf"), pytest.param(FAR, id="table")]
"""A mapped page beside one of which the leaf is not present, or the table of leaves."""


@pytest.mark.parametrize("neighbour", ABSENT)
def test_a_unit_with_the_setting_may_refuse_a_page_that_was_made_present_until_it_is_invalidated(
    caching_vendor: Vendor, neighbour: Dfn
) -> None:
    settings = {**AT_ONCE, caching_vendor.caching: True}
    done = caching_vendor.explored(partial(mapped_later, neighbour=neighbour), **settings)
    assert done.results == {(None, None), (NEW, NEW)}
    assert done.legal == {None, NEW}
    assert done.kinds == set()
    done = caching_vendor.explored(partial(mapped_later, neighbour=neighbour, asked=LEAVES), **settings)
    assert done.results == {(None, NEW), (NEW, NEW)}
    assert done.legal == {NEW}
    assert done.kinds == set()


@pytest.mark.parametrize("setting", ["caching_mode", "np_cache"])
def test_an_smmu_has_no_such_setting(setting: str) -> None:
    with pytest.raises(ScenarioError, match="it never caches a fault"):
        VENDORS["smmu"].explored(mapped, **{setting: True})


@pytest.mark.parametrize("neighbour", ABSENT)
def test_a_unit_without_the_setting_may_not_though_nothing_is_invalidated(vendor: Vendor, neighbour: Dfn) -> None:
    done = vendor.explored(partial(mapped_later, neighbour=neighbour), **AT_ONCE)
    assert done.results == {(None, NEW), (NEW, NEW)}
    assert done.legal == {NEW}
    assert done.kinds == set()


@pytest.mark.parametrize("neighbour", ABSENT)
def test_a_unit_that_does_so_without_the_setting_is_found_out(
    vendor: Vendor, neighbour: Dfn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def caching(*arguments: Any, **keywords: Any) -> Any:
        return walk_tables(*arguments, **{**keywords, "caches_non_present": True})

    monkeypatch.setattr(vendor.walk_tables, caching)
    assert vendor.explored(partial(mapped_later, neighbour=neighbour), **AT_ONCE).kinds == {FindingKind.ILLEGAL}


# 3. Keep a table entry after the table's frame was freed

WITH_TABLES = {**AT_ONCE, "walk_caches": True}
KEPT: dict[str, Asked | None] = {
    "nothing": None,
    "leaf of the page": Asked(G, leaf_only=True),
    "leaves of the table": Asked(G, 9, leaf_only=True),
    "leaves of the domain": Asked(G, None, leaf_only=True),
    "page of another table": Asked(FAR),
    "another domain": Asked(G, None, domain=2),
}
DROPPED: dict[str, Asked | None] = {"page": Asked(G), "all pages of the table": Asked(G, 9), "domain": Asked(G, None)}


@pytest.mark.parametrize("is_late", [False, True])
@each(KEPT)
def test_a_table_entry_may_be_kept_over_an_invalidation_of_leaves_or_of_something_else(
    vendor: Vendor, asked: Asked | None, is_late: bool
) -> None:
    done = vendor.explored(partial(freed_table, asked=asked, is_late=is_late), **WITH_TABLES)
    assert done.results == {(NEW,), (None,)}
    assert done.legal >= {NEW, None}
    assert done.kinds == {FindingKind.RELEASED}


@pytest.mark.parametrize("is_late", [False, True])
@each(DROPPED)
def test_a_table_entry_is_gone_after_an_invalidation_of_table_entries(
    vendor: Vendor, asked: Asked, is_late: bool
) -> None:
    done = vendor.explored(partial(freed_table, asked=asked, is_late=is_late), **WITH_TABLES)
    assert done.results == {(None,)}
    assert done.legal == {None}
    assert done.kinds == ({FindingKind.RELEASED} if is_late else set())


@each({"another page": Asked(NEAR)})
def test_an_invalidation_of_another_page_of_the_table_drops_the_entry_and_leaves_what_a_walk_has_found_by_it(
    vendor: Vendor, asked: Asked
) -> None:
    done = vendor.explored(partial(freed_table, asked=asked), **WITH_TABLES)
    assert done.results == {(None,)}
    assert done.legal == {OLD, None}
    assert done.kinds == {FindingKind.RELEASED}


@each(DROPPED)
def test_a_walk_at_any_time_finds_nothing_of_what_is_stored_there_after_such_an_invalidation(
    vendor: Vendor, asked: Asked
) -> None:
    done = vendor.explored(partial(freed_table, asked=asked, waits=False), **WITH_TABLES)
    assert done.results == {(OLD,), (None,)}
    assert done.kinds == set()


@pytest.mark.parametrize("waits", [True, False])
@each({**DROPPED, "another page": Asked(NEAR)})
def test_a_unit_that_keeps_table_entries_over_such_an_invalidation_is_found_out(
    vendor: Vendor, asked: Asked, waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_leaves(self: Remove, unit: UnitState, covered: Range, start: int) -> None:
        begin(self, unit, attrs.evolve(covered, leaf_only=True), start)

    begin = Remove.__init__
    monkeypatch.setattr(Remove, "__init__", of_leaves)
    done = vendor.explored(partial(freed_table, asked=asked, waits=waits), **WITH_TABLES)
    assert (NEW,) in done.results
    assert done.kinds - {FindingKind.RELEASED} == {FindingKind.ILLEGAL}


# 4. Evict


def replaced_between_reads(m: Machine, *, pages: tuple[Dfn, ...], evicts: bool = False) -> None:
    """A CPU replaces G's leaf and does not invalidate; a device reads pages; the unit may evict G."""
    mapped(m)
    for page in (NEAR, FAR):
        m.premap(m.domains[1], page, m.allocate())
    leaf, new = words(m)[1], leading_to_new(m, 1)
    reads(m, *pages)

    @m.cpu(0)
    async def driver(cpu: Cpu) -> None:
        await cpu.store64(leaf, new)

    if evicts:

        @m.cpu(1)
        async def evictor(cpu: Cpu) -> None:
            await Evict(m.unit.iotlb, G)


@pytest.mark.parametrize("pages", [(G, NEAR, G), (G, NEAR, FAR, G)])
def test_a_unit_with_little_room_may_evict_any_entry_and_a_later_access_finds_the_new_value(
    vendor: Vendor, pages: tuple[Dfn, ...]
) -> None:
    program = partial(replaced_between_reads, pages=pages)
    done = vendor.explored(program, **AT_ONCE)
    assert {(read[0], read[-1]) for read in done.results} == {(OLD, OLD), (NEW, NEW)}
    done = vendor.explored(program, **AT_ONCE, iotlb_entries=len(pages) - 2)
    assert {(read[0], read[-1]) for read in done.results} == {(OLD, OLD), (OLD, NEW), (NEW, NEW)}
    assert {dfn for m in done.machines for dfn in evicted(m)} == set(pages)
    assert done.legal == {OLD, NEW}
    assert done.kinds == set()


def evicted(m: Machine) -> list[Dfn]:
    return [event.fields["evicted_dfn"] for event in m.trace.events() if "evicted_dfn" in event.fields]


def test_a_unit_with_room_may_evict_too_at_any_time(vendor: Vendor) -> None:
    done = vendor.explored(partial(replaced_between_reads, pages=(G, G), evicts=True), **AT_ONCE)
    assert done.results == {(OLD, OLD), (OLD, NEW), (NEW, NEW)}
    assert done.legal == {OLD, NEW}
    assert done.kinds == set()


# 5. Let a walk that began before an invalidation fill


@pytest.mark.parametrize(
    ("level", "fill", "filled"),
    [(1, Fill, "iotlb.fill"), (2, Fill, "iotlb.fill"), (2, FillTables, "walk_cache.fill")],
)
def test_a_walk_may_fill_with_what_it_read_before_an_invalidation_until_that_has_completed(
    vendor: Vendor, level: int, fill: type, filled: str
) -> None:
    machine = vendor.machine(partial(replaced, level=level, asked=BOTH), walk_caches=fill is FillTables)
    allowed = legal_meanwhile(machine)
    events = run(machine, [(NIC, fill), ("cpu0", Wait), (UNIT, Remove), (NIC, None), ("cpu1", None)])
    stages = [*STAGES, vendor.tells[1]]
    assert order(events, *stages, filled) == [*stages[:2], filled, *stages[2:]]
    assert results(events) == [OLD]
    assert allowed == [{OLD, NEW}]
    assert legal(machine) == {NEW}


def fills_late(m: Machine) -> bool:
    """Whether the device has read by a walk that found the old value, and filled after the invalidation completed."""
    events = list(m.trace.events())
    (completed,) = steps(events, "invalidate.complete")
    return results(events) == [OLD] and max(steps(events, "iotlb.fill", "walk_cache.fill")) > completed


IN_STEPS = [{}, {"walk_caches": True}, {"synchronous": True}, {"synchronous": True, "walk_caches": True}]


@pytest.mark.parametrize("settings", IN_STEPS, ids=" ".join)
@pytest.mark.parametrize("level", [1, 2])
def test_after_that_no_such_walk_fills(vendor: Vendor, level: int, settings: dict[str, bool]) -> None:
    done = vendor.explored(partial(replaced, level=level, asked=BOTH), **settings)
    assert done.results == {(OLD,), (NEW,)}
    assert not any(map(fills_late, done.machines))
    assert done.legal == {NEW}
    assert done.kinds == set()


@pytest.mark.parametrize("settings", IN_STEPS, ids=" ".join)
@pytest.mark.parametrize("level", [1, 2])
def test_a_unit_that_lets_a_void_walk_fill_is_found_out(
    vendor: Vendor, level: int, settings: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vendor.platform.make_unit, "is_void", lambda *_: False)
    done = vendor.explored(partial(replaced, level=level, asked=BOTH), **settings)
    assert any(map(fills_late, done.machines))
    assert done.kinds == {FindingKind.ILLEGAL}


@pytest.mark.parametrize("is_void_ignored", [False, True])
def test_so_it_is_of_a_walk_that_fills_with_an_entry_that_is_not_present(
    caching_vendor: Vendor, is_void_ignored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_void_ignored:
        monkeypatch.setattr(caching_vendor.platform.make_unit, "is_void", lambda *_: False)
    program = partial(mapped_later, neighbour=NEAR, asked=LEAVES)
    done = caching_vendor.explored(program, **{"synchronous": True, caching_vendor.caching: True})
    assert ((None, None) in done.results) is is_void_ignored
    assert done.kinds == ({FindingKind.ILLEGAL} if is_void_ignored else set())


# 6. Let a write that was translated before an invalidation reach memory after the wait


def lands_late(vendor: Vendor, m: Machine) -> bool:
    """Whether the write has reached memory after the unit has told."""
    events = list(m.trace.events())
    (told,) = steps(events, vendor.tells[1])
    return any(step > told for step in steps(events, "dma.write"))


@pytest.mark.parametrize("name", ["vtd", "smmu"])
def test_such_a_write_is_late_on_units_that_do_not_drain(name: str) -> None:
    vendor = VENDORS[name]
    done = vendor.explored(unmapped, drain=False)
    assert any(lands_late(vendor, m) for m in done.machines)
    assert done.kinds == {FindingKind.LATE}
    assert done.legal == {None}


def test_amd_has_no_such_setting() -> None:
    with pytest.raises(ScenarioError, match="a completed wait has always drained the requests before it"):
        VENDORS["amd"].explored(unmapped, drain=False)


@pytest.mark.parametrize("synchronous", [False, True])
def test_elsewhere_every_such_write_lands_before_the_unit_tells(vendor: Vendor, synchronous: bool) -> None:
    done = vendor.explored(unmapped, synchronous=synchronous)
    assert {bool(steps(m.trace.events(), "dma.write")) for m in done.machines} == {True, False}
    assert not any(lands_late(vendor, m) for m in done.machines)
    assert done.legal == {None}
    assert done.kinds == set()


@pytest.mark.parametrize("synchronous", [False, True])
def test_a_unit_that_completes_without_draining_is_found_out(
    vendor: Vendor, synchronous: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drop_without_draining(self: Remove, step: int) -> list[Request]:
        drop(self, step)
        return []

    drop = Remove.perform
    monkeypatch.setattr(Remove, "perform", drop_without_draining)
    done = vendor.explored(unmapped, synchronous=synchronous)
    assert any(lands_late(vendor, m) for m in done.machines)
    assert done.kinds == {FindingKind.ILLEGAL}
