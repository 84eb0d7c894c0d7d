"""Programs in which nothing is wrong, however it looks: exhausted, they show nothing, or one thing once."""

from collections.abc import Awaitable, Callable

import pytest

from emu.checks.findings import FindingKind
from emu.cpus import Cpu
from emu.devices.device import Device
from emu.hypervisor.domain import Domain
from emu.hypervisor.entries import write_pte
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import ENOMEM, OK, FlushType, MapFlags, iommu_dont_flush_iotlb
from emu.hypervisor.tables import LEAF_TABLE, AllocateTable
from emu.iommus.vtd.formats import encode_leaf, encode_table
from emu.machine.machine import Machine
from emu.scenarios.scenario import Build
from emu.units import WORD_BYTES, Dfn, Maddr, Mfn, frame_address, offset
from tests.checks.exhausted import causes, replace_calls

NIC, DISK = "00:1f.0", "00:02.0"
G = Dfn(0x1000)
LARGE = 9
"""The order of a 2 MiB leaf."""


def comes_back_after_an_unmap(m: Machine) -> None:
    """While the page was unmapped no tables of the domain were in reach, so there was nothing to flush."""
    domain = m.domain(1, devices=(NIC,))
    frame = m.allocate(domain=domain)
    m.premap(domain, G, frame)

    @m.cpu(0)
    async def toolstack(cpu: Cpu) -> None:
        assert await m.assignment.detach(cpu, domain, m.devices[NIC]) == OK
        assert await m.hypervisor.unmap(cpu, domain, G) == OK
        assert await m.assignment.attach(cpu, domain, m.devices[NIC]) == OK
        await m.pages.put(cpu, frame)


def comes_after_an_unmap(m: Machine) -> None:
    """The device was given to the domain when the page was gone."""
    domain = m.domain(1)
    m.plug(NIC)
    frame = m.allocate(domain=domain)
    m.premap(domain, G, frame)

    @m.cpu(0)
    async def toolstack(cpu: Cpu) -> None:
        assert await m.hypervisor.unmap(cpu, domain, G) == OK
        assert await m.assignment.attach(cpu, domain, m.devices[NIC]) == OK
        await m.pages.put(cpu, frame)


def a_table_is_widened_under_a_walk(m: Machine) -> None:
    """A table is entered in three stores; an access that has seen the second of them is made after a flush returned."""
    domain, frame = m.domain(1, devices=(NIC,)), m.allocate()

    @m.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        await m.hypervisor.map(cpu, domain, G, frame)
        await m.hypervisor.flush_all(cpu, domain)

    @m.device(NIC)
    async def reader(device: Device) -> None:
        await device.read(G)


def a_store_waits_in_a_cache_while_another_flushes(m: Machine) -> None:
    """What no walker could see yet the flush need not remove: the call that stored it has not returned."""
    domain = m.domain(1, devices=(NIC,))
    m.premap(domain, G, m.allocate(), cached=True)

    @m.cpu(0)
    async def unmapper(cpu: Cpu) -> None:
        await m.hypervisor.unmap(cpu, domain, G)

    @m.cpu(1)
    async def flusher(cpu: Cpu) -> None:
        await m.hypervisor.flush(cpu, domain, G, pages=1)


def a_page_is_unmapped_and_mapped_to_the_same_frame(m: Machine) -> None:
    """An access that no flush has drained was translated as the page is, all the same."""
    domain, frame = m.domain(1, devices=(NIC,)), m.allocate()
    m.premap(domain, G, frame, cached=True)

    @m.cpu(0)
    async def remapper(cpu: Cpu) -> None:
        async with cpu.hypercall("remap"):
            await cpu.write(iommu_dont_flush_iotlb, True)
            await m.hypervisor.unmap(cpu, domain, G)
            await m.hypervisor.map(cpu, domain, G, frame)
            await cpu.write(iommu_dont_flush_iotlb, False)
            await m.hypervisor.flush(cpu, domain, G, pages=1)

    @m.device(NIC)
    async def writer(device: Device) -> None:
        await device.write(G, 1)


