"""Each kind of finding, each payment and each release: a smallest program with it, and a twin, one thing different.

Both are exhausted, so what shows the one and what does not show the other is said of every trace.
"""

import attrs
import pytest

from emu.checks.details import Act, Payment
from emu.checks.findings import FindingKind
from emu.checks.signatures import Signature
from emu.cpus import Cpu
from emu.devices.device import Device
from emu.hypervisor.assignment import HandOver
from emu.hypervisor.domain import DOMID_IO, Domain
from emu.hypervisor.entries import write_pte
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import ENOMEM, OK, MapFlags, iommu_dont_flush_iotlb
from emu.hypervisor.p2m_types import P2mType
from emu.hypervisor.physmap import Form, Physmap
from emu.hypervisor.revisions.merged import iommu as merged
from emu.hypervisor.revisions.v1.iommu import iommu_map
from emu.hypervisor.smmu import (
    find_entry,
    p2m_force_tlb_flush_sync,
    p2m_remove_pte,
    p2m_word,
    p2m_write_lock,
    p2m_write_pte,
)
from emu.hypervisor.vtd.flush import iommu_flush_cache_entry
from emu.hypervisor.vtd.tables import addr_to_dma_page_maddr
from emu.iommus.smmu.registers import StoreRegister
from emu.iommus.smmu.unit import SmmuUnit
from emu.iommus.vtd.formats import encode_leaf
from emu.machine.machine import Machine
from emu.running.verdict import Verdict
from emu.scenarios.expectation import CLEAN, LATE, STALE_FAULT, Expect, Expectation
from emu.scenarios.scenario import Scenario, scenario
from emu.units import Dfn, Mfn, frame_address, offset, page_count
from tests.checks.exhausted import explored, replace_calls
from tests.vtd import driver_of

BDF = "00:1f.0"
G = Dfn(0x30)
H = offset(G, 1)

OLD = Mfn(0x180002)
"""The first frame that a scenario allocates."""

TABLE = Mfn(0x101003)
"""The table of leaves of the first domain."""


def breaks(kind: FindingKind) -> Expect:
    """Declare a kind of finding unless the program is repaired."""

    def expected(*, repaired: bool, **_: object) -> Expectation:
        return CLEAN if repaired else Expectation(kind)

    return expected


def mapped(m: Machine) -> Domain:
    """Return a domain with a device and a page, of which it owns the frame."""
    domain = m.domain(1, devices=(BDF,))
    m.premap(domain, G, m.allocate(domain=domain))
    return domain


async def put_off(m: Machine, cpu: Cpu, domain: Domain, new: Mfn) -> None:
    """Replace the page, and leave its flush to the end of the hypercall."""
    await cpu.write(iommu_dont_flush_iotlb, True)
    await m.hypervisor.map(cpu, domain, G, new)
    await cpu.write(iommu_dont_flush_iotlb, False)


@scenario(expect=breaks(FindingKind.STALE), sequential=True)
def unmap_claims_nothing_was_there(m: Machine, *, repaired: bool = False) -> None:
    """The flush of an unmap is told that the entry was not present."""
    domain = mapped(m)
    if not repaired:
        m.driver.fixes.remove(Fix.XSA_78)

    @m.cpu(0)
    async def unmapper(cpu: Cpu) -> None:
        await m.hypervisor.unmap(cpu, domain, G)


@scenario(expect=lambda *, order, **_: CLEAN if order else STALE_FAULT, sequential=True)
def first_map(m: Machine, *, order: int = 0) -> None:
    """A unit that caches faults is asked to drop one under domain id 0; the flush of several pages names the domain."""
    domain, new = m.domain(1, devices=(BDF,)), m.allocate(page_order=1)

    @m.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        await m.hypervisor.map(cpu, domain, G, new, page_order=order)


@scenario(expect=breaks(FindingKind.LOST_ERROR), sequential=True)
def map_without_memory(m: Machine, *, repaired: bool = False) -> None:
    """The result of v1's flush replaces that of the hook, which fails on the page or on its neighbour."""
    domain, new = m.domain(1, devices=(BDF,)), m.allocate()
    m.fail_hook("map_page", H if repaired else G, ENOMEM)

    @m.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        await m.hypervisor.map(cpu, domain, G, new)


