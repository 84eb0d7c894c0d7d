"""Small programs in which much depends on what exactly a step declares; each was once explored with traces missing."""

from emu.cpus import Cpu
from emu.devices.device import Device
from emu.engine import Wait
from emu.hypervisor.assignment import HandOver
from emu.hypervisor.domain import Domain
from emu.hypervisor.ops import OK, iommu_dont_flush_iotlb
from emu.hypervisor.vtd.assignment import write_context
from emu.hypervisor.vtd.flush import iommu_flush_context_device
from emu.hypervisor.vtd.queue import qinval_update
from emu.iommus.vtd.formats import (
    ContextEntry,
    ContextInvalidation,
    Descriptor,
    Granularity,
    IotlbInvalidation,
    WaitDescriptor,
    encode_context_entry,
)
from emu.machine.machine import Machine
from emu.memory import WORD_MASK
from emu.scenarios.expectation import CLEAN
from emu.scenarios.scenario import Build, Scenario, scenario
from emu.units import Dfn, Maddr, frame_address
from tests.vtd import driver_of

G = Dfn(0x1000)
NEAR = Dfn(G + 1)
"""A page in the same table of leaves as G."""

FAR = Dfn(G + (1 << 19))
"""A page with no table in common with G, in a tree of three levels."""

PROGRAMS: dict[str, Scenario] = {}


async def reader(device: Device) -> None:
    """Read the page."""
    await device.read(G)


async def writer(device: Device) -> None:
    """Write to the page."""
    await device.write(G, 7)


async def post(m: Machine, cpu: Cpu, *descriptors: Descriptor) -> None:
    """Post descriptors."""
    for descriptor in descriptors:
        await qinval_update(cpu, driver_of(m).iommus[0], descriptor)


def loose_wait(m: Machine, number: int) -> WaitDescriptor:
    """Return a wait that does not fence, with a status word of its own."""
    return WaitDescriptor(Maddr(driver_of(m).poll_slots + 0x100 + 8 * number), 1, fence=False)


def program(build: Build) -> Build:
    """Enter a program; what it should show is not declared."""
    PROGRAMS[build.__name__] = scenario(expect=CLEAN)(build)
    return build


@program
def flush_that_times_out_beside_a_deferred_unmap(m: Machine) -> None:
    m.scope(1, "01:00.0")
    domain = m.domain(1, devices=("00:1f.0", "01:00.0"))
    m.premap(domain, G, m.allocate(), cached=True)
    m.allow_faults(waits=1)

    @m.cpu(0)
    async def flusher(cpu: Cpu) -> None:
        await m.hypervisor.flush(cpu, domain, G, pages=1)

    @m.cpu(1)
    async def unmapper(cpu: Cpu) -> None:
        async with cpu.hypercall("remove"):
            await cpu.write(iommu_dont_flush_iotlb, True)
            await m.hypervisor.unmap(cpu, domain, G)


@program
def flush_of_a_domain_beside_a_first_map(m: Machine) -> None:
    domain, frame = m.domain(1, devices=("00:1f.0",)), m.allocate()

    @m.cpu(0)
    async def flusher(cpu: Cpu) -> None:
        await m.hypervisor.flush_all(cpu, domain)

    @m.cpu(1)
    async def mapper(cpu: Cpu) -> None:
        await m.hypervisor.map(cpu, domain, G, frame)


@program
def fault_beside_a_reassignment(m: Machine) -> None:
    source, target = m.domain(1, devices=("00:1f.0",)), m.domain(2)
    m.premap(target, G, m.allocate())
    m.premap(source, Dfn(G + 1), m.allocate())

    @m.cpu(0)
    async def toolstack(cpu: Cpu) -> None:
        await m.assignment.reassign(cpu, source, target, m.devices["00:1f.0"])

    m.device("00:1f.0").runs(reader)


@program
def fault_beside_a_table_that_is_taken_out(m: Machine) -> None:
    domain, neighbour = m.domain(1, devices=("00:1f.0",)), Dfn(G + 1)
    m.premap(domain, neighbour, m.allocate())

    @m.cpu(0)
    async def unmapper(cpu: Cpu) -> None:
        async with cpu.hypercall("remove"):
            await cpu.write(iommu_dont_flush_iotlb, True)
            await m.hypervisor.unmap(cpu, domain, neighbour)
            await m.tables.take_out(cpu, domain, neighbour)
            await cpu.write(iommu_dont_flush_iotlb, False)
            await m.hypervisor.flush(cpu, domain, neighbour, pages=1)

    m.device("00:1f.0").runs(reader)


