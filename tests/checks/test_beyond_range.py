"""A store changes what its call was for and no more, whatever the size of the leaf. Every trace is executed."""

from collections.abc import Awaitable, Callable
from contextlib import nullcontext

import pytest

from emu.checks.findings import FindingKind
from emu.checks.signatures import Signature, signature
from emu.cpus import Cpu
from emu.devices.device import Device
from emu.hypervisor.domain import Domain
from emu.hypervisor.entries import read_pte, write_pte
from emu.hypervisor.ops import OK, READ_WRITE, FlushType, MapFlags
from emu.hypervisor.revisions.v1.iommu import iommu_map
from emu.hypervisor.tables import LEAF_TABLE, AllocateTable
from emu.hypervisor.vtd.tables import addr_to_dma_page_maddr
from emu.iommus.vtd.formats import encode_leaf, encode_table
from emu.machine.machine import Machine
from emu.running.causes import Cause
from emu.running.run import Run
from emu.scenarios.expectation import CLEAN
from emu.scenarios.scenario import Build, scenario
from emu.units import WORD_BYTES, Dfn, Maddr, Mfn, frame_address, offset
from tests.checks import exhausted
from tests.checks.exhausted import explored, replace_calls
from tests.vtd import driver_of

Change = Callable[[Cpu, Domain, Dfn], Awaitable[None]]

NIC = "00:1f.0"
LARGE = 9
"""The order of a 2 MiB leaf."""
BASE = Dfn(0x1000)
"""A page that no scenario here has mapped, at the beginning of 2 MiB."""
G = Dfn(BASE + 1)
H = offset(G, 1)
LAST = offset(BASE, (1 << LARGE) - 1)
OTHER = offset(BASE, 1 << LARGE)
"""A page of the next 2 MiB: that it is mapped has made the tables above."""
ALL = 1 << LARGE


def causes(build: Build, parameters: str = "") -> dict[Signature, Cause]:
    """Return what every trace of a program together shows, with small tables."""
    return exhausted.causes(build, f"levels=3 {parameters}")


def shown(build: Build, executions: int = 1) -> list[Signature]:
    """Return what some executions show, in their order. For programs with hundreds of pages; of one CPU one is all."""
    bound = scenario(expect=CLEAN, sequential=True)(build).bind({"levels": "3", "synchronous": "true"})
    done = Run(bound, "random", 0, executions, sources=False)
    done.on("direct")
    assert done.failure is None
    if done.reported is None:
        return []
    return [signature(finding, done.reported.machine.trace) for finding in done.reported.findings]


def beyond(page: Dfn, call: str = "map") -> Signature:
    return Signature(FindingKind.BEYOND_RANGE, call, 1, page, None, None, "cpu0")


def wrong(page: Dfn) -> Signature:
    return Signature(FindingKind.WRONG_RESULT, "map", 1, page, None, None, "cpu0")


def gap(page: Dfn) -> Signature:
    return Signature(FindingKind.GAP, "map", 1, page, None, None, "cpu0")


def leaf(mfn: int, *, write: bool = True, level: int = 1) -> int:
    return encode_leaf(frame_address(Mfn(mfn)), read=True, write=write, snoop=True, level=level)


def machine_with(m: Machine, *dfns: Dfn) -> Domain:
    """Return a domain with a device; some of its pages are mapped, and there are tables for 2 MiB leaves."""
    domain = m.domain(1, devices=(NIC,))
    for dfn in (OTHER, *dfns):
        m.premap(domain, dfn, m.allocate())
    return domain


async def address_of(m: Machine, cpu: Cpu, domain: Domain, dfn: Dfn) -> Maddr:
    address = await addr_to_dma_page_maddr(cpu, driver_of(m), domain, dfn, alloc=True)
    assert address is not None
    return address


async def table_entry(m: Machine, cpu: Cpu, domain: Domain) -> Maddr:
    """Return the address of the entry that stands for the 2 MiB from BASE on."""
    address, _ = await m.tables.find(cpu, domain, BASE)
    return address