@scenario(expect=breaks(FindingKind.NOT_ROLLED_BACK), sequential=True)
def roll_back_fails(m: Machine, *, repaired: bool = False) -> None:
    """A map fails on its second page and takes back the first; an unmap fails on the first or on the second."""
    domain, new = m.domain(1, devices=(BDF,)), m.allocate(page_order=1)
    m.fail_hook("map_page", H, ENOMEM)
    m.fail_hook("unmap_page", H if repaired else G, ENOMEM)

    @m.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        await m.hypervisor.map(cpu, domain, G, new, page_order=1)


@scenario(expect=breaks(FindingKind.WRONG_RESULT), sequential=True)
def map_enters_another_frame(m: Machine, *, repaired: bool = False) -> None:
    """The wrapper enters the frame that it was given, or the next one."""
    domain, new = m.domain(1, devices=(BDF,)), m.allocate(page_order=1)

    async def enter(cpu: Cpu, domain: Domain, dfn: Dfn, mfn: Mfn, page_order: int, flags: MapFlags) -> int:
        return await iommu_map(cpu, domain, dfn, mfn if repaired else Mfn(mfn + 1), page_order, flags)

    replace_calls(m, map=enter)

    @m.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        await m.hypervisor.map(cpu, domain, G, new)


@scenario(expect=breaks(FindingKind.STALE), sequential=True)
def failed_map_is_not_flushed(m: Machine, *, repaired: bool = False) -> None:
    """A map fails on its second page and takes back the first; it flushes whatever comes, or on success only."""
    domain, new = m.domain(1, devices=(BDF,)), m.allocate(page_order=1)
    m.fail_hook("map_page", H, ENOMEM)

    async def flush_on_success(cpu: Cpu, domain: Domain, dfn: Dfn, mfn: Mfn, page_order: int, flags: MapFlags) -> int:
        result, flush_type = await merged.iommu_map(cpu, domain, dfn, mfn, page_order, flags)
        if result == OK or repaired:
            error = await merged.iommu_iotlb_flush(cpu, domain, dfn, page_count(page_order), flush_type)
            result = result or error
        return result

    replace_calls(m, map=flush_on_success)

    @m.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        await m.hypervisor.map(cpu, domain, G, new, page_order=1)


@scenario(expect=breaks(FindingKind.BEYOND_RANGE), sequential=True)
def map_enters_a_page_more(m: Machine, *, repaired: bool = False) -> None:
    """The wrapper maps the page that it was asked to, and the next one with it or not."""
    domain, new = m.domain(1, devices=(BDF,)), m.allocate(page_order=1)

    async def enter(cpu: Cpu, domain: Domain, dfn: Dfn, mfn: Mfn, page_order: int, flags: MapFlags) -> int:
        return await iommu_map(cpu, domain, dfn, mfn, page_order if repaired else page_order + 1, flags)

    replace_calls(m, map=enter)

    @m.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        await m.hypervisor.map(cpu, domain, G, new)


@scenario(expect=breaks(FindingKind.GAP), sequential=True)
def live_entry_is_cleared_first(m: Machine, *, repaired: bool = False) -> None:
    """A wrapper replaces a page that devices may be using, in one store or in two."""
    domain, new = mapped(m), m.allocate()

    async def replace(cpu: Cpu, domain: Domain, dfn: Dfn, mfn: Mfn, page_order: int, flags: MapFlags) -> int:
        if not repaired:
            await domain.ops.unmap_page(cpu, domain, dfn)
        await domain.ops.map_page(cpu, domain, dfn, mfn, flags)
        return await domain.ops.iotlb_flush_all(cpu, domain)

    replace_calls(m, map=replace)

    @m.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        await m.hypervisor.map(cpu, domain, G, new)


@scenario(expect=breaks(FindingKind.DEADLOCK), sequential=True)
def waits_for_itself(m: Machine, *, repaired: bool = False) -> None:
    """A CPU waits for what only it could say."""
    signal = m.signal("go")

    @m.cpu(0)
    async def waiter(cpu: Cpu) -> None:
        if repaired:
            await signal.send()
        await signal.wait()


