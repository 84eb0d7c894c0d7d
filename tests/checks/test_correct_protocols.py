"""Protocols that are right: over every trace they show nothing, with two CPUs, and with a device where that ends."""

from collections.abc import Callable

import pytest

from emu import (
    CLEAN,
    ETIMEDOUT,
    OK,
    READ_WRITE,
    Cpu,
    Device,
    Dfn,
    Domain,
    Fix,
    Machine,
    MapFlags,
    Mfn,
    OuterLock,
    iommu_dont_flush_iotlb,
    offset,
    scenario,
)
from emu.cpus import SpinLock
from emu.engine import Variable
from tests.checks.exhausted import explored

NIC, DISK = "00:1f.0", "00:02.0"
G = Dfn(0x1000)
SMALL = "levels=3 revision=merged synchronous=true walk_at_once=true"

Build = Callable[[Machine, Domain, Mfn], None]
"""Gives CPUs something to do; domain 1 has a NIC, and at the page G a frame that domain 2 lets it map."""


async def unmap_without_a_flush(m: Machine, cpu: Cpu, domain: Domain) -> None:
    """Unmap the page G and leave the flush to the caller."""
    await cpu.write(iommu_dont_flush_iotlb, True)
    await m.hypervisor.unmap(cpu, domain, G)
    await cpu.write(iommu_dont_flush_iotlb, False)


def lock_across_the_flush(m: Machine, domain: Domain, frame: Mfn) -> None:
    """Two CPUs map one page to different frames, and hold their lock until the flush has returned."""
    frames = m.allocate(), m.allocate()

    async def mapper(cpu: Cpu) -> None:
        async with domain.outer_lock(cpu, OuterLock.ACROSS_FLUSH):
            await m.hypervisor.map(cpu, domain, G, frames[cpu.number])

    for number in (0, 1):
        m.cpu(number).runs(mapper)


def flush_before_release(m: Machine, domain: Domain, frame: Mfn) -> None:
    """A frame is freed after a deferred flush of its page; another CPU allocates it."""

    @m.cpu(0)
    async def remover(cpu: Cpu) -> None:
        async with cpu.hypercall("remove"):
            await unmap_without_a_flush(m, cpu, domain)
            await m.hypervisor.flush(cpu, domain, G, pages=1)
            await m.pages.put(cpu, frame)

    @m.cpu(1)
    async def allocator(cpu: Cpu) -> None:
        await m.pages.allocate(cpu, m.domains[3])


def double_flush(m: Machine, domain: Domain, frame: Mfn) -> None:
    """Two CPUs flush what one of them has unmapped."""

    @m.cpu(0)
    async def unmapper(cpu: Cpu) -> None:
        await m.hypervisor.unmap(cpu, domain, G)
        await m.hypervisor.flush(cpu, domain, G, pages=1)

    @m.cpu(1)
    async def flusher(cpu: Cpu) -> None:
        await m.hypervisor.flush(cpu, domain, G, pages=1)


def flush_all(m: Machine, domain: Domain, frame: Mfn) -> None:
    """A flush of the whole domain pays for a page."""

    @m.cpu(0)
    async def remover(cpu: Cpu) -> None:
        async with cpu.hypercall("remove"):
            await unmap_without_a_flush(m, cpu, domain)
            await m.hypervisor.flush_all(cpu, domain)
            await m.pages.put(cpu, frame)

    @m.cpu(1)
    async def flusher(cpu: Cpu) -> None:
        await m.hypervisor.flush_all(cpu, domain)


def page_by_page(m: Machine, domain: Domain, frame: Mfn) -> None:
    """Two CPUs unmap a page each, of one table."""
    m.premap(domain, offset(G, 1), m.allocate(), cached=True)

    async def unmapper(cpu: Cpu) -> None:
        await m.hypervisor.unmap(cpu, domain, offset(G, cpu.number))

    for number in (0, 1):
        m.cpu(number).runs(unmapper)


def paid_by_another_cpu(m: Machine, domain: Domain, frame: Mfn) -> None:
    """One CPU puts a flush off, another one makes it, and the first one waits for that."""
    cleared, flushed = m.signal("cleared"), m.signal("flushed")

    @m.cpu(0)
    async def remover(cpu: Cpu) -> None:
        async with cpu.hypercall("remove"):
            await unmap_without_a_flush(m, cpu, domain)
            await cleared.send()
            await flushed.wait()
            await m.pages.put(cpu, frame)

    @m.cpu(1)
    async def flusher(cpu: Cpu) -> None:
        await cleared.wait()
        await m.hypervisor.flush(cpu, domain, G, pages=1)
        await flushed.send()


