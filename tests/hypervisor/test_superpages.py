"""Superpages: one leaf for an aligned range, mapped before the first step and by a revision that knows them.

All explorations are exhausted. A superpage of 2 MiB has two pages, or four.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from emu.analysis.windows import Window, statistics
from emu.checks.findings import FindingKind
from emu.cpus import Cpu
from emu.devices.device import Device
from emu.engine.hosts import direct
from emu.engine.strategies.round_robin import RoundRobinStrategy
from emu.errors import ScenarioError
from emu.hypervisor.domain import Domain
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import ENOMEM, OK, READ_WRITE, MapFlags, iommu_dont_flush_iotlb
from emu.iommus.vtd.settings import VtdSettings
from emu.machine.description import Description
from emu.machine.machine import Machine
from emu.running.exploration import ScenarioExploration
from emu.scenarios.expectation import CLEAN
from emu.scenarios.scenario import Build, scenario
from emu.units import Dfn, Mfn, frame_address, offset, page_count
from tests.checks.exhausted import replace_calls
from tests.conftest import Execute
from tests.revisions import change

NIC, OTHER = "00:1f.0", "00:1f.1"
G = Dfn(0x400)
FOLDER = Path(__file__).parents[1] / "superpages"
KNOWS = str(FOLDER)
"""A revision that maps and unmaps a superpage by one leaf, and flushes all its pages."""

Found = set[tuple[FindingKind, Dfn | None]]


@pytest.fixture
def first_page_only(tmp_path: Path) -> str:
    """Return the same revision but that it flushes the first page alone: with an address mask of 0."""
    folder = tmp_path / "first_page_only"
    folder.mkdir()
    for path in FOLDER.glob("*.py"):
        (folder / path.name).write_text(path.read_text())
    change(folder / "vtd.py", "order, result = page_count.bit_length() - 1, OK", "order, result = 0, OK")
    return str(folder)


def explored(build: Build, revision: str = KNOWS, parameters: str = "superpage_bits=1") -> ScenarioExploration:
    """Return an exploration of every trace."""
    texts = dict(pair.split("=") for pair in f"synchronous=true {parameters}".split())
    done = ScenarioExploration(
        scenario(expect=CLEAN, sequential=True)(build).bind({"revision": revision, **texts}), __file__
    )
    done.on("direct")
    assert done.failure is None
    assert done.is_exhausted
    return done


def found(build: Build, revision: str = KNOWS, parameters: str = "superpage_bits=1") -> Found:
    """Return the kind and the page of each cause that every trace of a program together shows."""
    return {(one.kind, one.dfn) for one in explored(build, revision, parameters).causes}


def order_of(domain: Domain, level: int = 2) -> int:
    """Return the page order of a leaf of a level."""
    return domain.format.orders[level]


def with_superpage(m: Machine, *, owner: Domain | None = None, level: int = 2) -> tuple[Domain, Mfn]:
    """Return a domain with a device that has used a superpage, and the first frame of that."""
    domain = m.domain(1, devices=(NIC,))
    order = order_of(domain, level)
    frames = m.allocate(page_order=order, domain=owner or domain)
    m.premap(domain, G, frames, page_order=order, superpage=True, cached=True)
    return domain, frames


def on_cpu0(
    body: Callable[[Machine, Cpu, Domain, Mfn], Awaitable[object]], *, level: int = 2
) -> Callable[[Machine], None]:
    """Return a program in which one CPU runs a body on a machine with a superpage."""

    def build(m: Machine) -> None:
        domain, frames = with_superpage(m, level=level)

        @m.cpu(0)
        async def only(cpu: Cpu) -> None:
            async with cpu.hypercall("memory_op"):
                await body(m, cpu, domain, frames)

    return build


async def unmap(m: Machine, cpu: Cpu, domain: Domain, frames: Mfn) -> None:
    """Unmap the superpage."""
    assert await m.hypervisor.unmap(cpu, domain, G, page_order=order_of(domain)) == OK


@pytest.mark.parametrize(("bits", "level"), [(1, 2), (1, 3), (2, 3), (5, 3), (9, 2)])
def test_a_superpage_is_one_leaf_and_one_cached_translation(execute: Execute, bits: int, level: int) -> None:
    m = Machine(Description(settings=VtdSettings(superpage_bits=bits), is_checking=True))
    domain, frames = with_superpage(m, level=level)
    order = order_of(domain, level)
    assert len(domain.tables) == 1 + domain.levels - level
    (entry,) = m.unit.iotlb.entries.values()
    assert (entry.translation.order, entry.key[1:3]) == (order, (order, G))
    reads: list[int | None] = []
    for i in range(page_count(order)):
        m.memory.put(frame_address(Mfn(frames + i)), 100 + i)

    @m.device(NIC)
    async def reader(device: Device) -> None:
        pages = (0, 1, page_count(order) - 1, page_count(order))
        reads.extend([await device.read(offset(G, page)) for page in pages])

    assert execute(m) == []
    assert reads == [100, 101, 99 + page_count(order), None]
    assert [domain.p2m[offset(G, i)] for i in (0, 1)] == [frames, frames + 1]


@pytest.mark.parametrize(
    ("second", "complaint"),
    [
        ((0x100, 1, True), "dfn 0x100 cannot be mapped: a table stands there already"),
        ((0x100, 0, False), None),
        ((0x102, 1, True), None),
        ((0x200, 0, False), "dfn 0x200 cannot be mapped: a superpage stands there already"),
        ((0x200, 1, True), None),
        ((0x104, 3, True), "dfn 0x104 is not aligned to page order 3"),
        ((0x108, 3, True), "no leaf has page order 3: name one of 0, 1, 2"),
    ],
)
def test_before_the_first_step_each_page_has_a_leaf_of_one_size(
    second: tuple[int, int, bool], complaint: str | None
) -> None:
    m = Machine(Description(settings=VtdSettings(superpage_bits=1)))
    domain = m.domain(1, devices=(NIC,))
    m.premap(domain, Dfn(0x100), m.allocate())
    m.premap(domain, Dfn(0x200), m.allocate(page_order=1), page_order=1, superpage=True)
    dfn, order, superpage = second
    frames = m.allocate(page_order=order)
    if complaint is None:
        m.premap(domain, Dfn(dfn), frames, page_order=order, superpage=superpage)
        return
    with pytest.raises(ScenarioError, match=complaint):
        m.premap(domain, Dfn(dfn), frames, page_order=order, superpage=superpage)


@pytest.mark.parametrize("revision", ["implicit", "v1", "merged"])
@pytest.mark.parametrize("level", [2, 3])
def test_a_revision_that_takes_a_superpage_for_a_table_does_not_do_what_it_says(revision: str, level: int) -> None:
    assert found(on_cpu0(unmap, level=level), revision) == {(FindingKind.WRONG_RESULT, G)}


@pytest.mark.parametrize("parameters", ["", "coherent=false", "caching_mode=true", "write_buffer=true", "levels=3"])
@pytest.mark.parametrize("bits", [1, 2])
def test_an_unmap_of_a_superpage_that_flushes_all_its_pages_is_clean(bits: int, parameters: str) -> None:
    assert found(on_cpu0(unmap), KNOWS, f"superpage_bits={bits} {parameters}") == set()


@pytest.mark.parametrize(("bits", "others"), [(1, {1}), (2, {1, 2, 3})])
def test_one_that_flushes_the_first_page_is_stale_for_each_other_page(
    first_page_only: str, bits: int, others: set[int]
) -> None:
    shown = found(on_cpu0(unmap), first_page_only, f"superpage_bits={bits}")
    assert shown == {(FindingKind.STALE, offset(G, page)) for page in others}


def test_so_it_is_of_full_size() -> None:
    assert found(on_cpu0(unmap), KNOWS, "levels=3 walk_at_once=true superpage_bits=9") == set()


def unmap_beside_a_map(m: Machine) -> None:
    """Two CPUs, one unmaps a superpage, and another maps one elsewhere and then maps the first anew."""
    domain, _ = with_superpage(m)
    order = order_of(domain)
    new = m.allocate(page_order=order, domain=domain)
    unmapped = m.signal("unmapped")

    @m.cpu(0)
    async def unmapper(cpu: Cpu) -> None:
        assert await m.hypervisor.unmap(cpu, domain, G, page_order=order) == OK
        await unmapped.send()

    @m.cpu(1)
    async def mapper(cpu: Cpu) -> None:
        assert await m.hypervisor.map(cpu, domain, offset(G, page_count(order)), new, page_order=order) == OK
        await unmapped.wait()
        assert await m.hypervisor.map(cpu, domain, G, new, page_order=order) == OK


@pytest.mark.parametrize("is_whole", [True, False])
def test_two_cpus_change_superpages_in_sections_of_one_step(first_page_only: str, is_whole: bool) -> None:
    done = explored(unmap_beside_a_map, KNOWS if is_whole else first_page_only)
    assert done.coverage.short_locks == ["d1.mapping_lock"]
    assert {one.dfn for one in done.causes} == (set() if is_whole else {offset(G, 1)})


def test_a_table_in_the_place_of_a_superpage_makes_the_section_long() -> None:
    def build(m: Machine) -> None:
        domain = m.domain(1, devices=(NIC,))
        m.premap(domain, G, m.allocate())
        frames = m.allocate(page_order=order_of(domain), domain=domain)

        @m.cpu(0)
        async def mapper(cpu: Cpu) -> None:
            assert await m.hypervisor.map(cpu, domain, G, frames, page_order=order_of(domain)) == OK

    assert explored(build).coverage.short_locks == []


@pytest.mark.parametrize(("is_whole", "page"), [(True, 0), (True, 1), (False, 0), (False, 1)])
def test_each_frame_of_a_superpage_must_be_out_of_reach_when_it_is_freed(
    first_page_only: str, is_whole: bool, page: int
) -> None:
    async def body(m: Machine, cpu: Cpu, domain: Domain, frames: Mfn) -> None:
        await cpu.write(iommu_dont_flush_iotlb, True)
        await unmap(m, cpu, domain, frames)
        await cpu.write(iommu_dont_flush_iotlb, False)
        await m.hypervisor.flush(cpu, domain, G, pages=2 if is_whole else 1)
        await m.pages.put(cpu, Mfn(frames + page))

    shown = {kind for kind, dfn in found(on_cpu0(body)) if dfn == offset(G, page)}
    assert shown == ({FindingKind.RELEASED} if page and not is_whole else set())


@pytest.mark.parametrize("is_let", [True, False])
@pytest.mark.parametrize("foreign", [0, 1, 3])
def test_each_frame_of_a_superpage_must_be_the_domains_or_let_to_it(foreign: int, is_let: bool) -> None:
    def build(m: Machine) -> None:
        domain, other = m.domain(1, devices=(NIC,)), m.domain(2)
        frames = m.allocate(page_order=2)
        for i in range(4):
            m.pages.add(Mfn(frames + i), other if i == foreign else domain)
        if is_let:
            m.let_map(Mfn(frames + foreign), domain)

        @m.cpu(0)
        async def mapper(cpu: Cpu) -> None:
            await m.hypervisor.map(cpu, domain, G, frames, page_order=2)

    shown = set() if is_let else {(FindingKind.NOT_ISOLATED, offset(G, foreign))}
    assert found(build, parameters="superpage_bits=2") == shown


@pytest.mark.parametrize("is_whole", [True, False])
@pytest.mark.parametrize("page", [0, 1])
def test_each_frame_of_a_superpage_must_be_out_of_reach_when_a_grant_of_it_ends(page: int, is_whole: bool) -> None:
    def build(m: Machine) -> None:
        owner = m.domain(2)
        domain, frames = with_superpage(m, owner=owner)
        for i in range(2):
            m.let_map(Mfn(frames + i), domain)

        @m.cpu(0)
        async def only(cpu: Cpu) -> None:
            if is_whole:
                await unmap(m, cpu, domain, frames)
            await m.pages.withdraw(cpu, Mfn(frames + page), domain)

    assert found(build) == (set() if is_whole else {(FindingKind.NOT_ISOLATED, offset(G, page))})


def test_who_gets_a_frame_of_a_superpage_while_it_is_mapped_depends_on_the_order() -> None:
    def build(m: Machine) -> None:
        domain, other = m.domain(1, devices=(NIC,)), m.domain(2)
        m.premap(domain, offset(G, 2), m.allocate(page_order=1, domain=domain), page_order=1, superpage=True)
        frames = m.allocate(page_order=1)
        m.pages.add(frames, domain)
        m.pages.add(Mfn(frames + 1), other)

        @m.cpu(0)
        async def mapper(cpu: Cpu) -> None:
            await m.hypervisor.map(cpu, domain, G, frames, page_order=1)

        @m.cpu(1)
        async def granter(cpu: Cpu) -> None:
            await m.pages.let_map(cpu, Mfn(frames + 1), domain)

    done = explored(build)
    assert done.done == 2
    assert [cause.executions for cause in done.causes.values()] == [1]


@pytest.mark.parametrize(("order", "shown"), [(0, {(FindingKind.BEYOND_RANGE, offset(G, 1))}), (1, set())])
def test_an_unmap_of_one_page_that_clears_the_superpage_goes_beyond_its_range(order: int, shown: Found) -> None:
    async def clear_superpage(cpu: Cpu, domain: Domain, dfn: Dfn, page_order: int) -> int:
        await domain.ops.unmap_page(cpu, domain, dfn, page_order=1)
        return await domain.ops.iotlb_flush_all(cpu, domain)

    async def body(m: Machine, cpu: Cpu, domain: Domain, frames: Mfn) -> None:
        assert await m.hypervisor.unmap(cpu, domain, G, page_order=order) == OK

    def build(m: Machine) -> None:
        replace_calls(m, unmap=clear_superpage)
        on_cpu0(body)(m)

    assert found(build) == shown


@pytest.mark.parametrize(("page", "result"), [(0, ENOMEM), (1, ENOMEM), (2, OK)])
def test_a_hook_that_fails_on_a_page_fails_for_the_superpage_that_has_it(page: int, result: int) -> None:
    def build(m: Machine) -> None:
        domain, _ = with_superpage(m)
        m.fail_hook("unmap_page", offset(G, page), ENOMEM)

        @m.cpu(0)
        async def only(cpu: Cpu) -> None:
            assert await m.hypervisor.unmap(cpu, domain, G, page_order=1) == result

    assert found(build) == set()


def test_a_dying_domain_refuses_a_superpage_for_each_of_its_pages() -> None:
    async def body(m: Machine, cpu: Cpu, domain: Domain, frames: Mfn) -> None:
        await domain.is_dying.write(True)
        assert await m.hypervisor.map(cpu, domain, offset(G, 2), frames, page_order=1) == OK
        await unmap(m, cpu, domain, frames)

    def build(m: Machine) -> None:
        m.driver.fixes.add(Fix.DYING)
        on_cpu0(body)(m)

    assert found(build) == set()


@pytest.mark.parametrize("distance", [2, 1 << 9])
def test_an_unmap_of_a_superpage_that_is_not_there_has_nothing_to_do(distance: int) -> None:
    async def body(m: Machine, cpu: Cpu, domain: Domain, frames: Mfn) -> None:
        assert await m.hypervisor.unmap(cpu, domain, offset(G, distance), page_order=1) == OK

    assert found(on_cpu0(body)) == set()


@pytest.mark.parametrize("flags", [READ_WRITE, MapFlags.READABLE, MapFlags.WRITABLE])
def test_a_map_of_a_superpage_gives_each_page_its_frame_and_its_permissions(flags: MapFlags) -> None:
    async def body(m: Machine, cpu: Cpu, domain: Domain, frames: Mfn) -> None:
        assert await m.hypervisor.map(cpu, domain, G, frames, page_order=1, flags=flags) == OK

    assert found(on_cpu0(body)) == set()


def windows(page_orders: list[tuple[int, int]], reads: list[int]) -> list[Window]:
    """Return the windows of a superpage that is unmapped and then flushed in parts, while a device reads pages."""
    m = Machine(Description(KNOWS, settings=VtdSettings(superpage_bits=2), is_checking=True))
    domain, _ = with_superpage(m)
    unmapped = m.signal("unmapped")

    @m.cpu(0)
    async def only(cpu: Cpu) -> None:
        async with cpu.hypercall("memory_op"):
            await cpu.write(iommu_dont_flush_iotlb, True)
            await m.hypervisor.unmap(cpu, domain, G, page_order=2)
            await unmapped.send()
            for page, order in page_orders:
                await m.hypervisor.flush(cpu, domain, offset(G, page), pages=page_count(order))

    @m.device(NIC)
    async def reader(device: Device) -> None:
        await unmapped.wait()
        for page in reads:
            await device.read(offset(G, page))

    direct.run(m.execution(RoundRobinStrategy()))
    return statistics(m).windows


@pytest.mark.parametrize(
    ("flushed", "still_open"),
    [
        ([(0, 2)], False),
        ([(0, 0)], True),
        ([(0, 1)], True),
        ([(0, 1), (2, 1)], False),
        ([(2, 0), (0, 1), (3, 0)], False),
        ([(2, 0), (0, 1), (2, 0)], True),
    ],
)
def test_the_window_of_a_superpage_closes_when_each_of_its_pages_is_flushed(
    flushed: list[tuple[int, int]], still_open: bool
) -> None:
    (window,) = windows(flushed, [])
    assert (window.table_level, window.dfn, window.still_open) == (2, G, still_open)


def test_accesses_to_any_page_of_a_replaced_superpage_are_uses_of_it() -> None:
    (window,) = windows([], [0, 3, 1, 3])
    assert window.uses == 4