def mapped_by(m: Machine, change: Change, *, frame: Mfn, order: int = 0, is_flushed: bool = True) -> None:
    """Have cpu0 map G, or more pages from BASE on, by a wrapper that makes a change under the lock and then flushes."""

    async def wrapper(cpu: Cpu, domain: Domain, dfn: Dfn, mfn: Mfn, page_order: int, flags: MapFlags) -> int:
        async with domain.mapping_lock.held(cpu):
            await change(cpu, domain, dfn)
        return await domain.ops.iotlb_flush_all(cpu, domain) if is_flushed else OK

    domain = m.domains[1]
    replace_calls(m, map=wrapper)

    @m.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        await m.hypervisor.map(cpu, domain, BASE if order else G, frame, page_order=order)


# Leaves of 4 KiB


@pytest.mark.parametrize("is_near", [True, False])
@pytest.mark.parametrize("present", [(), (H,)], ids=["not mapped", "mapped"])
def test_a_store_to_the_neighbour_is_charged_to_the_call_that_made_it(present: tuple[Dfn, ...], is_near: bool) -> None:
    def program(m: Machine) -> None:
        machine_with(m, *present)
        new = m.allocate()

        async def change(cpu: Cpu, domain: Domain, dfn: Dfn) -> None:
            address = await address_of(m, cpu, domain, dfn)
            await write_pte(cpu, domain, dfn, address, leaf(new))
            await write_pte(cpu, domain, dfn, Maddr(address + WORD_BYTES * is_near), leaf(new))

        mapped_by(m, change, frame=new)

    assert list(causes(program)) == [beyond(H)] * is_near


@pytest.mark.parametrize("order", [0, 1])
def test_a_map_of_more_pages_than_asked_for_goes_beyond_its_range(order: int) -> None:
    async def wrapper(cpu: Cpu, domain: Domain, dfn: Dfn, mfn: Mfn, page_order: int, flags: MapFlags) -> int:
        return await iommu_map(cpu, domain, dfn, mfn, order, flags)

    def program(m: Machine) -> None:
        domain, new = machine_with(m), m.allocate(page_order=1)
        replace_calls(m, map=wrapper)

        @m.cpu(0)
        async def mapper(cpu: Cpu) -> None:
            await m.hypervisor.map(cpu, domain, BASE, new)

    assert list(causes(program)) == [beyond(G)] * order


