"""An exploration of programs on SMMUs misses nothing: compared with every class of interleavings.

In these programs much depends on what a step of the SMMU declares: stores to its registers, requests to its TLB and
their completions, and walks that read the registers first.
"""

from collections.abc import Callable

import pytest

from emu.cpus import Cpu
from emu.devices.device import Device
from emu.hypervisor.fixes import Fix
from emu.iommus.smmu.formats import S2CR_FAULT
from emu.machine.machine import Machine
from emu.scenarios.expectation import CLEAN
from emu.scenarios.scenario import BoundScenario, Build, scenario
from emu.units import Dfn, frame_address, offset
from tests.classes import Classes
from tests.smmu import registers_of, settle, store, stream_of
from tests.test_soundness import explored, seeded, swap_independent_steps

G = Dfn(0x400)
NEAR = offset(G, 1)
NIC, DISK = "00:1f.0", "00:02.0"

PROGRAMS: dict[str, Build] = {}


def program(build: Callable[[Machine], None]) -> Callable[[Machine], None]:
    """Enter a program."""
    PROGRAMS[build.__name__] = build
    return build


def bound(name: str, form: str) -> BoundScenario:
    """Return a program on a small machine."""
    parameters = dict(pair.split("=") for pair in f"iommu=smmu superpage_bits=1 {form}".split())
    made = scenario(expect=CLEAN, sequential=True, only={"smmu": "it is about SMMUs"})(PROGRAMS[name])
    return made.bind(parameters)


async def reader(device: Device) -> None:
    """Read the page."""
    await device.read(G)


async def writer(device: Device) -> None:
    """Write to the page."""
    await device.write(G, 7)


@program
def page_removed_beside_an_access(m: Machine) -> None:
    m.driver.fixes.add(Fix.HAS_IOMMU)
    domain, frame = m.domain(1, devices=(NIC,)), m.allocate()
    m.premap(domain, G, frame, cached=True)

    @m.cpu(0)
    async def remover(cpu: Cpu) -> None:
        await m.hypervisor.guest_physmap_remove_page(cpu, domain, G, frame)

    m.device(NIC).runs(writer)


@program
def page_mapped_beside_a_fault(m: Machine) -> None:
    domain, frame = m.domain(1, devices=(NIC,)), m.allocate()
    m.premap(domain, NEAR, m.allocate())

    @m.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        await m.hypervisor.guest_physmap_add_entry(cpu, domain, G, frame)
        await m.hypervisor.flush_all(cpu, domain)

    m.device(NIC).runs(reader)


@program
def device_moved_beside_an_access(m: Machine) -> None:
    source, target = m.domain(1, devices=(NIC,)), m.domain(2)
    for domain in (source, target):
        m.premap(domain, G, m.allocate(domain=domain))

    @m.cpu(0)
    async def toolstack(cpu: Cpu) -> None:
        await m.assignment.reassign(cpu, source, target, m.devices[NIC])

    m.device(NIC).runs(reader)


@program
def flushes_of_two_domains(m: Machine) -> None:
    domains = [m.domain(number, devices=(bdf,)) for number, bdf in ((1, NIC), (2, DISK))]
    for domain in domains:
        m.premap(domain, G, m.allocate(), cached=True)

    async def flusher(cpu: Cpu) -> None:
        await m.hypervisor.flush_all(cpu, domains[cpu.number])

    for number in (0, 1):
        m.cpu(number).runs(flusher)


@program
def stream_that_faults_for_a_moment(m: Machine) -> None:
    m.premap(m.domain(1, devices=(NIC,)), G, m.allocate())
    register = registers_of(m).s2cr(stream_of(m, NIC))

    @m.cpu(0)
    async def toggler(cpu: Cpu) -> None:
        await store(m, register, S2CR_FAULT)
        await settle(m, 1)
        await store(m, register, 0)

    m.device(NIC).runs(reader)


