"""A stale translation is told with what became of the store and of the flush: missing, late, too early, too narrow."""

import re
from collections.abc import Awaitable, Callable, Sequence

import attrs
import pytest

from emu.analysis.windows import statistics
from emu.checks.findings import OldPath
from emu.cpus import Cpu
from emu.engine import Agent, Choose, Strategy
from emu.engine.hosts import direct
from emu.engine.strategies.random import RandomStrategy
from emu.engine.strategies.round_robin import RoundRobinStrategy
from emu.hypervisor.commands import AwaitUnit
from emu.hypervisor.domain import Domain
from emu.hypervisor.ops import OK, MapFlags
from emu.hypervisor.vtd import addr_to_dma_page_maddr, iommu_flush_cache_entry, write_pte
from emu.hypervisor.vtd.queue import invalidate_sync, qinval_update
from emu.iommus.vtd.formats import Descriptor, Granularity, IotlbInvalidation, WaitDescriptor
from emu.iommus.vtd.settings import VtdSettings
from emu.machine.description import Description
from emu.machine.machine import Machine
from emu.platforms import VTD
from emu.reports.findings import data, sentence
from emu.scenarios.library import find
from emu.units import Dfn, Maddr, Mfn
from tests.running.explored import explored
from tests.vtd import driver_of

MERGED = VTD.load_revision("merged")
G, N, H = Dfn(0x1000), Dfn(0x1001), Dfn(0x1002)
PAGE = IotlbInvalidation(Granularity.NARROW, 1, G)

Unmap = Callable[[Machine, Cpu, Domain, Dfn], Awaitable[object]]
Cast = Callable[[Machine, Domain], None]


def unmapping(m: Machine, domain: Domain) -> None:
    """Have one CPU unmap a page."""

    @m.cpu(0)
    async def unmapper(cpu: Cpu) -> None:
        await m.hypervisor.unmap(cpu, domain, G)


def machine_of(unmap: Unmap, settings: VtdSettings, cast: Cast) -> Machine:
    """Return a machine of two units whose domain has a device behind each, on a revision with this unmap."""
    m = Machine(Description(revision="merged", settings=settings, sources=True))

    async def of_revision(cpu: Cpu, domain: Domain, dfn: Dfn, page_order: int) -> int:
        await unmap(m, cpu, domain, dfn)
        return OK

    m.hypervisor = attrs.evolve(m.hypervisor, revision=attrs.evolve(MERGED, unmap=of_revision))
    m.scope(1, "01:00.0")
    domain = m.domain(1, devices=("00:1f.0", "01:00.0"))
    for dfn in (G, N):
        m.premap(domain, dfn, m.allocate())
    cast(m, domain)
    return m


def told(m: Machine, strategy: Strategy | None = None, unit: str = "vtd0", page: Dfn | None = None) -> str:
    """Run a machine; return the sentence of its first finding at a unit, or of a page; empty without a finding."""
    execution = m.execution(strategy or RoundRobinStrategy())
    direct.run(execution)
    found = [one for one in m.conclude(execution) if isinstance(one, OldPath) and one.unit == unit]
    found = [one for one in found if page in {None, one.dfn}]
    for one in found:
        facts = data(one, m.trace)
        assert facts["window_after_promise"] >= 0
        assert facts["window"] >= facts["window_after_promise"]
    return sentence(found[0], m.trace) if found else ""


async def clear(m: Machine, cpu: Cpu, domain: Domain, dfn: Dfn) -> None:
    await domain.ops.unmap_page(cpu, domain, dfn)


async def submit(m: Machine, cpu: Cpu, descriptor: Descriptor, unit: int = 0) -> None:
    await qinval_update(cpu, driver_of(m).iommus[unit], descriptor)


async def flush(m: Machine, cpu: Cpu, asked: IotlbInvalidation = PAGE, unit: int = 0) -> None:
    await submit(m, cpu, asked, unit)
    await invalidate_sync(cpu, driver_of(m), driver_of(m).iommus[unit])