@scenario(expect=lambda *, drain, **_: CLEAN if drain else LATE)
def write_in_flight(m: Machine) -> None:
    """A device writes a page that a CPU unmaps; a unit that drains lets the CPU wait for the write."""
    domain = mapped(m)

    @m.cpu(0)
    async def unmapper(cpu: Cpu) -> None:
        await m.hypervisor.unmap(cpu, domain, G)

    @m.device(BDF)
    async def writer(device: Device) -> None:
        await device.write(G, 1)


@scenario(expect=breaks(FindingKind.FREED_TABLE), sequential=True)
def map_into_freed_tables(m: Machine, *, repaired: bool = False) -> None:
    """A page is mapped in a domain that has lost its tables, by a driver that may look whether the domain is dying."""
    domain = m.domain(1)
    m.premap(domain, G, m.allocate())
    new = m.allocate()
    if repaired:
        m.driver.fixes.add(Fix.DYING)

    @m.cpu(0)
    async def destroyer(cpu: Cpu) -> None:
        await m.tables.free_all(cpu, domain)
        await m.hypervisor.map(cpu, domain, H, new)


@scenario(expect=breaks(FindingKind.TORN), sequential=True)
def entry_stored_in_halves(m: Machine, *, repaired: bool = False) -> None:
    """A page is mapped to a frame whose address differs in both halves, in two stores or in one."""
    domain = m.domain(1, devices=(BDF,))
    m.premap(domain, G, m.allocate(at=Mfn(0x80001)))
    new = m.allocate(at=Mfn(0x300002))
    if repaired:
        m.driver.fixes.add(Fix.XSA_347)

    @m.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        await m.hypervisor.map(cpu, domain, G, new)


@scenario(expect=breaks(FindingKind.NO_BREAK), sequential=True, only={"smmu": "CPUs translate by its tables, too"})
def entry_stored_over_another(m: Machine, *, repaired: bool = False) -> None:
    """A page is mapped to another frame, and its entry is cleared and flushed from the CPUs' TLBs before or not."""
    domain, new = m.domain(1), m.allocate()
    m.premap(domain, G, m.allocate())

    async def add(cpu: Cpu, domain: Domain, gfn: Dfn, mfn: Mfn, page_order: int, p2m_type: P2mType) -> int:
        async with p2m_write_lock(cpu, domain) as p2m:
            found = await find_entry(p2m, gfn, 1, alloc=False)
            assert found is not None
            if repaired:
                await p2m_remove_pte(cpu, domain, gfn, found[0])
                await p2m_force_tlb_flush_sync(p2m)
            await p2m_write_pte(cpu, domain, gfn, found[0], p2m_word(domain, mfn, p2m_type))
        return OK

    replace_calls(m, others={"guest_physmap_add_entry": add})

    @m.cpu(0)
    async def adder(cpu: Cpu) -> None:
        await m.hypervisor.guest_physmap_add_entry(cpu, domain, G, new)


@scenario(expect=breaks(FindingKind.OVERRUN), sequential=True)
def two_moves_with_one_slot(m: Machine, *, repaired: bool = False) -> None:
    """A pass over two pages has room for a reference to one, and ends with the first or with the second."""
    domain = m.domain(1)
    physmap = Physmap(m.hypervisor, m.pages, Form.XSA_355 if repaired else Form.XSA_346_PART_2, slots=1)
    for dfn in (G, H):
        m.premap(domain, dfn, m.allocate(domain=domain))

    @m.cpu(0)
    async def mover(cpu: Cpu) -> None:
        await physmap.move_pages(cpu, domain, [(G, offset(G, 2)), (H, offset(H, 2))])


@scenario(expect=breaks(FindingKind.FOREIGN))
def device_moves_on(m: Machine, *, repaired: bool = False) -> None:
    """A device that a guest has programmed is given to a domain that maps the page, or to one that maps nothing."""
    other, quarantine = m.domain(0), m.domain(DOMID_IO)
    m.premap(other, G, m.allocate())
    guest = m.domain(1, devices=(BDF,))

    @m.cpu(0)
    async def toolstack(cpu: Cpu) -> None:
        await m.assignment.reassign(cpu, guest, quarantine if repaired else other, m.devices[BDF])

    @m.device(BDF)
    async def writer(device: Device) -> None:
        await device.write_programmed(G, 1)