@program
def table_cut_off_beside_an_access(m: Machine) -> None:
    domain = m.domain(1, devices=(NIC,))
    for page in (G, NEAR):
        m.premap(domain, page, m.allocate(), cached=page == NEAR)
    word = m.unit.format.entry_address(domain.pgd, G, 3)
    other = frame_address(m.memory.allocate_table(domain.index))

    @m.cpu(0)
    async def relinker(cpu: Cpu) -> None:
        await cpu.store64(word, m.unit.format.encode_table(other, 2))
        await settle(m, 1)

    m.device(NIC).runs(reader)


@program
def device_joins_beside_a_removal(m: Machine) -> None:
    domain, frame = m.domain(1, devices=(NIC,)), m.allocate()
    m.premap(domain, G, frame)
    m.plug(DISK)

    @m.cpu(0)
    async def remover(cpu: Cpu) -> None:
        await m.hypervisor.guest_physmap_remove_page(cpu, domain, G, frame)

    @m.cpu(1)
    async def toolstack(cpu: Cpu) -> None:
        await m.assignment.attach(cpu, domain, m.devices[DISK])


@program
def page_mapped_beside_a_detach(m: Machine) -> None:
    domain, frame = m.domain(1, devices=(NIC,)), m.allocate()
    m.premap(domain, NEAR, m.allocate())

    @m.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        await m.hypervisor.guest_physmap_add_entry(cpu, domain, G, frame)

    @m.cpu(1)
    async def toolstack(cpu: Cpu) -> None:
        await m.assignment.detach(cpu, domain, m.devices[NIC])


@program
def two_cpus_take_one_device_away(m: Machine) -> None:
    domain = m.domain(1, devices=(NIC,))
    m.premap(domain, G, m.allocate(), cached=True)

    async def toolstack(cpu: Cpu) -> None:
        await m.assignment.detach(cpu, domain, m.devices[NIC])

    for number in (0, 1):
        m.cpu(number).runs(toolstack)


@program
def block_removed_beside_an_access(m: Machine) -> None:
    m.driver.fixes.add(Fix.HAS_IOMMU)
    domain, frame = m.domain(1, devices=(NIC,)), m.allocate(page_order=1)
    m.premap(domain, G, frame, page_order=1, superpage=True)

    @m.cpu(0)
    async def remover(cpu: Cpu) -> None:
        await m.hypervisor.guest_physmap_remove_page(cpu, domain, G, frame, page_order=1)

    m.device(NIC).runs(reader)


FORMS = [
    "synchronous=true walk_at_once=true",
    "synchronous=true walk_at_once=true drain=false",
    "synchronous=true walk_at_once=true walk_caches=true",
    "synchronous=true walk_caches=true",
    "synchronous=true coherent=false walk_at_once=true",
    "walk_at_once=true",
    "walk_at_once=true drain=false",
    "",
]


SMALL = FORMS[0]
SLOW = ("device_moved_beside_an_access", "flushes_of_two_domains")
"""Programs that have many classes on machines that are not small."""


def marks(name: str, form: str) -> list[pytest.MarkDecorator]:
    """Return the marks of an enumeration: it is tried each time on a small machine, and where the unit is an agent."""
    is_tried = form == SMALL or (form == FORMS[-1] and name not in SLOW)
    return [] if is_tried else [pytest.mark.long]


CASES = [pytest.param(name, form, marks=marks(name, form)) for name in PROGRAMS for form in FORMS]


@pytest.mark.parametrize(("name", "form"), CASES)
def test_every_class_of_a_program_is_explored_once_and_has_one_verdict(name: str, form: str) -> None:
    small = bound(name, form)
    classes, done = Classes.of(small), explored(small, sections=False)
    assert done.done == classes.traces
    assert set(done.causes) == set(explored(small, sections=True).causes) == classes.signatures >= seeded(small, 60)
    assert not done.has_emulator_bug


@pytest.mark.parametrize("form", ["", "walk_caches=true", "coherent=false drain=false"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_order_of_independent_steps_changes_nothing_that_anyone_is_told_or_finds(name: str, form: str) -> None:
    swap_independent_steps(bound(name, form), seeds=20, times=5)