def a_flush_meets_a_detach(m: Machine) -> None:
    """A flush says nothing about who has the device."""
    domain = m.domain(1, devices=(NIC,))
    m.premap(domain, G, m.allocate(), cached=True)

    @m.cpu(0)
    async def flusher(cpu: Cpu) -> None:
        await m.hypervisor.flush(cpu, domain, G, pages=1)

    @m.cpu(1)
    async def toolstack(cpu: Cpu) -> None:
        await m.assignment.detach(cpu, domain, m.devices[NIC])

    @m.device(NIC)
    async def writer(device: Device) -> None:
        await device.write(G, 1)


def a_frame_is_mapped_by_whom_the_owner_lets(m: Machine) -> None:
    """A page of another domain is mapped, used and unmapped, and mapped no more from then on."""
    owner, other = m.domain(1), m.domain(2, devices=(NIC,))
    frame, let = m.allocate(domain=owner), m.signal("let")

    @m.cpu(0)
    async def granter(cpu: Cpu) -> None:
        assert await m.pages.let_map(cpu, frame, other)
        await let.send()

    @m.cpu(1)
    async def grantee(cpu: Cpu) -> None:
        await let.wait()
        await m.hypervisor.map(cpu, other, G, frame)
        await m.hypervisor.unmap(cpu, other, G)
        assert await m.pages.withdraw(cpu, frame, other)
        await m.pages.put(cpu, frame)

    @m.device(NIC)
    async def reader(device: Device) -> None:
        await device.read(G)


def the_hardware_domain_maps_all(m: Machine) -> None:
    """Guests get frames and lose them, and the hardware domain's devices may reach them all along."""
    hardware_domain, guest = m.domain(0, devices=(NIC,), maps_all=True), m.domain(1)
    frame = m.allocate(domain=guest)
    m.premap(hardware_domain, Dfn(frame), frame, cached=True)

    @m.cpu(0)
    async def toolstack(cpu: Cpu) -> None:
        await m.pages.put(cpu, frame)
        assert await m.pages.allocate(cpu, guest) == frame

    @m.device(NIC)
    async def reader(device: Device) -> None:
        await device.read(Dfn(frame))


def an_entry_is_cleared_before_it_is_set(m: Machine) -> None:
    """Unless gaps are refused, what a device may meet between two stores is no finding."""
    domain, new = m.domain(1, devices=(NIC,)), m.allocate()
    m.premap(domain, G, m.allocate(), cached=True)

    async def replace(cpu: Cpu, domain: Domain, dfn: Dfn, mfn: Mfn, page_order: int, flags: MapFlags) -> int:
        await domain.ops.unmap_page(cpu, domain, dfn)
        await domain.ops.map_page(cpu, domain, dfn, mfn, flags)
        return await domain.ops.iotlb_flush_all(cpu, domain)

    replace_calls(m, map=replace)

    @m.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        await m.hypervisor.map(cpu, domain, G, new)


def a_page_is_refused_because_its_domain_is_dying(m: Machine) -> None:
    """The map says that all went well, and nothing uses the page any more."""
    domain, new = m.domain(1), m.allocate(page_order=1)
    m.premap(domain, G, m.allocate())
    m.driver.fixes.add(Fix.DYING)

    @m.cpu(0)
    async def destroyer(cpu: Cpu) -> None:
        await m.tables.free_all(cpu, domain)

    @m.cpu(1)
    async def mapper(cpu: Cpu) -> None:
        await m.hypervisor.map(cpu, domain, G, new, page_order=1)