@scenario(expect=breaks(FindingKind.NOT_ISOLATED), sequential=True, only={"smmu": "it tags by the number of a bank"})
def device_with_a_vmid_of_another_domain(m: Machine, *, repaired: bool = False) -> None:
    """A device is given to a domain whose context bank has the VMID under which another domain's page is cached."""
    first, second = m.domain(1, devices=(BDF,)), m.domain(2)
    m.premap(first, G, m.allocate(domain=first), cached=True)
    device = m.plug("00:1f.1")
    unit = m.unit
    assert isinstance(unit, SmmuUnit)

    @m.cpu(0)
    async def toolstack(cpu: Cpu) -> None:
        await m.assignment.attach(cpu, second, device)
        if not repaired:
            await StoreRegister(unit.registers, unit.registers.cbar(1), 1, "cbar", device.bdf)
        await HandOver(device, second.number)


@scenario(expect=breaks(FindingKind.NOT_ISOLATED), sequential=True)
def maps_without_leave(m: Machine, *, repaired: bool = False) -> None:
    """A domain maps the frame of another one, which lets it or does not."""
    owner, other = m.domain(1), m.domain(2, devices=(BDF,))
    frame = m.allocate(domain=owner)

    @m.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        if repaired:
            await m.pages.let_map(cpu, frame, other)
        await m.hypervisor.map(cpu, other, G, frame)


@scenario(expect=breaks(FindingKind.NOT_ISOLATED), sequential=True)
def withdrawn_before_the_flush(m: Machine, *, repaired: bool = False) -> None:
    """A domain may map a frame no more, before its page is unmapped and flushed or after it."""
    owner, other = m.domain(1), m.domain(2, devices=(BDF,))
    frame = m.allocate(domain=owner)
    m.let_map(frame, other)
    m.premap(other, G, frame)

    @m.cpu(0)
    async def unmapper(cpu: Cpu) -> None:
        if not repaired:
            await m.pages.withdraw(cpu, frame, other)
        await m.hypervisor.unmap(cpu, other, G)
        if repaired:
            await m.pages.withdraw(cpu, frame, other)


@scenario(expect=breaks(FindingKind.NOT_ISOLATED), sequential=True)
def device_reads_without_leave(m: Machine, *, repaired: bool = False) -> None:
    """A device reads a frame of which only another domain is the owner, or which that lets its domain map."""
    owner, other = m.domain(1), m.domain(2, devices=(BDF,))
    frame = m.allocate(domain=owner)
    m.premap(other, G, frame)
    if repaired:
        m.let_map(frame, other)

    @m.device(BDF)
    async def reader(device: Device) -> None:
        await device.read(G)


@scenario(expect=breaks(FindingKind.OWED), sequential=True)
def paid_by_nobody(m: Machine, *, repaired: bool = False) -> None:
    """A hypercall puts a flush off, and makes it or not."""
    domain, new = mapped(m), m.allocate()

    @m.cpu(0)
    async def owing(cpu: Cpu) -> None:
        async with cpu.hypercall("memory_op"):
            await put_off(m, cpu, domain, new)
            if repaired:
                await m.hypervisor.flush(cpu, domain, G, pages=1)


@scenario(expect=breaks(FindingKind.OWED), sequential=True)
def paid_after_the_hypercall(m: Machine, *, repaired: bool = False) -> None:
    """A hypercall puts a flush off, which is made before its end or after it."""
    domain, new = mapped(m), m.allocate()

    @m.cpu(0)
    async def owing(cpu: Cpu) -> None:
        async with cpu.hypercall("memory_op"):
            await put_off(m, cpu, domain, new)
            if repaired:
                await m.hypervisor.flush(cpu, domain, G, pages=1)
        if not repaired:
            await m.hypervisor.flush(cpu, domain, G, pages=1)


