"""A unit writes a status word only while the frame is whose it was when software asked. Every trace is executed."""

import pytest

from emu.checks.findings import FindingKind, LateStatus
from emu.checks.signatures import Signature
from emu.cpus import Cpu
from emu.hypervisor.commands import AwaitUnit
from emu.hypervisor.vtd.queue import qinval_update
from emu.iommus.vtd.formats import WaitDescriptor
from emu.machine.machine import Machine
from emu.reports.findings import data, sentence
from emu.units import Maddr, Mfn, frame_address
from tests.checks.exhausted import causes
from tests.vtd import driver_of

DONE = 1
SMALL = "levels=3"
FRAME = Mfn(0x180002)
"""The first frame that a scenario allocates."""


def late(owner: int | None) -> Signature:
    return Signature(FindingKind.LATE, "status after put_page of cpu0", owner, None, FRAME, "vtd0", "vtd0")


async def post_wait(m: Machine, cpu: Cpu, status: Maddr) -> None:
    await qinval_update(cpu, driver_of(m).iommus[0], WaitDescriptor(status, DONE))


@pytest.mark.parametrize("is_awaited", [True, False])
@pytest.mark.parametrize("settings", ["", "coherent=false", "write_buffer=true", "queue_entries=2"])
def test_a_frame_that_is_freed_while_a_status_word_is_to_come_is_written_late(is_awaited: bool, settings: str) -> None:
    def program(m: Machine) -> None:
        frame = m.allocate(domain=m.domain(1))
        status = frame_address(frame)

        @m.cpu(0)
        async def flusher(cpu: Cpu) -> None:
            written = cpu.memory.latch(status, DONE)
            await post_wait(m, cpu, status)
            if is_awaited:
                await AwaitUnit(written, "flush.done", "vtd0")
            await m.pages.put(cpu, frame)

    assert set(causes(program, f"{SMALL} {settings}")) == (set() if is_awaited else {late(None)})


@pytest.mark.parametrize("is_used_by_another", [True, False])
def test_a_status_word_may_hit_a_domain_that_has_the_frame_by_then(is_used_by_another: bool) -> None:
    def program(m: Machine) -> None:
        first, other = m.domain(1), m.domain(2)
        frame = m.allocate(domain=first)

        @m.cpu(0)
        async def flusher(cpu: Cpu) -> None:
            await post_wait(m, cpu, frame_address(frame))
            await m.pages.put(cpu, frame)
            await m.pages.allocate(cpu, other if is_used_by_another else first)

    owner = 2 if is_used_by_another else 1
    assert set(causes(program, SMALL)) == {late(None), late(owner)}


@pytest.mark.parametrize("is_given_before", [True, False])
def test_a_word_that_is_asked_for_in_a_free_frame_is_late_unless_the_frame_has_an_owner_again(
    is_given_before: bool,
) -> None:
    def program(m: Machine) -> None:
        domain = m.domain(1)
        frame = m.allocate(domain=domain)

        @m.cpu(0)
        async def flusher(cpu: Cpu) -> None:
            await m.pages.put(cpu, frame)
            if is_given_before:
                await m.pages.allocate(cpu, domain)
            await post_wait(m, cpu, frame_address(frame))

    assert set(causes(program, SMALL)) == (set() if is_given_before else {late(None)})


def test_another_cpu_that_frees_the_frame_meanwhile_is_found_in_the_orders_where_it_is_first() -> None:
    def program(m: Machine) -> None:
        frame = m.allocate(domain=m.domain(1))

        @m.cpu(0)
        async def owner(cpu: Cpu) -> None:
            await m.pages.put(cpu, frame)

        @m.cpu(1)
        async def flusher(cpu: Cpu) -> None:
            written = cpu.memory.latch(frame_address(frame), DONE)
            await post_wait(m, cpu, frame_address(frame))
            await AwaitUnit(written, "flush.done", "vtd0")

    found = causes(program, SMALL)
    assert set(found) == {late(None)}
    (cause,) = found.values()
    assert cause.executions == 2  # freed before the wait is posted, between that and the word; not after it


def test_the_words_of_queues_that_no_domain_owns_are_not_judged() -> None:
    def program(m: Machine) -> None:
        domain = m.domain(1, devices=("00:1f.0",))
        frame = m.allocate()

        @m.cpu(0)
        async def flusher(cpu: Cpu) -> None:
            await post_wait(m, cpu, frame_address(frame))
            await m.hypervisor.flush_all(cpu, domain)

    assert not causes(program, SMALL)


def test_a_late_status_word_is_reported_with_its_wait_and_the_cpu_that_freed_the_frame() -> None:
    def program(m: Machine) -> None:
        frame = m.allocate(domain=m.domain(1))

        @m.cpu(0)
        async def flusher(cpu: Cpu) -> None:
            await post_wait(m, cpu, frame_address(frame))
            await m.pages.put(cpu, frame)

    (cause,) = causes(program, SMALL).values()
    finding = cause.finding
    assert isinstance(finding, LateStatus)
    assert cause.run is not None
    assert cause.run.reported is not None
    trace = cause.run.reported.machine.trace
    assert sentence(finding, trace) == (
        f"late access: at step {finding.step} vtd0 wrote the status of a wait, posted at step {finding.asked}, to "
        f"0x180002000 in mfn 0x180002, which cpu0 had freed at step {finding.freed} and which is still free"
    )
    assert finding.asked < finding.freed < finding.step
    assert data(finding, trace)["address"] == 0x180002000