async def early(m: Machine, cpu: Cpu, domain: Domain, dfn: Dfn) -> None:
    await flush(m, cpu)
    await clear(m, cpu, domain, dfn)


def flushing(asked: IotlbInvalidation, unit: int = 0) -> Unmap:
    """Return an unmap that flushes this instead of its page."""

    async def unmap(m: Machine, cpu: Cpu, domain: Domain, dfn: Dfn) -> None:
        await clear(m, cpu, domain, dfn)
        await flush(m, cpu, asked, unit)

    return unmap


@pytest.mark.parametrize(
    ("unmap", "unit", "reason"),
    [
        (early, "vtd0", "came too early, before the change"),
        (flushing(attrs.evolve(PAGE, dfn=N)), "vtd0", "covered dfn 0x1001 only"),
        (flushing(attrs.evolve(PAGE, dfn=Dfn(0x1002), address_mask=1)), "vtd0", "covered dfn 0x1002 to 0x1003 only"),
        (flushing(attrs.evolve(PAGE, did=2)), "vtd0", "had tag 2, and at vtd0 domain 1 has tag 1"),
        (flushing(PAGE), "vtd1", "was at vtd0"),
        (
            flushing(attrs.evolve(PAGE, did=2, dfn=N)),
            "vtd0",
            "covered dfn 0x1001 only and had tag 2, and at vtd0 domain 1 has tag 1",
        ),
    ],
)
def test_the_flush_that_came_nearest_is_named_with_why_it_did_not_help(unmap: Unmap, unit: str, reason: str) -> None:
    said = told(machine_of(unmap, VtdSettings(), unmapping), unit=unit)
    assert ", and cpu0's flush, submitted at step " in said
    assert f"{reason}; no other followed; the window was " in said


def test_the_flush_of_the_call_itself_is_named_rather_than_another() -> None:
    async def next_page(m: Machine, cpu: Cpu, domain: Domain, dfn: Dfn) -> None:
        await clear(m, cpu, domain, dfn)
        await flush(m, cpu, attrs.evolve(PAGE, dfn=Dfn(dfn + 1)))

    def unmapping_two(m: Machine, domain: Domain) -> None:
        @m.cpu(0)
        async def unmapper(cpu: Cpu) -> None:
            async with cpu.hypercall("remove_from_physmap"):
                await m.hypervisor.unmap(cpu, domain, G)
                await m.hypervisor.unmap(cpu, domain, N)

    assert "covered dfn 0x1001 only; no" in told(machine_of(next_page, VtdSettings(), unmapping_two), page=G)
    assert "covered dfn 0x1002 only; no" in told(machine_of(next_page, VtdSettings(), unmapping_two), page=N)


def protecting(m: Machine, domain: Domain) -> None:
    """Have one CPU take the permission to write away from a page, and flush nothing."""
    frame = m.allocate()
    m.premap(domain, H, frame)

    async def of_revision(cpu: Cpu, domain: Domain, dfn: Dfn, mfn: Mfn, page_order: int, flags: MapFlags) -> int:
        await domain.ops.map_page(cpu, domain, dfn, mfn, flags)
        return OK

    m.hypervisor = attrs.evolve(m.hypervisor, revision=attrs.evolve(MERGED, map=of_revision))

    @m.cpu(0)
    async def protector(cpu: Cpu) -> None:
        await m.hypervisor.map(cpu, domain, H, frame, flags=MapFlags.READABLE)


def test_permissions_are_told_where_only_they_are_wrong() -> None:
    said = told(machine_of(clear, VtdSettings(), protecting))
    assert re.search(
        r"translate dfn 0x1002 to mfn 0x\w+ and let devices read and write, not only read: cpu0 had replaced", said
    )
    assert "let devices" not in told(machine_of(clear, VtdSettings(), unmapping))