@scenario(expect=breaks(FindingKind.OWED), sequential=True)
def paid_for_another_page(m: Machine, *, repaired: bool = False) -> None:
    """A hypercall puts a flush off, and makes it for the page or for its neighbour."""
    domain, new = mapped(m), m.allocate()

    @m.cpu(0)
    async def owing(cpu: Cpu) -> None:
        async with cpu.hypercall("memory_op"):
            await put_off(m, cpu, domain, new)
            await m.hypervisor.flush(cpu, domain, G if repaired else H, pages=1)


@scenario(expect=breaks(FindingKind.OWED), sequential=True)
def paid_for_another_domain(m: Machine, *, repaired: bool = False) -> None:
    """A hypercall puts a flush off, and makes it for the domain or for another one."""
    domain, other, new = mapped(m), m.domain(2), m.allocate()

    @m.cpu(0)
    async def owing(cpu: Cpu) -> None:
        async with cpu.hypercall("memory_op"):
            await put_off(m, cpu, domain, new)
            await m.hypervisor.flush(cpu, domain if repaired else other, G, pages=1)


@scenario(expect=breaks(FindingKind.OWED), sequential=True)
def paid_without_waiting(m: Machine, *, repaired: bool = False) -> None:
    """A hypercall puts a flush off, and may give up waiting for it in the end."""
    domain, new = mapped(m), m.allocate()
    m.allow_faults(waits=0 if repaired else 1)

    @m.cpu(0)
    async def owing(cpu: Cpu) -> None:
        async with cpu.hypercall("memory_op"):
            await put_off(m, cpu, domain, new)
            await m.hypervisor.flush(cpu, domain, G, pages=1)


@scenario(expect=breaks(FindingKind.OWED), sequential=True)
def paid_without_write_back(m: Machine, *, repaired: bool = False) -> None:
    """A hypercall puts a flush off and pays, but its map has left the entry in the CPU's cache."""
    domain, new = mapped(m), m.allocate()

    async def replace(cpu: Cpu, domain: Domain, dfn: Dfn, mfn: Mfn, page_order: int, flags: MapFlags) -> int:
        address = await addr_to_dma_page_maddr(cpu, driver_of(m), domain, dfn, alloc=False)
        assert address is not None
        await write_pte(cpu, domain, dfn, address, encode_leaf(frame_address(mfn), read=True, write=True, snoop=True))
        if repaired:
            await iommu_flush_cache_entry(cpu, driver_of(m), address)
        return OK

    replace_calls(m, map=replace)

    @m.cpu(0)
    async def owing(cpu: Cpu) -> None:
        async with cpu.hypercall("memory_op"):
            await put_off(m, cpu, domain, new)
            await m.hypervisor.flush(cpu, domain, G, pages=1)


@scenario(expect=breaks(FindingKind.OWED), sequential=True)
def left_to_a_later_pass(m: Machine, *, repaired: bool = False) -> None:
    """A hypercall puts a flush off and ends with a continuation, before or after the flush."""
    domain, new = mapped(m), m.allocate()

    @m.cpu(0)
    async def owing(cpu: Cpu) -> None:
        async with cpu.hypercall("memory_op"):
            await put_off(m, cpu, domain, new)
            if repaired:
                await m.hypervisor.flush(cpu, domain, G, pages=1)
            cpu.create_continuation()


@scenario(expect=breaks(FindingKind.RELEASED), sequential=True)
def frame_freed(m: Machine, *, repaired: bool = False) -> None:
    """A frame is freed while it is mapped, or after it was unmapped."""
    domain = mapped(m)

    @m.cpu(0)
    async def owner(cpu: Cpu) -> None:
        if repaired:
            await m.hypervisor.unmap(cpu, domain, G)
        await m.pages.put(cpu, OLD)


@scenario(expect=breaks(FindingKind.RELEASED), sequential=True)
def free_frame_allocated(m: Machine, *, repaired: bool = False) -> None:
    """A domain enters a frame that is free, and that is allocated then for another domain or for itself."""
    domain, other = m.domain(1, devices=(BDF,)), m.domain(2)
    free = m.allocate(domain=domain)

    @m.cpu(0)
    async def allocator(cpu: Cpu) -> None:
        await m.pages.put(cpu, free)
        await m.hypervisor.map(cpu, domain, G, free)
        await m.pages.allocate(cpu, domain if repaired else other)