@program
def walk_beside_a_cleared_context_and_a_flush_of_a_far_page(m: Machine) -> None:
    domain = m.domain(1, devices=("00:1f.0",))
    for dfn in (G, FAR):
        m.premap(domain, dfn, m.allocate())

    @m.cpu(0)
    async def toolstack(cpu: Cpu) -> None:
        device, iommu = m.devices["00:1f.0"], driver_of(m).iommus[0]
        await write_context(cpu, driver_of(m), device, [(0, 0)])
        await iommu_flush_context_device(cpu, driver_of(m), iommu, 1, device.source_id, non_present=False)
        await m.hypervisor.flush(cpu, domain, FAR, pages=1)

    m.device("00:1f.0").runs(reader)


@program
def access_beside_two_unmaps(m: Machine) -> None:
    domain = m.domain(1, devices=("00:1f.0",))
    m.premap(domain, G, m.allocate(), cached=True)

    async def unmapper(cpu: Cpu) -> None:
        await m.hypervisor.unmap(cpu, domain, G)

    for number in (0, 1):
        m.cpu(number).runs(unmapper)

    m.device("00:1f.0").runs(writer)


@program
def access_beside_a_map_and_a_detach(m: Machine) -> None:
    domain, frame = m.domain(1, devices=("00:1f.0",)), m.allocate()
    m.premap(domain, G, frame, cached=True)

    @m.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        await m.hypervisor.map(cpu, domain, G, frame)

    @m.cpu(1)
    async def toolstack(cpu: Cpu) -> None:
        await m.assignment.detach(cpu, domain, m.devices["00:1f.0"])

    m.device("00:1f.0").runs(writer)


@program
def fault_beside_an_invalidation_of_leaves(m: Machine) -> None:
    domain, neighbour, frame = m.domain(1, devices=("00:1f.0",)), Dfn(G + 1), m.allocate()

    @m.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        await m.hypervisor.map(cpu, domain, neighbour, frame)
        asked = IotlbInvalidation(Granularity.NARROW, 1, neighbour, leaf_only=True)
        await qinval_update(cpu, driver_of(m).iommus[0], asked)

    m.device("00:1f.0").runs(writer)


@program
def allocations_beside_a_release(m: Machine) -> None:
    first, second = m.domain(1, devices=("00:1f.0",)), m.domain(2)
    frame = m.allocate(domain=first)
    m.premap(first, G, frame, cached=True)

    @m.cpu(0)
    async def freer(cpu: Cpu) -> None:
        if await m.hypervisor.unmap(cpu, first, G) == OK:
            await m.pages.put(cpu, frame)

    async def allocator(cpu: Cpu) -> None:
        await m.pages.allocate(cpu, second)

    for number in (1, 2):
        m.cpu(number).runs(allocator)


@program
def release_after_the_second_of_two_waits_that_do_not_fence(m: Machine) -> None:
    domain, owner = m.domain(1, devices=("00:1f.0",)), m.domain(2)
    frame = m.allocate(domain=owner)
    m.premap(domain, G, frame, cached=True)

    @m.cpu(0)
    async def driver(cpu: Cpu) -> None:
        first, second = loose_wait(m, 0), loose_wait(m, 1)
        done = cpu.memory.latch(second.status_address, 1)
        async with cpu.hypercall("remove"):
            await cpu.write(iommu_dont_flush_iotlb, True)
            await m.hypervisor.unmap(cpu, domain, G)
            await cpu.write(iommu_dont_flush_iotlb, False)
            await post(m, cpu, IotlbInvalidation(Granularity.NARROW, 1, G), first, second)
            await Wait(done)
            await m.pages.put(cpu, frame)

    m.device("00:1f.0").runs(writer)


