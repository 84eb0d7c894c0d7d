"""The AMD-Vi hooks of each revision: what a change of an entry asks to be flushed, what is flushed, and when."""

from collections.abc import Callable

import pytest

from emu.checks.findings import Finding, FindingKind
from emu.cpus import Cpu
from emu.engine import Choose
from emu.engine.hosts import direct
from emu.engine.strategies.round_robin import RoundRobinStrategy
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import EFAULT, OK, READ_WRITE, FlushType, MapFlags
from emu.iommus.amd.formats import CompletionWait, InvalidatePages
from emu.machine.machine import Machine
from emu.units import Dfn, Mfn
from tests.amd import amd_machine, submitted
from tests.events import steps

Execute = Callable[..., list[Finding]]

G = Dfn(0x10)
NIC = "00:1f.0"
LOW, LOW_TOO = Mfn(0x1000), Mfn(0x2000)
NO_MAPPING, READ_ONLY, NO_ACCESS = None, MapFlags.READABLE, MapFlags(0)
PAGE, BLOCK = InvalidatePages(1, G), InvalidatePages(1, Dfn(0), 9, directory=True)
WAIT = CompletionWait(interrupt=True)

NONE, ADDED, MODIFIED = FlushType.NONE, FlushType.ADDED, FlushType.MODIFIED
REVISIONS = ("implicit", "v1", "merged", "flush_on_error")


def machine_with(revision: str, before: MapFlags | None = READ_WRITE, *, frame: Mfn = LOW, order: int = 0) -> Machine:
    """Return a machine whose domain 1 maps a frame at G with some permissions, or has never mapped any."""
    machine = amd_machine(revision=revision)
    domain = machine.domain(1, devices=(NIC,))
    for named in dict.fromkeys((frame, LOW_TOO)):
        machine.allocate(at=named, page_order=order)
    if before is not None:
        machine.premap(domain, G, frame, page_order=order, flags=before)
    return machine


def reported(
    execute: Execute, machine: Machine, mfn: Mfn | None, flags: MapFlags = READ_WRITE
) -> tuple[int, FlushType]:
    """Return what a hook says that maps a frame at G, or unmaps G if that is None."""
    said: list[tuple[int, FlushType]] = []

    @machine.cpu(0)
    async def caller(cpu: Cpu) -> None:
        (domain,) = machine.domains.values()
        if mfn is None:
            said.append(await domain.ops.unmap_page(cpu, domain, G))
        else:
            said.append(await domain.ops.map_page(cpu, domain, G, mfn, flags))

    execute(machine)
    return said[0]


def by_call(execute: Execute, machine: Machine, mfn: Mfn | None, *, order: int = 0) -> list[object]:
    """Return the commands that a call submits which maps frames from G on, or unmaps them; it breaks no promise."""

    @machine.cpu(0)
    async def caller(cpu: Cpu) -> None:
        (domain,) = machine.domains.values()
        if mfn is None:
            assert await machine.hypervisor.unmap(cpu, domain, G, page_order=order) == OK
        else:
            assert await machine.hypervisor.map(cpu, domain, G, mfn, page_order=order) == OK

    assert execute(machine) == []
    return [command for command in submitted(machine) if command != WAIT]


# What a hook reports and flushes itself


@pytest.mark.parametrize("revision", REVISIONS)
@pytest.mark.parametrize(
    ("before", "mfn", "flags", "by_v1", "by_merged", "implicitly"),
    [
        (NO_MAPPING, LOW, READ_WRITE, NONE, ADDED, False),
        (NO_ACCESS, LOW, READ_WRITE, MODIFIED, MODIFIED, True),  # PR is set in an entry without access
        (READ_WRITE, LOW_TOO, READ_WRITE, MODIFIED, MODIFIED, True),
        (READ_WRITE, LOW, READ_ONLY, MODIFIED, MODIFIED, True),
        (READ_ONLY, LOW, READ_WRITE, MODIFIED, MODIFIED, True),
        (READ_WRITE, LOW, READ_WRITE, NONE, ADDED, False),
        (READ_WRITE, None, READ_WRITE, NONE, MODIFIED, True),
        (NO_MAPPING, None, READ_WRITE, NONE, NONE, True),
    ],
    ids=["added", "of no access", "replaced", "downgraded", "upgraded", "equal", "unmapped", "unmapped before"],
)
def test_a_hook_reports_what_its_change_requires_or_flushes_it(
    execute: Execute,
    revision: str,
    before: MapFlags | None,
    mfn: Mfn | None,
    flags: MapFlags,
    by_v1: FlushType,
    by_merged: FlushType,
    implicitly: bool,
) -> None:
    machine = machine_with(revision, before)
    expected = {"implicit": NONE, "v1": by_v1}.get(revision, by_merged)
    assert reported(execute, machine, mfn, flags) == (OK, expected)
    assert submitted(machine) == ([PAGE, WAIT] if revision == "implicit" and implicitly else [])


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_map_stores_its_leaf_even_if_it_is_there_already(execute: Execute, revision: str) -> None:
    machine = machine_with(revision)
    reported(execute, machine, LOW)
    assert len(steps(machine.trace.events(), "pte.write", table_level=1)) == 2


@pytest.mark.parametrize("revision", REVISIONS)
def test_an_unmap_clears_its_leaf_even_if_there_is_none_and_makes_the_table_for_it(
    execute: Execute, revision: str
) -> None:
    machine = machine_with(revision, NO_MAPPING)
    reported(execute, machine, None)
    events = list(machine.trace.events())
    assert len(steps(events, "table.allocate")) == 1
    assert len(steps(events, "pte.clear", table_level=1)) == 1