@scenario(expect=breaks(FindingKind.RELEASED), sequential=True)
def frame_freed_by_its_next_owner(m: Machine, *, repaired: bool = False) -> None:
    """A frame gets a new owner, who maps it and frees it, unmapped or still mapped."""
    first, second = m.domain(1), m.domain(2, devices=(BDF,))
    frame = m.allocate(domain=first)

    @m.cpu(0)
    async def owners(cpu: Cpu) -> None:
        await m.pages.put(cpu, frame)
        await m.hypervisor.map(cpu, second, G, await m.pages.allocate(cpu, second))
        if repaired:
            await m.hypervisor.unmap(cpu, second, G)
        await m.pages.put(cpu, frame)


@scenario(expect=breaks(FindingKind.RELEASED), sequential=True)
def table_freed(m: Machine, *, repaired: bool = False) -> None:
    """A table that was emptied and taken out is freed before the page is flushed once more, or after it."""
    domain = mapped(m)

    @m.cpu(0)
    async def owner(cpu: Cpu) -> None:
        await m.hypervisor.unmap(cpu, domain, G)
        await m.tables.take_out(cpu, domain, G)
        if repaired:
            await m.hypervisor.flush(cpu, domain, G, pages=1)
        await cpu.process_pending_softirqs()


@scenario(expect=breaks(FindingKind.ASSERTION))
def asserts_too_early(m: Machine, *, repaired: bool = False) -> None:
    """A CPU asserts that the frame has content, at any time or after it was told so."""
    address, stored = frame_address(m.allocate()), m.signal("stored")

    @m.cpu(0)
    async def writer(cpu: Cpu) -> None:
        await cpu.store64(address, 1)
        await stored.send()

    @m.cpu(1)
    async def reader(cpu: Cpu) -> None:
        if repaired:
            await stored.wait()
        assert await cpu.load64(address), "the frame has content"


@attrs.frozen
class Pair:
    """A program, what it shows, and the parameters of the program and of its twin."""

    scenario: Scenario
    shown: Signature
    fires: str = "repaired=false"
    silent: str = "repaired=true"


def owes(scenario: Scenario, payment: Payment, unit: str = "coherent=true") -> Pair:
    """Return the pair of a program that does with a debt what the payment says."""
    shown = Signature(FindingKind.OWED, f"owed: {payment.value}", 1, G, OLD, "vtd0", "cpu0")
    return Pair(scenario, shown, f"repaired=false {unit}", f"repaired=true {unit}")


def reaches(scenario: Scenario, act: Act, who: str = "cpu0") -> Pair:
    """Return the pair of a program by which a domain reaches the frame of another one."""
    return Pair(scenario, Signature(FindingKind.NOT_ISOLATED, f"isolated: {act.value}", 2, G, OLD, "vtd0", who))


def releases(scenario: Scenario, domain: int = 1, frame: Mfn = OLD) -> Pair:
    """Return the pair of a program that releases a frame."""
    return Pair(scenario, Signature(FindingKind.RELEASED, "released", domain, G, frame, "vtd0", "cpu0"))


