"""*assigned*: what must hold when a device has changed its domain. Each rule fires, and its twin stays silent."""

from collections.abc import Awaitable, Callable

import pytest

from emu import CLEAN, DOMID_IO, Cpu, Device, Dfn, Domain, Machine, Mfn, scenario
from emu.checks.findings import FindingKind
from emu.hypervisor.assignment import HandOver
from emu.hypervisor.ops import READ_WRITE, MapFlags
from emu.hypervisor.vtd.assignment import write_context
from emu.hypervisor.vtd.flush import iommu_flush_context_device, iommu_flush_iotlb_dsi
from emu.iommus.smmu.registers import TTBR0_HIGH, TTBR0_LOW, StoreRegister
from emu.iommus.vtd.formats import ContextEntry, encode_context_entry
from emu.memory import HALF_MASK, WORD_MASK
from emu.reports.findings import sentence
from tests.checks.exhausted import explored
from tests.hypervisor.smmu.p2m import settle, unit_of
from tests.vtd import driver_of

NIC, DISK = "00:1f.0", "00:02.0"
G = Dfn(0x1000)

Toolstack = Callable[[Machine, Cpu, Domain, Domain], Awaitable[object]]
Found = list[tuple[FindingKind, str, int | None, Dfn | None, Mfn | None, str | None]]


def shown_by(toolstack: Toolstack, parameters: str = "") -> Found:
    """Return what shows when a CPU does something about a device of domain 1; domain 2 has another."""

    def build(m: Machine) -> None:
        first, second = m.domain(1, devices=(NIC,)), m.domain(2, devices=(DISK,))
        m.domain(DOMID_IO)
        m.premap(first, G, m.allocate(), cached=True)

        @m.cpu(0)
        async def body(cpu: Cpu) -> None:
            await toolstack(m, cpu, first, second)

    done = explored(scenario(expect=CLEAN, sequential=True)(build), f"levels=3 {parameters}")
    return [one[:6] for one in done.causes]


async def reassigns(m: Machine, cpu: Cpu, first: Domain, second: Domain) -> None:
    assert await m.assignment.reassign(cpu, first, second, m.devices[NIC]) == 0


async def rewrites(m: Machine, cpu: Cpu, second: Domain, *, contexts: bool, iotlb: bool) -> None:
    """Point a device's context entry at another domain, and flush as told."""
    driver, device = driver_of(m), m.devices[NIC]
    (iommu,) = driver.iommus
    await write_context(cpu, driver, device, [(0, 0), (1, 0)])
    if contexts:
        await iommu_flush_context_device(cpu, driver, iommu, 1, device.source_id, non_present=False)
    if iotlb:
        await iommu_flush_iotlb_dsi(cpu, driver, iommu, 1, non_present=False)
    entry = encode_context_entry(ContextEntry(2, second.pgd, second.levels))
    await write_context(cpu, driver, device, [(1, entry >> 64), (0, entry & WORD_MASK)], second)
    await HandOver(device, second.number)


async def flushes_both(m: Machine, cpu: Cpu, _: Domain, second: Domain) -> None:
    await rewrites(m, cpu, second, contexts=True, iotlb=True)


async def flushes_contexts(m: Machine, cpu: Cpu, _: Domain, second: Domain) -> None:
    await rewrites(m, cpu, second, contexts=True, iotlb=False)


async def flushes_the_iotlb(m: Machine, cpu: Cpu, _: Domain, second: Domain) -> None:
    await rewrites(m, cpu, second, contexts=False, iotlb=True)


async def flushes_nothing(m: Machine, cpu: Cpu, _: Domain, second: Domain) -> None:
    await rewrites(m, cpu, second, contexts=False, iotlb=False)


async def goes_to_quarantine_and_back(m: Machine, cpu: Cpu, first: Domain, _: Domain) -> None:
    quarantine = m.domains[DOMID_IO]
    assert await m.assignment.reassign(cpu, first, quarantine, m.devices[NIC]) == 0
    assert await m.assignment.reassign(cpu, quarantine, first, m.devices[NIC]) == 0