@program
def waits_of_two_cpus_that_do_not_fence(m: Machine) -> None:
    domain, owner = m.domain(1, devices=("00:1f.0",)), m.domain(2)
    frame = m.allocate(domain=owner)
    m.premap(domain, G, frame, cached=True)

    @m.cpu(0)
    async def unmapper(cpu: Cpu) -> None:
        done = cpu.memory.latch(loose_wait(m, 0).status_address, 1)
        async with cpu.hypercall("remove"):
            await cpu.write(iommu_dont_flush_iotlb, True)
            await m.hypervisor.unmap(cpu, domain, G)
            await cpu.write(iommu_dont_flush_iotlb, False)
            await post(m, cpu, IotlbInvalidation(Granularity.NARROW, 1, G), loose_wait(m, 0))
            await Wait(done)
            await m.pages.put(cpu, frame)

    @m.cpu(1)
    async def other(cpu: Cpu) -> None:
        await post(m, cpu, loose_wait(m, 1))


@program
def detach_with_a_wait_that_does_not_fence(m: Machine) -> None:
    domain = m.domain(1, devices=("00:1f.0",))
    m.premap(domain, G, m.allocate())

    @m.cpu(0)
    async def toolstack(cpu: Cpu) -> None:
        device = m.devices["00:1f.0"]
        await write_context(cpu, driver_of(m), device, [(0, 0)])
        context = ContextInvalidation(Granularity.NARROW, 1, device.source_id)
        await post(m, cpu, context, loose_wait(m, 0), IotlbInvalidation(Granularity.DOMAIN, 1))

    m.device("00:1f.0").runs(reader)


@program
def status_word_into_a_frame_that_is_given_away(m: Machine) -> None:
    first, other = m.domain(1), m.domain(2)
    frame = m.allocate(domain=first)

    @m.cpu(0)
    async def flusher(cpu: Cpu) -> None:
        await post(m, cpu, WaitDescriptor(frame_address(frame), 1))

    @m.cpu(1)
    async def owner(cpu: Cpu) -> None:
        await m.pages.put(cpu, frame)
        await m.pages.allocate(cpu, other)


async def cut_off(cpu: Cpu, m: Machine, domain: Domain) -> None:
    """Clear the entry that leads to the page's table of leaves, and post the invalidation of the page and the next."""
    (path,) = m.unit.ledger.paths(m.unit.tables_at(domain.pgd)[0], G)
    await cpu.store64(path.entries[-2].address, 0)
    await post(m, cpu, IotlbInvalidation(Granularity.NARROW, 1, G, 1))


@program
def accesses_beside_a_table_that_is_cut_off(m: Machine) -> None:
    domain = m.domain(1, devices=("00:1f.0",))
    for dfn in (G, NEAR):
        m.premap(domain, dfn, m.allocate(), cached=dfn == G)
    m.cpu(0).runs(cut_off, m, domain)

    @m.device("00:1f.0")
    async def device(device: Device) -> None:
        await device.read(NEAR)
        await device.write(G, 7)


@program
def walks_of_a_device_and_of_what_it_has_posted(m: Machine) -> None:
    domain = m.domain(1, devices=("00:1f.0",))
    for dfn in (G, NEAR):
        m.premap(domain, dfn, m.allocate(), cached=dfn == G)
    m.cpu(0).runs(cut_off, m, domain)

    @m.device("00:1f.0", posts=True)
    async def device(device: Device) -> None:
        await device.post(G, 7)
        await device.write(NEAR, 7)


@program
def access_by_tables_that_a_device_has_left(m: Machine) -> None:
    first, second = m.domain(1, devices=("00:1f.0",)), m.domain(2, devices=("00:1f.1",))
    for domain in (first, second):
        m.premap(domain, G, m.allocate(domain=domain), cached=True)
        m.premap(domain, NEAR, m.allocate(domain=domain))

    @m.cpu(0)
    async def toolstack(cpu: Cpu) -> None:
        device, iommu = m.devices["00:1f.0"], driver_of(m).iommus[0]
        entry = encode_context_entry(ContextEntry(2, second.pgd, second.levels))
        await write_context(cpu, driver_of(m), device, [(0, 0), (1, entry >> 64), (0, entry & WORD_MASK)], second)
        await iommu_flush_context_device(cpu, driver_of(m), iommu, 1, device.source_id, non_present=False)
        await HandOver(device, 2)

    @m.device("00:1f.0")
    async def programmed(device: Device) -> None:
        await device.write_programmed(NEAR, 7)