WAYS = {
    "another frame, and back": (True, [beyond(H)], [beyond(H)]),
    "cleared, and back": (False, [], [gap(H)]),
    "never touched": (None, [], []),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("refused", [False, True])
def test_a_page_beyond_the_range_may_be_unmapped_for_a_while_and_never_mapped_otherwise(
    way: str, refused: bool
) -> None:
    is_mapped, found, found_if_refused = WAYS[way]

    def program(m: Machine) -> None:
        domain, new = machine_with(m, H), m.allocate()
        old = domain.p2m[H]

        async def change(cpu: Cpu, domain: Domain, dfn: Dfn) -> None:
            await write_pte(cpu, domain, dfn, await address_of(m, cpu, domain, dfn), leaf(new))
            if is_mapped is not None:
                address = await address_of(m, cpu, domain, H)
                await write_pte(cpu, domain, H, address, leaf(new) if is_mapped else 0)
                await write_pte(cpu, domain, H, address, leaf(old))

        mapped_by(m, change, frame=new)

    assert list(causes(program, f"refuse_gaps={refused}")) == (found_if_refused if refused else found)


@pytest.mark.parametrize("is_through_the_door", [True, False])
def test_what_no_call_has_asked_for_is_beyond_any_range(is_through_the_door: bool) -> None:
    def program(m: Machine) -> None:
        domain, new = machine_with(m), m.allocate()

        @m.cpu(0)
        async def mapper(cpu: Cpu) -> None:
            if is_through_the_door:
                await m.hypervisor.map(cpu, domain, G, new)
            else:
                await domain.ops.map_page(cpu, domain, G, new, READ_WRITE)

    assert list(causes(program)) == ([] if is_through_the_door else [beyond(G, "no call")])


@pytest.mark.parametrize("is_changing", [True, False])
def test_a_flush_is_to_change_nothing(is_changing: bool) -> None:
    async def flush_and_clear(cpu: Cpu, domain: Domain, dfn: Dfn, page_count: int) -> int:
        if is_changing:
            await domain.ops.unmap_page(cpu, domain, dfn)
        return await domain.ops.iotlb_flush(cpu, domain, dfn, page_count, FlushType.MODIFIED)

    def program(m: Machine) -> None:
        domain = machine_with(m, G)
        replace_calls(m, flush=flush_and_clear)

        @m.cpu(0)
        async def flusher(cpu: Cpu) -> None:
            await m.hypervisor.flush(cpu, domain, G, pages=1)

    assert list(causes(program)) == [beyond(G, "flush")] * is_changing


# Entries that stand for 2 MiB


@pytest.mark.parametrize("is_alone", [True, False])
def test_an_unmap_of_one_page_must_not_clear_a_table_entry_that_leads_to_other_pages(is_alone: bool) -> None:
    async def unmap(cpu: Cpu, domain: Domain, dfn: Dfn, page_order: int) -> int:
        async with domain.mapping_lock.held(cpu):
            await write_pte(cpu, domain, dfn, await table_entry(machines[-1], cpu, domain), 0, LEAF_TABLE)
        return await domain.ops.iotlb_flush_all(cpu, domain)

    machines: list[Machine] = []

    def program(m: Machine) -> None:
        machines.append(m)
        domain = machine_with(m, G, *([] if is_alone else [H, LAST]))
        replace_calls(m, unmap=unmap)

        @m.cpu(0)
        async def unmapper(cpu: Cpu) -> None:
            await m.hypervisor.unmap(cpu, domain, G)

    assert list(causes(program)) == ([] if is_alone else [beyond(H, "unmap")])


def maps_large_leaf(m: Machine, frame: int) -> Change:
    """Return a change that maps 2 MiB by one leaf, unless it is there."""

    async def change(cpu: Cpu, domain: Domain, dfn: Dfn) -> None:
        address = await table_entry(m, cpu, domain)
        word = leaf(frame, level=LEAF_TABLE)
        if await read_pte(cpu, domain, dfn, address, LEAF_TABLE) != word:
            await write_pte(cpu, domain, dfn, address, word, LEAF_TABLE)

    return change


@pytest.mark.parametrize("distance", [0, ALL])
@pytest.mark.parametrize("times", [1, 2])
def test_a_leaf_of_2_mib_is_what_512_pages_were_asked_to_be(times: int, distance: int) -> None:
    """The second map finds the leaf."""

    def program(m: Machine) -> None:
        domain, new = machine_with(m), m.allocate(page_order=LARGE + 1)
        change = maps_large_leaf(m, new + distance)

        async def wrapper(cpu: Cpu, domain: Domain, dfn: Dfn, mfn: Mfn, page_order: int, flags: MapFlags) -> int:
            async with domain.mapping_lock.held(cpu):
                await change(cpu, domain, dfn)
            return OK

        replace_calls(m, map=wrapper)

        @m.cpu(0)
        async def mapper(cpu: Cpu) -> None:
            for _ in range(times):
                await m.hypervisor.map(cpu, domain, BASE, new, page_order=LARGE)

    assert list(causes(program)) == ([wrong(BASE)] if distance else [])


def test_a_leaf_of_2_mib_for_a_single_page_maps_its_neighbours_too() -> None:
    def program(m: Machine) -> None:
        machine_with(m)
        new = m.allocate(page_order=LARGE)
        mapped_by(m, maps_large_leaf(m, new), frame=Mfn(new + 1))

    assert list(causes(program)) == [beyond(BASE)]


@pytest.mark.parametrize("is_flushed", [True, False])
def test_each_page_of_a_2_mib_leaf_must_be_flushed_before_its_unmap_returns(is_flushed: bool) -> None:
    def program(m: Machine) -> None:
        domain, new = machine_with(m), m.allocate(page_order=LARGE)

        async def unmap(cpu: Cpu, domain: Domain, dfn: Dfn, page_order: int) -> int:
            async with domain.mapping_lock.held(cpu):
                await write_pte(cpu, domain, dfn, await table_entry(m, cpu, domain), 0, LEAF_TABLE)
            return await domain.ops.iotlb_flush_all(cpu, domain) if is_flushed else OK

        mapped_by(m, maps_large_leaf(m, new), order=LARGE, frame=new)
        replace_calls(m, unmap=unmap)
        m.agents.pop()

        @m.cpu(0)
        async def mapper(cpu: Cpu) -> None:
            await m.hypervisor.map(cpu, domain, BASE, new, page_order=LARGE)
            await m.hypervisor.unmap(cpu, domain, BASE, page_order=LARGE)

    stale = [
        Signature(FindingKind.STALE, "unmapped", 1, offset(BASE, i), Mfn(FIRST_LARGE + i), "vtd0", "cpu0")
        for i in range(ALL)
    ]
    assert shown(program) == ([] if is_flushed else stale)


FIRST_LARGE = 0x180200
"""The first frame that is aligned to 2 MiB."""


SPLITS = {
    "equal leaves": ((), False, []),
    "a page is left out": ((LAST,), False, [beyond(LAST)]),
    "a page is made read-only": ((), True, [beyond(LAST)]),
}


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("clears_first", [False, True])
def test_to_split_a_large_leaf_is_no_change_if_the_small_ones_map_the_same(split: str, clears_first: bool) -> None:
    left_out, is_read_only, found = SPLITS[split]

    def program(m: Machine) -> None:
        domain, large, new = machine_with(m), m.allocate(page_order=LARGE), m.allocate()

        async def map_or_split(cpu: Cpu, domain: Domain, dfn: Dfn, mfn: Mfn, page_order: int, flags: MapFlags) -> int:
            async with domain.mapping_lock.held(cpu):
                address = await table_entry(m, cpu, domain)
                if page_order == LARGE:
                    await write_pte(cpu, domain, dfn, address, leaf(mfn, level=LEAF_TABLE), LEAF_TABLE)
                    return OK
                table = frame_address(await AllocateTable(domain, dfn))
                for i in range(ALL):
                    page = offset(BASE, i)
                    word = leaf(large + i, write=not (is_read_only and page == LAST))
                    if page not in left_out:
                        await write_pte(cpu, domain, page, Maddr(table + WORD_BYTES * i), word)
                if clears_first:
                    await write_pte(cpu, domain, dfn, address, 0, LEAF_TABLE)
                await write_pte(cpu, domain, dfn, address, encode_table(table), LEAF_TABLE)
                await write_pte(cpu, domain, dfn, await address_of(m, cpu, domain, dfn), leaf(mfn))
            return await domain.ops.iotlb_flush_all(cpu, domain)

        replace_calls(m, map=map_or_split)

        @m.cpu(0)
        async def mapper(cpu: Cpu) -> None:
            await m.hypervisor.map(cpu, domain, BASE, large, page_order=LARGE)
            await m.hypervisor.map(cpu, domain, G, new)

    assert list(causes(program, "synchronous=true")) == found


@pytest.mark.parametrize("is_complete", [True, False])
@pytest.mark.parametrize("order", [LARGE, 0], ids=["all of them", "one of them"])
def test_a_large_leaf_in_place_of_small_leaves_is_no_change_if_it_maps_the_same(order: int, is_complete: bool) -> None:
    """Where a page was not mapped the large leaf maps it: that is what a map of all of them was for, and not of one."""

    def program(m: Machine) -> None:
        domain, large = machine_with(m), m.allocate(page_order=LARGE)
        for i in range(ALL - (not is_complete)):
            m.premap(domain, offset(BASE, i), Mfn(large + i))
        mapped_by(m, maps_large_leaf(m, large), order=order, frame=large if order else Mfn(large + 1))

    expected = [] if is_complete or order else [beyond(LAST)]
    assert shown(program) == expected


def test_pages_may_be_entered_into_a_table_before_an_entry_leads_there() -> None:
    def program(m: Machine) -> None:
        machine_with(m)
        new = m.allocate()

        async def change(cpu: Cpu, domain: Domain, dfn: Dfn) -> None:
            table = frame_address(await AllocateTable(domain, dfn))
            await write_pte(cpu, domain, dfn, domain.format.entry_address(table, dfn, 1), leaf(new))
            await write_pte(cpu, domain, dfn, await table_entry(m, cpu, domain), encode_table(table), LEAF_TABLE)

        mapped_by(m, change, frame=new)

    assert causes(program) == {}


def test_a_table_that_is_never_entered_maps_nothing() -> None:
    def program(m: Machine) -> None:
        machine_with(m)
        new = m.allocate()

        async def change(cpu: Cpu, domain: Domain, dfn: Dfn) -> None:
            table = frame_address(await AllocateTable(domain, dfn))
            await write_pte(cpu, domain, dfn, domain.format.entry_address(table, dfn, 1), leaf(new))

        mapped_by(m, change, frame=new)

    assert list(causes(program)) == [wrong(G)]


@pytest.mark.parametrize("is_locked", [True, False])
def test_what_a_store_without_the_lock_takes_away_depends_on_what_was_stored_before(is_locked: bool) -> None:
    """An unmap of G takes the table of its leaf out if it finds nothing else in it; meanwhile another CPU enters H."""

    def program(m: Machine) -> None:
        domain, new = machine_with(m, G), m.allocate()

        async def clear(cpu: Cpu, domain: Domain) -> None:
            entry = await table_entry(m, cpu, domain)
            address = await address_of(m, cpu, domain, H)
            if not await read_pte(cpu, domain, H, address):
                await write_pte(cpu, domain, G, entry, 0, LEAF_TABLE)
            else:
                await write_pte(cpu, domain, G, Maddr(address - WORD_BYTES), 0)

        async def unmap(cpu: Cpu, domain: Domain, dfn: Dfn, page_order: int) -> int:
            async with domain.mapping_lock.held(cpu) if is_locked else nullcontext():
                await clear(cpu, domain)
                return await domain.ops.iotlb_flush_all(cpu, domain)

        replace_calls(m, unmap=unmap)

        @m.cpu(0)
        async def unmapper(cpu: Cpu) -> None:
            await m.hypervisor.unmap(cpu, domain, G)

        @m.cpu(1)
        async def mapper(cpu: Cpu) -> None:
            await m.hypervisor.map(cpu, domain, H, new)

    done = explored(scenario(expect=CLEAN)(program), "levels=3 synchronous=true walk_at_once=true revision=merged")
    if is_locked:
        assert done.causes == {}
    else:
        assert 0 < done.causes[beyond(H, "unmap")].executions < done.done


def test_a_device_may_use_small_leaves_while_they_become_a_large_leaf() -> None:
    """Nothing that it finds in the IOTLB is stale: before and after, the page is the same."""

    def program(m: Machine) -> None:
        domain, large = machine_with(m), m.allocate(page_order=LARGE)
        for i in range(ALL):
            m.premap(domain, offset(BASE, i), Mfn(large + i), cached=True)
        mapped_by(m, maps_large_leaf(m, large), order=LARGE, frame=large, is_flushed=False)

        @m.device(NIC)
        async def reader(device: Device) -> None:
            for _ in range(2):
                await device.read(G)

    assert shown(program, 3) == []