async def leaves_and_comes_back(m: Machine, cpu: Cpu, first: Domain, _: Domain) -> None:
    assert await m.assignment.detach(cpu, first, m.devices[NIC]) == 0
    assert await m.assignment.attach(cpu, first, m.devices[NIC]) == 0


@pytest.mark.parametrize("toolstack", [reassigns, flushes_both, goes_to_quarantine_and_back, leaves_and_comes_back])
@pytest.mark.parametrize("parameters", ["", "coherent=false"])
def test_a_device_that_was_flushed_from_the_domain_it_leaves_shows_nothing(
    toolstack: Toolstack, parameters: str
) -> None:
    assert shown_by(toolstack, parameters) == []


@pytest.mark.parametrize("toolstack", [reassigns, goes_to_quarantine_and_back, leaves_and_comes_back])
def test_xens_driver_flushes_what_was_cached_as_not_present(toolstack: Toolstack) -> None:
    assert shown_by(toolstack, "caching_mode=true") == []


def test_a_driver_that_does_not_flush_that_is_found_in_caching_mode() -> None:
    fault = (FindingKind.STALE_FAULT, f"assigned: {NIC}", None, None, None, "vtd0")
    assert shown_by(flushes_both, "caching_mode=true") == [fault]


@pytest.mark.parametrize("toolstack", [flushes_contexts, flushes_the_iotlb, flushes_nothing])
def test_a_device_that_may_still_be_translated_for_the_domain_it_has_left_is_found(toolstack: Toolstack) -> None:
    assert shown_by(toolstack) == [(FindingKind.STALE, f"assigned: {NIC}", 1, None, None, "vtd0")]


@pytest.mark.parametrize("flushes", [True, False])
def test_that_a_device_had_no_context_entry_is_cached_in_caching_mode(flushes: bool) -> None:
    def build(m: Machine) -> None:
        domain = m.domain(2, devices=(DISK,))
        m.premap(domain, G, m.allocate())
        device, attached = m.plug(NIC), m.signal("attached")

        @m.cpu(0)
        async def toolstack(cpu: Cpu) -> None:
            if flushes:
                await m.assignment.attach(cpu, domain, device)
            else:
                entry = encode_context_entry(ContextEntry(1, domain.pgd, domain.levels))
                await write_context(cpu, driver_of(m), device, [(1, entry >> 64), (0, entry & WORD_MASK)], domain)
                await HandOver(device, domain.number)
            await attached.send()

        @m.device(NIC)
        async def writer(device: Device) -> None:
            await device.write(G, 5)
            await attached.wait()
            await device.write(G, 7)

    done = explored(scenario(expect=CLEAN)(build), "levels=3 caching_mode=true synchronous=true walk_at_once=true")
    kinds = {cause.signature.kind for cause in done.causes.values()}
    assert kinds == (set() if flushes else {FindingKind.STALE_FAULT})
    assert done.machine is not None
    faults = [event.name for event in done.machine.trace.events() if event.name == "dma.fault"]
    assert flushes or faults, "the unit really refuses what it has cached"


def test_the_sentence_names_the_device_the_unit_and_the_domain_that_was_left() -> None:
    def build(m: Machine) -> None:
        first, second = m.domain(1, devices=(NIC,)), m.domain(2)
        m.premap(first, G, m.allocate())

        @m.cpu(0)
        async def body(cpu: Cpu) -> None:
            await flushes_nothing(m, cpu, first, second)

    (cause,) = explored(scenario(expect=CLEAN, sequential=True)(build), "").causes.values()
    assert cause.finding is not None
    assert cause.run is not None
    assert cause.run.reported is not None
    trace = cause.run.reported.machine.trace
    (step,) = (event.step for event in trace.events() if event.name == "device.hand_over")
    said = sentence(cause.finding, trace)
    assert said.startswith(
        f"stale translation (possible): when device {NIC} was given to domain 2 at step {step}, vtd0 could still "
        "translate for it by the tables of domain 1, which it has left ("
    )