def generation_counter(m: Machine, domain: Domain, frame: Mfn) -> None:
    """A CPU frees a frame only if it sees that the generation has gone on, which comes after the flush."""
    generation = Variable("generation", 0)

    @m.cpu(0)
    async def flusher(cpu: Cpu) -> None:
        await m.hypervisor.unmap(cpu, domain, G)
        await generation.write(1)

    @m.cpu(1)
    async def reclaimer(cpu: Cpu) -> None:
        if await generation.read():
            await m.pages.put(cpu, frame)


def break_before_make(m: Machine, domain: Domain, frame: Mfn) -> None:
    """Under one lock a page is unmapped and flushed before it is mapped anew; another CPU replaces it so, too."""
    frames = m.allocate(), m.allocate()

    async def replacer(cpu: Cpu) -> None:
        async with domain.outer_lock(cpu, OuterLock.ACROSS_FLUSH):
            await m.hypervisor.unmap(cpu, domain, G)
            await m.hypervisor.map(cpu, domain, G, frames[cpu.number])

    for number in (0, 1):
        m.cpu(number).runs(replacer)


def reassignment_under_a_lock(m: Machine, domain: Domain, frame: Mfn) -> None:
    """A device goes to another domain and a page is unmapped, under one lock."""
    pcidevs, other = SpinLock("pcidevs"), m.domains[3]

    @m.cpu(0)
    async def toolstack(cpu: Cpu) -> None:
        async with pcidevs.held(cpu):
            assert await m.assignment.reassign(cpu, domain, other, m.devices[NIC]) == OK

    @m.cpu(1)
    async def unmapper(cpu: Cpu) -> None:
        async with pcidevs.held(cpu):
            await m.hypervisor.unmap(cpu, domain, G)
            await m.pages.put(cpu, frame)


def tables_freed_in_a_softirq(m: Machine, domain: Domain, frame: Mfn) -> None:
    """A table is taken out when it is empty, the domain is flushed, and a softirq frees the table."""

    @m.cpu(0)
    async def remover(cpu: Cpu) -> None:
        async with cpu.hypercall("remove"):
            await m.hypervisor.unmap(cpu, domain, G)
            await m.tables.take_out(cpu, domain, G)
            await m.hypervisor.flush_all(cpu, domain)

    @m.cpu(1)
    async def allocator(cpu: Cpu) -> None:
        await m.pages.allocate(cpu, m.domains[3])


def reference_held_until_the_flush(m: Machine, domain: Domain, frame: Mfn) -> None:
    """A CPU holds a reference to the frame until it has flushed; another one drops that of the allocation."""
    taken = m.signal("taken")

    @m.cpu(0)
    async def remover(cpu: Cpu) -> None:
        async with cpu.hypercall("remove"):
            assert await m.pages.get(frame, m.domains[2])
            await taken.send()
            await unmap_without_a_flush(m, cpu, domain)
            await m.hypervisor.flush(cpu, domain, G, pages=1)
            await m.pages.put(cpu, frame)

    @m.cpu(1)
    async def owner(cpu: Cpu) -> None:
        await taken.wait()
        await m.pages.put(cpu, frame)


def downgrade(m: Machine, domain: Domain, frame: Mfn) -> None:
    """A page loses its write permission and is flushed; another CPU flushes, too."""

    @m.cpu(0)
    async def downgrader(cpu: Cpu) -> None:
        await m.hypervisor.map(cpu, domain, G, frame, flags=MapFlags.READABLE)

    @m.cpu(1)
    async def flusher(cpu: Cpu) -> None:
        await m.hypervisor.flush(cpu, domain, G, pages=1)


def dying_domain(m: Machine, domain: Domain, frame: Mfn) -> None:
    """A domain is destroyed after its device was taken away; another CPU still maps a page of it."""
    m.driver.fixes.add(Fix.DYING)
    new = m.allocate()

    @m.cpu(0)
    async def destroyer(cpu: Cpu) -> None:
        async with cpu.hypercall("destroy"):
            await m.assignment.detach(cpu, domain, m.devices[NIC])
            await m.tables.free_all(cpu, domain)

    @m.cpu(1)
    async def mapper(cpu: Cpu) -> None:
        await m.hypervisor.map(cpu, domain, offset(G, 1), new)