def test_no_flush_is_named_where_there_was_none() -> None:
    said = told(machine_of(clear, VtdSettings(), unmapping))
    assert "no flush of it followed: cpu0's unmap returned without one at step " in said
    assert "nearest" not in said


def test_a_flush_of_leaves_only_leaves_the_window_of_a_table_open() -> None:
    m = find("table_freed_before_flush").bind({"revision": "merged"}).build(sources=True)

    async def leaves_only(cpu: Cpu, domain: Domain, dfn: Dfn, pages: int) -> int:
        await flush(m, cpu, attrs.evolve(PAGE, leaf_only=True))
        return OK

    m.hypervisor = attrs.evolve(m.hypervisor, revision=attrs.evolve(MERGED, flush=leaves_only))
    said = told(m)
    assert "cpu0's flush, submitted at step" in said
    assert "cpu0 had replaced a table entry on the way there" in said
    assert "was of leaves only and let cached table entries stay" in said
    assert "to the end of the execution at step" in said
    assert [(one.table_level, one.still_open) for one in statistics(m).windows] == [(1, False), (2, True)]


async def store(m: Machine, cpu: Cpu, domain: Domain, *, write_back: str) -> None:
    """Clear the leaf and flush it, with a write-back of its line before the store, after the flush, or never."""
    address = await addr_to_dma_page_maddr(cpu, driver_of(m), domain, G, alloc=False)
    assert address is not None
    if write_back == "before":
        await iommu_flush_cache_entry(cpu, driver_of(m), address)
    await write_pte(cpu, domain, G, address, 0)
    await flush(m, cpu)
    if write_back == "after":
        await iommu_flush_cache_entry(cpu, driver_of(m), address)


@pytest.mark.parametrize(
    ("write_back", "said"),
    [
        ("never", r"and the store never reached memory: nobody wrote its cache line back after it; walks could "),
        ("before", r"and the store never reached memory: cpu0 wrote its cache line back at step \d+ \(tests/reports/"),
        ("after", r"and the store reached memory late, at step \d+: cpu0's flush, submitted at step \d+ \(tests/rep"),
    ],
)
def test_a_store_that_was_not_written_back_in_time_is_told_so(write_back: str, said: str) -> None:
    async def unmap(m: Machine, cpu: Cpu, domain: Domain, dfn: Dfn) -> None:
        await store(m, cpu, domain, write_back=write_back)

    found = told(machine_of(unmap, VtdSettings(coherent=False), unmapping))
    assert re.search(said, found)
    assert "to the end of the execution at step" in found
    assert "came late" not in found
    assert told(machine_of(unmap, VtdSettings(), unmapping)) == ""


def test_a_store_that_stays_in_the_write_buffer_is_told_so() -> None:
    found = told(machine_of(clear, VtdSettings(write_buffer=True), unmapping))
    assert "and the store never reached memory: nothing drained the chipset's write buffer after it; the win" in found


def test_a_flush_that_drains_the_write_buffer_itself_closes_the_window() -> None:
    async def unmap(m: Machine, cpu: Cpu, domain: Domain, dfn: Dfn) -> None:
        await clear(m, cpu, domain, dfn)
        await submit(m, cpu, PAGE)

    found = told(machine_of(unmap, VtdSettings(write_buffer=True), unmapping))
    assert "the flush came late: cpu0 submitted it at step " in found
    assert "to the end of the execution" not in found


def waiting(kind: str) -> Unmap:
    """Return an unmap that does not wait for its flush, or in a wrong way."""

    async def unmap(m: Machine, cpu: Cpu, domain: Domain, dfn: Dfn) -> None:
        slot = driver_of(m).poll_slot(cpu)
        if kind == "another":
            slot = Maddr(driver_of(m).poll_slots)
        wait = WaitDescriptor(slot, 1, fence=kind != "no fence")
        await clear(m, cpu, domain, dfn)
        if kind != "not reset":
            await cpu.store32(slot, 0)
        latch = cpu.memory.latch(slot, 1)
        if kind == "too soon":
            await submit(m, cpu, wait)
        await submit(m, cpu, attrs.evolve(PAGE, dfn=dfn))
        if kind == "no fence":
            await submit(m, cpu, WaitDescriptor(slot, 2, fence=False))
        if kind not in {"too soon", "never"}:
            await submit(m, cpu, wait)
        if kind != "never":
            await AwaitUnit(latch, "flush.done", "vtd0")

    return unmap