class Faulty(RoundRobinStrategy):
    """Have every fault happen that may."""

    def choose(self, choice: Choose) -> int:
        return choice.count - 1


@pytest.mark.parametrize("revision", REVISIONS)
@pytest.mark.parametrize("mfn", [LOW, None])
def test_without_memory_for_a_table_a_hook_fails_and_crashes_the_domain(revision: str, mfn: Mfn | None) -> None:
    machine = machine_with(revision, NO_MAPPING)
    machine.allow_faults(allocations=1)

    def run(machine: Machine) -> list[Finding]:
        execution = machine.execution(Faulty())
        direct.run(execution)
        return machine.conclude(execution)

    assert reported(run, machine, mfn) == (EFAULT, NONE)
    assert machine.domains[1].is_crashed
    assert submitted(machine) == []


# The lock under which the page is flushed


@pytest.mark.parametrize(("mfn", "is_locked"), [(LOW_TOO, True), (None, False)])
def test_implicit_flushes_a_map_under_the_mapping_lock_and_an_unmap_after_it(
    execute: Execute, mfn: Mfn | None, is_locked: bool
) -> None:
    machine = machine_with("implicit")
    assert by_call(execute, machine, mfn) == [PAGE]
    events = list(machine.trace.events())
    (released,) = steps(events, "lock.release", lock="d1.mapping_lock")
    (told,) = steps(events, "flush.done")
    posted = min(steps(events, "queue.post"))
    assert told < released if is_locked else released < posted


@pytest.mark.parametrize("revision", ["v1", "merged", "flush_on_error"])
@pytest.mark.parametrize("mfn", [LOW_TOO, None])
def test_later_revisions_flush_after_the_mapping_lock(execute: Execute, revision: str, mfn: Mfn | None) -> None:
    machine = machine_with(revision)
    assert by_call(execute, machine, mfn) == [PAGE]
    events = list(machine.trace.events())
    (released,) = steps(events, "lock.release", lock="d1.mapping_lock")
    assert released < min(steps(events, "queue.post"))


# What whole calls submit


@pytest.mark.parametrize(
    ("before", "mfn", "order", "implicit", "v1", "merged"),
    [
        (NO_MAPPING, LOW, 0, [], [], []),
        (READ_WRITE, LOW_TOO, 0, [PAGE], [PAGE], [PAGE]),
        (READ_WRITE, LOW, 0, [], [], []),
        (READ_WRITE, None, 0, [PAGE], [PAGE], [PAGE]),
        (NO_MAPPING, None, 0, [PAGE], [PAGE], []),
        (NO_MAPPING, LOW, 1, [], [], []),
        (READ_WRITE, LOW_TOO, 1, [PAGE, InvalidatePages(1, Dfn(G + 1))], [BLOCK], [BLOCK]),
        (READ_WRITE, None, 1, [PAGE, InvalidatePages(1, Dfn(G + 1))], [BLOCK], [BLOCK]),
        (NO_MAPPING, None, 1, [PAGE, InvalidatePages(1, Dfn(G + 1))], [BLOCK], []),
    ],
)
@pytest.mark.parametrize("revision", REVISIONS)
def test_a_call_submits_what_its_changes_require(
    execute: Execute,
    revision: str,
    before: MapFlags | None,
    mfn: Mfn | None,
    order: int,
    implicit: list[object],
    v1: list[object],
    merged: list[object],
) -> None:
    machine = machine_with(revision, before, order=order)
    expected = {"implicit": implicit, "v1": v1}.get(revision, merged)
    assert by_call(execute, machine, mfn, order=order) == expected


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_flush_that_a_caller_asks_for_is_of_its_range(execute: Execute, revision: str) -> None:
    machine = machine_with(revision)

    @machine.cpu(0)
    async def flusher(cpu: Cpu) -> None:
        (domain,) = machine.domains.values()
        await machine.hypervisor.flush(cpu, domain, G, pages=2)
        await machine.hypervisor.flush_all(cpu, domain)

    assert execute(machine) == []
    assert submitted(machine) == [BLOCK, WAIT, InvalidatePages(1, Dfn(0), None, directory=True), WAIT]


# The present bit that the merged patch looked for in the wrong half (ba9b5a09da)


@pytest.mark.parametrize("revision", ["merged", "flush_on_error"])
@pytest.mark.parametrize(
    ("frame", "is_seen"),
    [(Mfn(0x1000), False), (Mfn(0xF_FFFF), False), (Mfn(0x20_0000), False), (Mfn(0x30_0000), True)],
    ids=["below 4 GiB", "the last one below 4 GiB", "bit 32 of its address is 0", "bit 32 of its address is 1"],
)
def test_an_unmap_that_looks_for_the_present_bit_in_the_high_half_sees_bit_32_of_the_frames_address(
    execute: Execute, revision: str, frame: Mfn, is_seen: bool
) -> None:
    machine = machine_with(revision, frame=frame)
    machine.driver.fixes.discard(Fix.PRESENT_BIT)

    @machine.cpu(0)
    async def unmapper(cpu: Cpu) -> None:
        (domain,) = machine.domains.values()
        await machine.hypervisor.unmap(cpu, domain, G)

    assert [finding.kind for finding in execute(machine)] == [FindingKind.STALE] * (not is_seen)
    assert submitted(machine) == [PAGE, WAIT] * is_seen


@pytest.mark.parametrize("revision", ["implicit", "v1"])
def test_the_revisions_that_do_not_look_are_not_concerned(execute: Execute, revision: str) -> None:
    machine = machine_with(revision)
    machine.driver.fixes.discard(Fix.PRESENT_BIT)
    assert by_call(execute, machine, None) == [PAGE]
