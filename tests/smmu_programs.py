"""Small programs on an SMMU in which much depends on what exactly a step declares."""

from emu import OK, Cpu, Device, Dfn, Domain, Fix, Machine, Mfn, scenario
from emu.hypervisor.smmu import arm_smmu_iotlb_flush_all
from emu.hypervisor.smmu.set_way import p2m_invalidate_root, p2m_resolve_translation_fault
from emu.scenarios.expectation import CLEAN
from emu.scenarios.scenario import Build, Scenario
from tests.hypervisor.smmu.p2m import driver_of

NIC, DISK = "00:1f.0", "00:02.0"
G, NEAR = Dfn(8), Dfn(9)
"""A page, and one in the same table of leaves."""

SMMU_PROGRAMS: dict[str, Scenario] = {}


def program(build: Build) -> Build:
    """Enter a program; what it should show is not declared."""
    SMMU_PROGRAMS[build.__name__] = scenario(expect=CLEAN, only={"smmu": "it calls the p2m"})(build)
    return build


def mapped(m: Machine, *devices: str, repaired: bool = True) -> tuple[Domain, Mfn]:
    """Return a domain with devices that have used its page, and the page's frame."""
    m.driver.fixes |= {Fix.HAS_IOMMU} if repaired else set()
    domain = m.domain(1, devices=devices or (NIC,))
    frame = m.allocate(domain=domain)
    m.premap(domain, G, frame, cached=True)
    return domain, frame


async def reader(device: Device) -> None:
    """Read the page."""
    await device.read(G)


async def writer(device: Device) -> None:
    """Write to the page."""
    await device.write(G, 7)


async def remove(cpu: Cpu, m: Machine, domain: Domain) -> None:
    """Remove the page from a domain's p2m."""
    await m.hypervisor.guest_physmap_remove_page(cpu, domain, G, Mfn(0))


async def flush(cpu: Cpu, m: Machine, domain: Domain) -> None:
    """Flush a domain, without a call that is judged."""
    await arm_smmu_iotlb_flush_all(cpu, driver_of(m), domain)


async def detach(cpu: Cpu, m: Machine, domain: Domain, bdf: str = NIC) -> None:
    """Detach a device."""
    await m.assignment.detach(cpu, domain, m.devices[bdf])


@program
def access_beside_a_removal_and_an_add(m: Machine) -> None:
    domain, _ = mapped(m)
    new = m.allocate(domain=domain)
    m.cpu(0).runs(remove, m, domain)

    @m.cpu(1)
    async def adder(cpu: Cpu) -> None:
        await m.hypervisor.guest_physmap_add_entry(cpu, domain, G, new)

    m.device(NIC).runs(writer)


@program
def access_beside_a_removal_that_nobody_flushes(m: Machine) -> None:
    domain, _ = mapped(m, repaired=False)
    m.cpu(0).runs(remove, m, domain)
    m.cpu(1).runs(flush, m, domain)
    m.device(NIC).runs(writer)


@program
def access_beside_the_detach_of_the_last_device(m: Machine) -> None:
    domain, _ = mapped(m)
    m.cpu(0).runs(detach, m, domain)
    m.device(NIC).runs(writer)


@program
def access_beside_the_detach_of_one_of_two_devices(m: Machine) -> None:
    domain, _ = mapped(m, NIC, DISK)
    m.cpu(0).runs(detach, m, domain)
    m.device(NIC).runs(writer)
    m.device(DISK).runs(reader)


@program
def flush_beside_the_detach_of_the_last_device(m: Machine) -> None:
    domain, _ = mapped(m)
    m.cpu(0).runs(detach, m, domain)
    m.cpu(1).runs(remove, m, domain)


@program
def attach_beside_a_removal(m: Machine) -> None:
    domain, _ = mapped(m, DISK)
    device, attached = m.plug(NIC), m.signal("attached")

    @m.cpu(0)
    async def toolstack(cpu: Cpu) -> None:
        assert await m.assignment.attach(cpu, domain, device) == OK
        await attached.send()

    m.cpu(1).runs(remove, m, domain)

    @m.device(NIC)
    async def late(device: Device) -> None:
        await attached.wait()
        await device.read(G)


@program
def access_beside_a_reassignment(m: Machine) -> None:
    first, _ = mapped(m)
    second = m.domain(2)
    m.premap(second, G, m.allocate(domain=second))

    @m.cpu(0)
    async def toolstack(cpu: Cpu) -> None:
        await m.assignment.reassign(cpu, first, second, m.devices[NIC])

    m.device(NIC).runs(reader)


@program
def reassignment_that_gives_up_beside_a_flush_of_another_domain(m: Machine) -> None:
    first, _ = mapped(m)
    second, third = m.domain(2), m.domain(3, devices=(DISK,))
    m.allow_faults(waits=1, cpu=0)

    @m.cpu(0)
    async def toolstack(cpu: Cpu) -> None:
        await m.assignment.reassign(cpu, first, second, m.devices[NIC])

    m.cpu(1).runs(flush, m, third)


@program
def flushes_of_two_domains_beside_an_access(m: Machine) -> None:
    first, _ = mapped(m)
    second = m.domain(2, devices=(DISK,))
    m.cpu(0).runs(remove, m, first)
    m.cpu(1).runs(flush, m, second)
    m.device(NIC).runs(writer)


@program
def removal_that_gives_up_beside_a_flush_of_another_domain(m: Machine) -> None:
    first, _ = mapped(m)
    second = m.domain(2, devices=(DISK,))
    m.allow_faults(waits=1, cpu=0)
    m.cpu(0).runs(remove, m, first)
    m.cpu(1).runs(flush, m, second)


@program
def access_beside_a_split(m: Machine) -> None:
    m.driver.fixes.add(Fix.HAS_IOMMU)
    domain, order = m.domain(1, devices=(NIC,)), m.unit.format.leaf_orders[1]
    m.premap(domain, G, m.allocate(page_order=order, domain=domain), page_order=order, superpage=True, cached=True)
    m.cpu(0).runs(remove, m, domain)

    @m.device(NIC)
    async def neighbour(device: Device) -> None:
        await device.read(NEAR)


@program
def access_beside_a_page_that_xen_tracks(m: Machine) -> None:
    domain, _ = mapped(m)
    m.premap(domain, NEAR, m.allocate(domain=domain))

    @m.cpu(0)
    async def tracker(cpu: Cpu) -> None:
        await p2m_invalidate_root(cpu, domain)
        await p2m_resolve_translation_fault(cpu, domain, G)

    m.cpu(1).runs(remove, m, domain)

    @m.device(NIC)
    async def neighbour(device: Device) -> None:
        await device.read(NEAR)


@program
def foreign_page_freed_beside_an_access_and_an_allocation(m: Machine) -> None:
    m.driver.fixes.add(Fix.HAS_IOMMU)
    domain, other = m.domain(1, devices=(NIC,)), m.domain(2)
    frame = m.allocate(domain=other)
    m.let_map(frame, domain)
    m.premap(domain, G, frame, cached=True)

    @m.cpu(0)
    async def remover(cpu: Cpu) -> None:
        await m.pages.put(cpu, frame)
        await remove(cpu, m, domain)

    @m.cpu(1)
    async def allocator(cpu: Cpu) -> None:
        await m.pages.allocate(cpu, other)

    m.device(NIC).runs(writer)