def unmapping_both(m: Machine, domain: Domain) -> None:
    """Have two CPUs unmap pages, each its own."""

    async def unmapper(cpu: Cpu, *pages: Dfn) -> None:
        for page in pages:
            await m.hypervisor.unmap(cpu, domain, page)

    m.cpu(0).runs(unmapper, G, N)
    m.cpu(1).runs(unmapper, G)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("never", "did not wait for it, and it completed"),
        ("too soon", ", by a status that it had asked for at step "),
        ("no fence", ", which did not wait for the flush, and it completed at step "),
        ("another", ", by the status that cpu"),
        ("not reset", "did not wait for it, for its status word held the awaited value since step "),
    ],
)
def test_a_wait_that_ended_before_its_flush_is_told_by_what_ended_it(kind: str, said: str) -> None:
    found = (
        told(machine_of(waiting(kind), VtdSettings(), unmapping_both), RandomStrategy.seeded(seed))
        for seed in range(500)
    )
    assert said in next(one for one in found if "flush came late" in one)


class CpusFirst:
    """Lets a unit go on only while every CPU waits, and makes everything fail that may fail."""

    def pick(self, enabled: Sequence[Agent]) -> Agent:
        return next((agent for agent in enabled if agent.name.startswith("cpu")), enabled[0])

    def choose(self, choice: Choose) -> int:
        return 1


def giving_up(m: Machine, domain: Domain) -> None:
    """Have a CPU unmap two pages, and give up waiting for the first flush."""
    m.allow_faults(waits=1)

    @m.cpu(0)
    async def unmapper(cpu: Cpu) -> None:
        for page in (G, N):
            await m.hypervisor.unmap(cpu, domain, page)


def test_a_wait_that_ended_by_the_status_of_a_flush_that_was_given_up_is_told_so() -> None:
    async def unmap(m: Machine, cpu: Cpu, domain: Domain, dfn: Dfn) -> None:
        await clear(m, cpu, domain, dfn)
        await flush(m, cpu, attrs.evolve(PAGE, dfn=dfn))

    first, second = (told(machine_of(unmap, VtdSettings(), giving_up), CpusFirst(), page=page) for page in (G, N))
    assert ", gave up waiting for it after step " in first
    assert ", by the late status of a flush that it had asked for at step " in second


@pytest.mark.parametrize(("name", "is_lost"), [("free_after_detach", True), ("free_before_flush", False)])
def test_a_page_that_is_still_mapped_is_told_with_the_device_that_the_domain_had_lost(name: str, is_lost: bool) -> None:
    done = explored(find(name).bind({"revision": "merged"}))
    cause = next(iter(done.causes.values()))
    assert cause.run is not None
    assert cause.run.reported is not None
    assert cause.finding is not None
    said = sentence(cause.finding, cause.run.reported.machine.trace)
    assert ("had cleared the entry of device 00:1f.0 at step 5" in said) is is_lost


def test_a_flush_of_a_later_call_is_told_as_that() -> None:
    def unmapping_twice(m: Machine, domain: Domain) -> None:
        @m.cpu(0)
        async def unmapper(cpu: Cpu) -> None:
            await m.hypervisor.unmap(cpu, domain, G)
            await m.hypervisor.flush_all(cpu, domain)

    assert "; only a" not in told(machine_of(clear, VtdSettings(), unmapping))
    said = told(machine_of(clear, VtdSettings(), unmapping_twice))
    assert "and only a later call's flush has removed it: cpu0 submitted it at step " in said