def timeout_that_is_reported(m: Machine, domain: Domain, frame: Mfn) -> None:
    """A CPU gives up waiting for its flush, and reports that; nobody frees the frame then."""
    m.allow_faults(waits=1)

    @m.cpu(0)
    async def remover(cpu: Cpu) -> None:
        result = await m.hypervisor.unmap(cpu, domain, G)
        assert result in {OK, ETIMEDOUT}
        if result == OK:
            await m.pages.put(cpu, frame)


def mapped_unmapped_and_mapped_again(m: Machine, domain: Domain, frame: Mfn) -> None:
    """One hypercall maps, unmaps and maps one frame, and nothing stale is left: no flush is owed."""
    page = offset(G, 1)

    @m.cpu(0)
    async def mover(cpu: Cpu) -> None:
        async with cpu.hypercall("move"):
            await cpu.write(iommu_dont_flush_iotlb, True)
            await m.hypervisor.map(cpu, domain, page, frame)
            await m.hypervisor.unmap(cpu, domain, page)
            await m.hypervisor.map(cpu, domain, page, frame)
            await cpu.write(iommu_dont_flush_iotlb, False)

    @m.cpu(1)
    async def unmapper(cpu: Cpu) -> None:
        await m.hypervisor.unmap(cpu, domain, G)


def map_beside_an_invalidation(m: Machine, domain: Domain, frame: Mfn) -> None:
    """A CPU maps a page for the first time while the flush of another one drains buffers."""
    page = offset(G, 1)

    @m.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        await m.hypervisor.map(cpu, domain, page, frame)

    @m.cpu(1)
    async def unmapper(cpu: Cpu) -> None:
        await m.hypervisor.unmap(cpu, domain, G)


PROTOCOLS = [
    lock_across_the_flush,
    flush_before_release,
    double_flush,
    flush_all,
    page_by_page,
    paid_by_another_cpu,
    generation_counter,
    break_before_make,
    reassignment_under_a_lock,
    tables_freed_in_a_softirq,
    reference_held_until_the_flush,
    downgrade,
    dying_domain,
    timeout_that_is_reported,
    mapped_unmapped_and_mapped_again,
    map_beside_an_invalidation,
]
EACH_PROTOCOL = pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.__name__)


def shown_by(protocol: Build, parameters: str = "", *, with_device: bool = False) -> list[str]:
    """Return the signatures of what a protocol shows over every trace."""

    def build(m: Machine) -> None:
        domain, owner = m.domain(1, devices=(NIC,)), m.domain(2)
        m.domain(3, devices=(DISK,))
        frame = m.allocate(domain=owner)
        m.let_map(frame, domain, flags=READ_WRITE)
        m.premap(domain, G, frame, flags=READ_WRITE, cached=True)
        protocol(m, domain, frame)
        if with_device:

            @m.device(NIC)
            async def reader(device: Device) -> None:
                await device.read(G)

    done = explored(scenario(expect=CLEAN, sequential=True)(build), f"{SMALL} {parameters}")
    return [str(one) for one in done.causes]


@EACH_PROTOCOL
def test_a_protocol_that_is_right_shows_nothing(protocol: Build) -> None:
    assert shown_by(protocol) == []


@pytest.mark.parametrize(
    "protocol",
    [one for one in PROTOCOLS if one is not mapped_unmapped_and_mapped_again],  # a buffer keeps what was not present
    ids=lambda protocol: protocol.__name__,
)
def test_a_correct_protocol_shows_nothing_where_walks_do_not_snoop_and_stores_are_buffered(protocol: Build) -> None:
    assert shown_by(protocol, "coherent=false write_buffer=true") == []


@pytest.mark.parametrize(
    "protocol",
    [flush_before_release, page_by_page, paid_by_another_cpu, timeout_that_is_reported],
    ids=lambda protocol: protocol.__name__,
)
def test_a_correct_protocol_shows_nothing_while_a_device_reads_the_page(protocol: Build) -> None:
    assert shown_by(protocol, with_device=True) == []