# A tag that is given to another domain


async def stores_the_root(m: Machine, cpu: Cpu, second: Domain) -> None:
    """Let the bank of a domain translate by the tables of another one."""
    registers = unit_of(m).registers
    for register, value in ((TTBR0_LOW, second.pgd & HALF_MASK), (TTBR0_HIGH, second.pgd >> 32)):
        await StoreRegister(registers, registers.of_bank(0, register), value, "ttbr0", NIC)


async def changes_the_tables_of_a_vmid(m: Machine, cpu: Cpu, _: Domain, second: Domain) -> None:
    await stores_the_root(m, cpu, second)
    await HandOver(m.devices[NIC], second.number)


async def changes_them_and_invalidates(m: Machine, cpu: Cpu, _: Domain, second: Domain) -> None:
    await stores_the_root(m, cpu, second)
    await settle(m, 1)
    await HandOver(m.devices[NIC], second.number)


async def changes_them_and_invalidates_another_vmid(m: Machine, cpu: Cpu, _: Domain, second: Domain) -> None:
    await stores_the_root(m, cpu, second)
    await settle(m, 2)
    await HandOver(m.devices[NIC], second.number)


def inherits(toolstack: Toolstack, *, may_use: MapFlags | None = None, waits: int = 0) -> Found:
    """Return what of another domain's shows when a CPU gives a device, and its VMID, to domain 2.

    Args:
        may_use: what domain 2 may do with the frame that is cached for domain 1; None if nothing.
        waits: how often the CPU may give up waiting for the unit.
    """

    def build(m: Machine) -> None:
        first, second = m.domain(1, devices=(NIC,)), m.domain(2)
        frame = m.allocate(domain=first)
        if may_use is not None:
            m.let_map(frame, second, may_use)
        m.premap(first, G, frame, cached=True)
        m.allow_faults(waits=waits)

        @m.cpu(0)
        async def body(cpu: Cpu) -> None:
            await toolstack(m, cpu, first, second)

    program = scenario(expect=CLEAN, sequential=True, only={"smmu": "a VMID is given away"})(build)
    done = explored(program, "ipa_bits=32 synchronous=false")
    return [one[:6] for one in done.causes if one.kind is FindingKind.NOT_ISOLATED]


async def frees_and_takes_the_bank(m: Machine, cpu: Cpu, first: Domain, second: Domain) -> None:
    assert await m.assignment.reassign(cpu, first, second, m.devices[NIC]) == 0


@pytest.mark.parametrize(
    ("toolstack", "waits"),
    [
        (changes_the_tables_of_a_vmid, 0),
        (changes_them_and_invalidates_another_vmid, 0),
        (frees_and_takes_the_bank, 1),
    ],
)
def test_a_device_that_finds_what_was_cached_for_another_domain_under_its_vmid_is_found(
    toolstack: Toolstack, waits: int
) -> None:
    (found,) = inherits(toolstack, waits=waits)
    assert (found[0], found[2], found[3], found[5]) == (FindingKind.NOT_ISOLATED, 2, G, "smmu0")


@pytest.mark.parametrize("toolstack", [changes_them_and_invalidates, frees_and_takes_the_bank])
def test_after_an_invalidation_of_the_vmid_it_finds_nothing(toolstack: Toolstack) -> None:
    assert inherits(toolstack) == []


@pytest.mark.parametrize(("may_use", "is_found"), [(READ_WRITE, False), (MapFlags.READABLE, True), (None, True)])
def test_what_it_finds_of_a_frame_that_its_domain_may_use_is_no_breach(
    may_use: MapFlags | None, *, is_found: bool
) -> None:
    assert bool(inherits(changes_the_tables_of_a_vmid, may_use=may_use)) is is_found