def a_leaf_of_2_mib_is_mapped_and_split(m: Machine) -> None:
    """The small leaves map what the large one did, but for the page that is mapped anew."""
    domain, large, new = m.domain(1, devices=(NIC,)), m.allocate(page_order=LARGE), m.allocate()
    m.premap(domain, offset(G, 1 << LARGE), m.allocate())  # and so there are tables down to where the leaf stands

    async def replace(cpu: Cpu, domain: Domain, dfn: Dfn, mfn: Mfn, page_order: int, flags: MapFlags) -> int:
        async with domain.mapping_lock.held(cpu):
            address, _ = await m.tables.find(cpu, domain, dfn)
            table = frame_address(await AllocateTable(domain, dfn)) if page_order == 0 else None
            word = encode_leaf(frame_address(mfn), read=True, write=True, level=1 if table else LEAF_TABLE)
            for i in range(1 << LARGE if table else 0):
                leaf = word if i == 0 else encode_leaf(frame_address(Mfn(large + i)), read=True, write=True)
                await write_pte(cpu, domain, offset(dfn, i), Maddr((table or 0) + WORD_BYTES * i), leaf)
            await write_pte(cpu, domain, dfn, address, encode_table(table) if table else word, LEAF_TABLE)
        return await domain.ops.iotlb_flush_all(cpu, domain)

    replace_calls(m, map=replace)

    @m.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        await m.hypervisor.map(cpu, domain, G, large, page_order=LARGE)
        await m.hypervisor.map(cpu, domain, G, new)