PAIRS = [
    Pair(unmap_claims_nothing_was_there, Signature(FindingKind.STALE, "unmapped", 1, G, OLD, "vtd0", "cpu0")),
    Pair(
        first_map,
        Signature(FindingKind.STALE_FAULT, "mapped", 1, G, None, "vtd0", "cpu0"),
        "order=0 caching_mode=true",
        "order=1 caching_mode=true",
    ),
    Pair(map_without_memory, Signature(FindingKind.LOST_ERROR, "map: map_page", 1, G, None, None, "cpu0")),
    Pair(
        roll_back_fails,
        Signature(FindingKind.NOT_ROLLED_BACK, "map", 1, G, None, None, "cpu0"),
        "repaired=false revision=merged",
        "repaired=true revision=merged",
    ),
    Pair(map_enters_another_frame, Signature(FindingKind.WRONG_RESULT, "map", 1, G, None, None, "cpu0")),
    Pair(failed_map_is_not_flushed, Signature(FindingKind.STALE, "taken back", 1, G, OLD, "vtd0", "cpu0")),
    Pair(map_enters_a_page_more, Signature(FindingKind.BEYOND_RANGE, "map", 1, H, None, None, "cpu0")),
    Pair(
        live_entry_is_cleared_first,
        Signature(FindingKind.GAP, "map", 1, G, None, None, "cpu0"),
        "repaired=false refuse_gaps=true",
        "repaired=true refuse_gaps=true",
    ),
    Pair(
        waits_for_itself,
        Signature(FindingKind.DEADLOCK, "cpu0 waits for the signal 'go'", None, None, None, None, None),
    ),
    Pair(
        write_in_flight,
        Signature(FindingKind.LATE, "unmap of cpu0", 1, G, OLD, "vtd0", BDF),
        "drain=false",
        "drain=true",
    ),
    Pair(map_into_freed_tables, Signature(FindingKind.FREED_TABLE, "freed by cpu0", 1, H, TABLE, None, "cpu0")),
    Pair(
        entry_stored_in_halves,
        Signature(FindingKind.TORN, "torn", 1, G, Mfn(0x380001), "amd0", "cpu0"),
        "repaired=false iommu=amd",
        "repaired=true iommu=amd",
    ),
    Pair(
        entry_stored_over_another,
        Signature(FindingKind.NO_BREAK, "break before make", 1, G, None, None, "cpu0"),
    ),
    Pair(
        two_moves_with_one_slot,
        Signature(FindingKind.OVERRUN, "the array of 1 reference", None, None, None, None, "cpu0"),
    ),
    Pair(asserts_too_early, Signature(FindingKind.ASSERTION, "the frame has content", None, None, None, None, "cpu1")),
    Pair(device_moves_on, Signature(FindingKind.FOREIGN, "programmed by domain 1", 0, G, OLD, "vtd0", BDF)),
    reaches(maps_without_leave, Act.MAP),
    reaches(withdrawn_before_the_flush, Act.WITHDRAW),
    Pair(
        device_with_a_vmid_of_another_domain,
        Signature(FindingKind.NOT_ISOLATED, "isolated: attach", 2, G, Mfn(0x180012), "smmu0", "cpu0"),
    ),
    reaches(device_reads_without_leave, Act.ACCESS, BDF),
    owes(paid_by_nobody, Payment.NEVER),
    owes(paid_after_the_hypercall, Payment.LATE),
    owes(paid_for_another_page, Payment.WRONG_RANGE),
    owes(paid_for_another_domain, Payment.WRONG_DOMAIN),
    owes(paid_without_waiting, Payment.FAILED),
    owes(paid_without_write_back, Payment.INEFFECTIVE, "coherent=false"),
    owes(left_to_a_later_pass, Payment.CONTINUED),
    releases(frame_freed),
    releases(free_frame_allocated),
    releases(frame_freed_by_its_next_owner, domain=2),
    releases(table_freed, frame=TABLE),
]
EACH_PAIR = pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.scenario.name)


@EACH_PAIR
def test_the_program_shows_what_it_is_for_and_nothing_else(pair: Pair) -> None:
    done = explored(pair.scenario, pair.fires)
    assert list(done.causes) == [pair.shown]
    assert done.verdict is Verdict.SHOWN


@EACH_PAIR
def test_its_twin_shows_nothing(pair: Pair) -> None:
    done = explored(pair.scenario, pair.silent)
    assert done.causes == {}
    assert done.verdict is Verdict.PROVED


def test_every_kind_of_finding_has_a_pair() -> None:
    assert {pair.shown.kind for pair in PAIRS} == set(FindingKind) - {FindingKind.ILLEGAL}


def test_every_payment_has_a_pair() -> None:
    owed = {pair.shown.check for pair in PAIRS if pair.shown.kind is FindingKind.OWED}
    assert owed == {f"owed: {payment.value}" for payment in Payment}


def test_each_act_by_which_a_frame_is_not_isolated_has_a_pair() -> None:
    acts = {pair.shown.check for pair in PAIRS if pair.shown.kind is FindingKind.NOT_ISOLATED}
    assert acts == {f"isolated: {act.value}" for act in Act}