@pytest.mark.parametrize(
    ("build", "parameters"),
    [
        (an_entry_is_cleared_before_it_is_set, "refuse_gaps=false"),
        (a_page_is_refused_because_its_domain_is_dying, "levels=3"),
        (a_leaf_of_2_mib_is_mapped_and_split, "levels=3 synchronous=true refuse_gaps=true"),
        (
            a_page_is_unmapped_and_mapped_to_the_same_frame,
            "drain=false levels=3 revision=merged synchronous=true walk_at_once=true",
        ),
        (a_flush_meets_a_detach, "drain=false levels=3 synchronous=true walk_at_once=true"),
        (comes_back_after_an_unmap, ""),
        (comes_after_an_unmap, ""),
        (a_table_is_widened_under_a_walk, "drain=false levels=3"),
        (a_frame_is_mapped_by_whom_the_owner_lets, "levels=3 synchronous=true walk_at_once=true"),
        (the_hardware_domain_maps_all, ""),
        (a_store_waits_in_a_cache_while_another_flushes, "coherent=false revision=merged levels=3"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_correct_program_shows_nothing(build: Build, parameters: str) -> None:
    assert causes(build, parameters) == {}


@pytest.mark.parametrize(
    ("back", "fails", "kinds"),
    [(True, False, set()), (False, False, {FindingKind.OWED}), (True, True, {FindingKind.OWED})],
    ids=["the same frame", "another frame", "the map fails"],
)
def test_a_later_deferred_call_that_succeeds_takes_a_debt_over(
    back: bool, fails: bool, kinds: set[FindingKind]
) -> None:
    def moves_away_and_back(m: Machine) -> None:
        domain = m.domain(1, devices=(NIC,))
        first, second = m.allocate(), m.allocate()
        m.premap(domain, G, first)
        if fails:
            m.fail_hook("map_page", G, ENOMEM)

        @m.cpu(0)
        async def mover(cpu: Cpu) -> None:
            async with cpu.hypercall("move"):
                await cpu.write(iommu_dont_flush_iotlb, True)
                await m.hypervisor.unmap(cpu, domain, G)
                await m.hypervisor.map(cpu, domain, G, first if back else second)
                await cpu.write(iommu_dont_flush_iotlb, False)

    found = causes(moves_away_and_back, "revision=merged levels=3")
    assert {one.kind for one in found} == kinds
    assert all(one.check == "owed: never" for one in found)


def test_a_later_call_that_flushes_takes_a_debt_over_and_answers_for_it_at_its_return() -> None:
    def puts_off_and_flushes(m: Machine) -> None:
        domain = m.domain(1, devices=(NIC,))
        m.premap(domain, G, m.allocate())
        second = m.allocate()

        @m.cpu(0)
        async def mover(cpu: Cpu) -> None:
            async with cpu.hypercall("move"):
                await cpu.write(iommu_dont_flush_iotlb, True)
                await m.hypervisor.unmap(cpu, domain, G)
                await cpu.write(iommu_dont_flush_iotlb, False)
                await m.hypervisor.map(cpu, domain, G, second)

    (found,) = causes(puts_off_and_flushes, "revision=merged levels=3")
    assert (found.kind, found.check) == (FindingKind.STALE, "mapped")


def test_an_access_after_its_page_was_mapped_to_its_frame_again_is_not_late() -> None:
    def unmaps_and_another_maps_again(m: Machine) -> None:
        domain = m.domain(1, devices=(NIC,))
        frame, unmapped = m.allocate(), m.signal("unmapped")
        m.premap(domain, G, frame, cached=True)

        @m.cpu(0)
        async def unmapper(cpu: Cpu) -> None:
            await m.hypervisor.unmap(cpu, domain, G)
            await unmapped.send()

        @m.cpu(1)
        async def mapper(cpu: Cpu) -> None:
            await unmapped.wait()
            await m.hypervisor.map(cpu, domain, G, frame)

        @m.device(NIC)
        async def writer(device: Device) -> None:
            await device.write(G, 7)

    (cause,) = causes(unmaps_and_another_maps_again, "revision=merged levels=3 drain=false").values()
    assert cause.signature.kind is FindingKind.LATE
    assert cause.executions == 1, "the one trace in which the write may come before the page is mapped again"


def test_a_translation_that_two_devices_may_use_is_found_once() -> None:
    def two_devices(m: Machine) -> None:
        domain = m.domain(1, devices=(NIC,))
        m.plug(DISK)
        m.premap(domain, G, m.allocate())
        m.driver.fixes.clear()

        @m.cpu(0)
        async def toolstack(cpu: Cpu) -> None:
            await m.assignment.attach(cpu, domain, m.devices[DISK])
            await m.hypervisor.unmap(cpu, domain, G)

    ((found, cause),) = causes(two_devices).items()
    assert found.kind is FindingKind.STALE
    assert cause.run is not None
    assert cause.run.reported is not None
    assert len(cause.run.reported.findings) == 1


async def flush_page(cpu: Cpu, domain: Domain, dfn: Dfn) -> int:
    return await domain.ops.iotlb_flush(cpu, domain, dfn, 1, FlushType.MODIFIED)


async def flush_pages(cpu: Cpu, domain: Domain, dfn: Dfn) -> int:
    return await domain.ops.iotlb_flush(cpu, domain, dfn, 2, FlushType.MODIFIED)


async def flush_domain(cpu: Cpu, domain: Domain, dfn: Dfn) -> int:
    return await domain.ops.iotlb_flush_all(cpu, domain)


@pytest.mark.parametrize(
    ("attempts", "is_lost"),
    [
        ([flush_page], True),
        ([flush_page, flush_page], False),
        ([flush_page, flush_domain], False),
        ([flush_pages, flush_pages], False),
        ([flush_pages, flush_page], True),
    ],
)
def test_an_error_that_the_call_itself_has_made_good_is_not_lost(
    attempts: list[Callable[[Cpu, Domain, Dfn], Awaitable[int]]], is_lost: bool
) -> None:
    async def unmap(cpu: Cpu, domain: Domain, dfn: Dfn, page_order: int) -> int:
        await domain.ops.unmap_page(cpu, domain, dfn)
        for flush in attempts:
            if await flush(cpu, domain, dfn) == OK:
                break
        return OK

    def retries(m: Machine) -> None:
        domain = m.domain(1, devices=(NIC,))
        m.premap(domain, G, m.allocate())
        m.allow_faults(waits=1)
        replace_calls(m, unmap=unmap)

        @m.cpu(0)
        async def unmapper(cpu: Cpu) -> None:
            await m.hypervisor.unmap(cpu, domain, G)

    kinds = {found.kind for found in causes(retries)}
    assert (FindingKind.LOST_ERROR in kinds) == is_lost
