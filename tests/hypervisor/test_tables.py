"""Page tables that are taken out and freed: when, by whom, and what is found that still goes there."""

from collections.abc import Awaitable, Callable, Iterator, Sequence

import attrs
import pytest

from emu.checks.findings import Finding, FindingKind, FreedTable, Released
from emu.cpus import Cpu
from emu.devices.device import Device
from emu.engine import Access, Event, Execution, Exploration, Kind, Strategy
from emu.engine.hosts import direct
from emu.engine.strategies.optimal import Optimal
from emu.hypervisor.entries import StoreEntry
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import OK
from emu.hypervisor.pages import AllocatePage
from emu.hypervisor.tables import free_pgt_list
from emu.iommus.vtd.formats import LEVEL_BITS, VTD_FORMAT, decode_pte, encode_leaf, encode_table
from emu.iommus.vtd.settings import VtdSettings
from emu.machine.description import Description
from emu.machine.machine import Machine
from emu.memory import LINE_BYTES, WORDS, WORDS_OF_FRAME, word_number
from emu.reports.findings import sentence
from emu.running.exploration import ScenarioExploration
from emu.scenarios.expectation import CLEAN
from emu.scenarios.scenario import Build, scenario
from emu.units import PAGE_SIZE, WORD_BYTES, Dfn, Maddr, Mfn, address_frame, frame_address, offset
from tests.events import steps

Execute = Callable[..., list[Finding]]
Body = Callable[[Machine, Cpu], Awaitable[object]]

G = Dfn(0x1000)
LEAVES = 1 << LEVEL_BITS
LAST = offset(G, LEAVES - 1)
NEXT_TABLE = offset(G, LEAVES)
NIC = "00:1f.0"


def machine_with(*pages: Dfn, vtd: VtdSettings | None = None, devices: tuple[str, ...] = (NIC,)) -> Machine:
    """Return a machine on which domain 1 has pages, all of them cached, and a domain 2 that has none."""
    machine = Machine(Description(settings=attrs.evolve(vtd or VtdSettings(), levels=3), is_checking=True))
    domain = machine.domain(1, devices=devices)
    machine.domain(2)
    for page in pages:
        machine.premap(domain, page, machine.allocate(domain=domain), cached=True)
    return machine


def run(execute: Execute, machine: Machine, *bodies: Body) -> tuple[list[Event], list[Finding]]:
    """Have each CPU do something in a hypercall; return the events and the findings."""

    async def does(cpu: Cpu) -> None:
        async with cpu.hypercall("memory_op"):
            await bodies[cpu.number](machine, cpu)

    for number in range(len(bodies)):
        machine.cpu(number).runs(does)
    findings = execute(machine)
    return list(machine.trace.events()), findings


def entry_of(machine: Machine, dfn: Dfn, level: int, number: int = 1) -> Maddr:
    """Return where a dfn's entry of a level lies, by the tables as they stand."""
    table = machine.domains[number].pgd
    for above in range(3, level, -1):
        entry = decode_pte(machine.memory.peek(VTD_FORMAT.entry_address(table, dfn, above)), above)
        assert entry is not None
        table = entry.address
    return VTD_FORMAT.entry_address(table, dfn, level)


def table_of(machine: Machine, dfn: Dfn) -> Mfn:
    """Return the frame of the table that holds a dfn's leaf."""
    return address_frame(entry_of(machine, dfn, 1))


def tables(machine: Machine, number: int = 1) -> list[Mfn]:
    return list(machine.domains[number].tables)


def freed(events: Sequence[Event]) -> list[int]:
    return [event.fields["mfn"] for event in events if event.name == "page.free"]


async def unmap(machine: Machine, cpu: Cpu, *pages: Dfn) -> None:
    for page in pages:
        assert await machine.hypervisor.unmap(cpu, machine.domains[1], page) == OK


async def take_out(machine: Machine, cpu: Cpu, page: Dfn = G) -> bool:
    return await machine.tables.take_out(cpu, machine.domains[1], page)


async def flush(machine: Machine, cpu: Cpu) -> None:
    assert await machine.hypervisor.flush_all(cpu, machine.domains[1]) == OK


async def unmap_and_take_out(machine: Machine, cpu: Cpu) -> None:
    """Unmap G, take its table out, and flush."""
    await unmap(machine, cpu, G)
    assert await take_out(machine, cpu)
    await flush(machine, cpu)


# Which tables are taken out


@pytest.mark.parametrize("left", [[G], [LAST], [G, offset(G, 7), LAST]])
def test_a_table_that_holds_a_leaf_stays(execute: Execute, left: list[Dfn]) -> None:
    gone = offset(G, 3)
    machine = machine_with(gone, *left)
    before = tables(machine)
    taken: list[bool] = []

    async def body(m: Machine, cpu: Cpu) -> None:
        await unmap(m, cpu, gone)
        taken.extend([await take_out(m, cpu, page) for page in (gone, *left)])

    events, findings = run(execute, machine, body)
    assert (taken, findings) == ([False] * (1 + len(left)), [])
    assert tables(machine) == before
    assert steps(events, "pte.clear", table_level=2) == steps(events, "softirq.raise") == []


def test_a_table_that_is_empty_is_taken_out(execute: Execute) -> None:
    machine = machine_with(G, LAST)
    table, entry = table_of(machine, G), entry_of(machine, G, 2)
    taken: list[bool] = []

    async def body(m: Machine, cpu: Cpu) -> None:
        await unmap(m, cpu, G, LAST)
        taken.append(await take_out(m, cpu, offset(G, 5)))
        await flush(m, cpu)

    events, findings = run(execute, machine, body)
    assert (taken, findings) == ([True], [])
    assert machine.memory.peek(entry) == 0
    assert freed(events) == [table]
    assert table not in tables(machine)


def test_leaves_of_the_tables_beside_it_do_not_keep_a_table(execute: Execute) -> None:
    before = offset(G, -1)
    machine = machine_with(before, G, NEXT_TABLE)
    kept = [table_of(machine, page) for page in (before, NEXT_TABLE)]
    events, findings = run(execute, machine, unmap_and_take_out)
    assert findings == []
    assert len(freed(events)) == 1
    assert [table_of(machine, page) for page in (before, NEXT_TABLE)] == kept


def test_where_there_is_no_table_none_is_taken_out(execute: Execute) -> None:
    machine = machine_with(G)
    taken: list[bool] = []

    async def body(m: Machine, cpu: Cpu) -> None:
        taken.extend([await take_out(m, cpu, NEXT_TABLE), await take_out(m, cpu, Dfn(1 << 20))])

    events, _ = run(execute, machine, body)
    assert taken == [False, False]
    assert steps(events, "pte.clear", "softirq.raise") == []


def test_a_superpage_is_no_table(execute: Execute) -> None:
    machine = machine_with(NEXT_TABLE)
    superpage = encode_leaf(frame_address(machine.allocate(page_order=9)), read=True, write=True, level=2)
    machine.memory.put(entry_of(machine, G, 2), superpage)
    taken: list[bool] = []

    async def body(m: Machine, cpu: Cpu) -> None:
        taken.append(await take_out(m, cpu))

    run(execute, machine, body)
    assert taken == [False]
    assert machine.memory.peek(entry_of(machine, G, 2)) == superpage


def test_a_table_is_taken_out_once(execute: Execute) -> None:
    machine = machine_with(G)
    taken: list[bool] = []

    async def body(m: Machine, cpu: Cpu) -> None:
        await unmap(m, cpu, G)
        taken.extend([await take_out(m, cpu), await take_out(m, cpu)])

    events, _ = run(execute, machine, body)
    assert taken == [True, False]
    assert len(freed(events)) == 1


def test_a_map_after_that_makes_a_table_anew(execute: Execute) -> None:
    machine = machine_with(G)
    old, frame = table_of(machine, G), machine.allocate()

    async def body(m: Machine, cpu: Cpu) -> None:
        await unmap_and_take_out(m, cpu)
        assert await m.hypervisor.map(cpu, m.domains[1], LAST, frame) == OK

    _, findings = run(execute, machine, body)
    assert findings == []
    assert table_of(machine, LAST) != old
    assert table_of(machine, LAST) in tables(machine)


def test_whether_a_table_is_empty_is_seen_and_its_entry_cleared_under_one_lock(execute: Execute) -> None:
    machine = machine_with(G)
    events, _ = run(execute, machine, unmap_and_take_out)
    (cleared,) = steps(events, "pte.clear", table_level=2)
    taken = max(step for step in steps(events, "lock.acquire", lock="d1.mapping_lock") if step < cleared)
    released = min(step for step in steps(events, "lock.release", lock="d1.mapping_lock") if step > taken)
    looked = steps(events, "pte.read", table_level=1)
    assert taken < max(looked) < cleared < released


@pytest.mark.parametrize("coherent", [True, False])
def test_the_line_of_the_entry_is_written_back_under_the_lock(execute: Execute, coherent: bool) -> None:
    machine = machine_with(G, vtd=VtdSettings(coherent=coherent))
    entry = entry_of(machine, G, 2)
    events, findings = run(execute, machine, unmap_and_take_out)
    assert findings == []
    assert machine.memory.seen(entry) == 0
    written = steps(events, "line.write_back", address=entry & -LINE_BYTES)
    assert len(written) == (0 if coherent else 1)
    assert all(step < max(steps(events, "lock.release", lock="d1.mapping_lock")) for step in written)


# When they are freed


def test_a_table_is_freed_by_a_softirq_and_not_before(execute: Execute) -> None:
    machine = machine_with(G)
    table = table_of(machine, G)
    seen: list[tuple[object, tuple[Mfn, ...]]] = []

    async def body(m: Machine, cpu: Cpu) -> None:
        await unmap_and_take_out(m, cpu)
        seen.append((m.pages.page(table).owner, cpu.peek(free_pgt_list)))
        await cpu.process_pending_softirqs()
        seen.append((m.pages.page(table).owner, cpu.peek(free_pgt_list)))

    events, findings = run(execute, machine, body)
    assert findings == []
    assert seen == [(machine.domains[1], (table,)), (None, ())]
    assert steps(events, "softirq.run", handler="free_queued") < steps(events, "page.free")


def test_a_table_that_was_taken_out_is_freed_at_the_end_of_the_hypercall_at_the_latest(execute: Execute) -> None:
    events, _ = run(execute, machine_with(G), unmap_and_take_out)
    assert steps(events, "hypercall.exit") < steps(events, "page.free")


def test_one_softirq_frees_all_tables_that_a_cpu_has_taken_out_in_that_order(execute: Execute) -> None:
    machine = machine_with(G, NEXT_TABLE)
    expected = [table_of(machine, NEXT_TABLE), table_of(machine, G)]

    async def body(m: Machine, cpu: Cpu) -> None:
        await unmap(m, cpu, G, NEXT_TABLE)
        assert await take_out(m, cpu, NEXT_TABLE)
        assert await take_out(m, cpu, G)
        await flush(m, cpu)

    events, findings = run(execute, machine, body)
    assert findings == []
    assert len(steps(events, "softirq.raise")) == len(steps(events, "softirq.run")) == 1
    assert freed(events) == expected


def test_a_table_that_is_taken_out_after_a_softirq_raises_another(execute: Execute) -> None:
    machine = machine_with(G, NEXT_TABLE)
    expected = [table_of(machine, G), table_of(machine, NEXT_TABLE)]

    async def body(m: Machine, cpu: Cpu) -> None:
        await unmap(m, cpu, G, NEXT_TABLE)
        assert await take_out(m, cpu, G)
        await flush(m, cpu)
        await cpu.process_pending_softirqs()
        assert await take_out(m, cpu, NEXT_TABLE)
        await flush(m, cpu)

    events, findings = run(execute, machine, body)
    assert findings == []
    assert len(steps(events, "softirq.raise")) == 2
    assert freed(events) == expected


def test_each_cpu_frees_what_it_has_taken_out(execute: Execute) -> None:
    machine = machine_with(G, NEXT_TABLE)
    expected = [(f"cpu{number}", table_of(machine, page)) for number, page in enumerate((G, NEXT_TABLE))]

    async def body(m: Machine, cpu: Cpu) -> None:
        page = (G, NEXT_TABLE)[cpu.number]
        await unmap(m, cpu, page)
        assert await take_out(m, cpu, page)
        await flush(m, cpu)

    events, findings = run(execute, machine, body, body)
    assert findings == []
    assert sorted((event.agent.name, event.fields["mfn"]) for event in events if event.name == "page.free") == expected


def every_trace(*bodies: Body) -> Iterator[tuple[Machine, list[object]]]:
    """Have CPUs do something about pages G and LAST; yield the machine and what each got at the end of every trace."""
    last: list[tuple[Machine, list[object]]] = []

    def program(strategy: Strategy) -> Execution:
        machine = machine_with(G, LAST, vtd=VtdSettings(synchronous=True), devices=())
        machine.driver.fixes.add(Fix.DYING)
        results: list[object] = [None] * len(bodies)
        last[:] = [(machine, results)]

        async def does(cpu: Cpu) -> None:
            async with cpu.hypercall("memory_op"):
                results[cpu.number] = await bodies[cpu.number](machine, cpu)

        for number in range(len(bodies)):
            machine.cpu(number).runs(does)
        return machine.execution(strategy)

    for execution in Exploration(program, Optimal).each():
        direct.run(execution)
        assert last[0][0].conclude(execution) == []
        yield last[0]


def test_of_two_cpus_that_empty_a_table_one_or_the_other_takes_it_out() -> None:
    async def body(machine: Machine, cpu: Cpu) -> bool:
        page = (G, LAST)[cpu.number]
        await unmap(machine, cpu, page)
        return await take_out(machine, cpu, page)

    done = list(every_trace(body, body))
    assert {tuple(results) for _, results in done} == {(False, True), (True, False)}
    assert all(len(machine.pages.free) == 1 for machine, _ in done)


# Before and after the flush


@pytest.mark.parametrize("flushed", ["before it is taken out", "before it is freed", "after it was freed"])
def test_a_table_must_be_flushed_after_it_was_taken_out_and_before_it_is_freed(execute: Execute, flushed: str) -> None:
    machine = machine_with(G)
    table = table_of(machine, G)

    async def body(m: Machine, cpu: Cpu) -> None:
        await unmap(m, cpu, G)
        if flushed == "before it is taken out":
            await flush(m, cpu)
        assert await take_out(m, cpu)
        if flushed == "before it is freed":
            await flush(m, cpu)
        await cpu.process_pending_softirqs()
        if flushed == "after it was freed":
            await flush(m, cpu)

    _, findings = run(execute, machine, body)
    if flushed == "before it is freed":
        assert findings == []
        return
    (finding,) = findings
    assert isinstance(finding, Released)
    assert (finding.kind, finding.table, finding.frame) == (FindingKind.RELEASED, table, table)
    assert (finding.domain, finding.dfn) == (1, G)
    assert finding.replaced is not None
    assert finding.replaced.address == entry_of(machine, G, 2)


def test_a_flush_of_one_page_of_the_table_is_enough(execute: Execute) -> None:
    machine = machine_with(G)

    async def body(m: Machine, cpu: Cpu) -> None:
        await unmap(m, cpu, G)
        assert await take_out(m, cpu)
        assert await m.hypervisor.flush(cpu, m.domains[1], LAST, pages=1) == OK

    assert run(execute, machine, body)[1] == []


def test_a_flush_of_a_page_of_another_table_is_not(execute: Execute) -> None:
    machine = machine_with(G)

    async def body(m: Machine, cpu: Cpu) -> None:
        await unmap(m, cpu, G)
        assert await take_out(m, cpu)
        assert await m.hypervisor.flush(cpu, m.domains[1], NEXT_TABLE, pages=1) == OK

    assert [one.kind for one in run(execute, machine, body)[1]] == [FindingKind.RELEASED]


def test_a_table_that_no_unit_walks_needs_no_flush(execute: Execute) -> None:
    machine = machine_with(G, devices=())

    async def body(m: Machine, cpu: Cpu) -> None:
        await unmap(m, cpu, G)
        assert await take_out(m, cpu)

    events, findings = run(execute, machine, body)
    assert findings == []
    assert len(freed(events)) == 1


def taken_out_under_a_reader(*, is_flushed: bool) -> Build:
    """Return a scenario: a CPU takes a table out and frees it, while a device reads a page of it."""

    def table_taken_out(m: Machine) -> None:
        domain = m.domain(1, devices=(NIC,))
        m.premap(domain, G, m.allocate())

        @m.cpu(0)
        async def remover(cpu: Cpu) -> None:
            async with cpu.hypercall("memory_op"):
                await m.hypervisor.unmap(cpu, domain, G)
                await m.tables.take_out(cpu, domain, G)
                if is_flushed:
                    await m.hypervisor.flush(cpu, domain, G, pages=1)

        @m.device(NIC)
        async def reader(device: Device) -> None:
            await device.read(G)

    return table_taken_out


@pytest.mark.parametrize("is_flushed", [False, True])
def test_every_trace_agrees_on_whether_the_table_was_flushed(is_flushed: bool) -> None:
    build = taken_out_under_a_reader(is_flushed=is_flushed)
    done = ScenarioExploration(scenario(expect=CLEAN)(build).bind({"levels": "3", "synchronous": "true"}), __file__)
    done.on("direct")
    assert done.is_exhausted
    assert done.done > 1
    found = {(cause.signature.kind, cause.executions) for cause in done.causes.values()}
    assert found == (set() if is_flushed else {(FindingKind.RELEASED, done.done)})


# A domain that is destroyed


def test_all_tables_of_the_domain_are_freed_the_oldest_last(execute: Execute) -> None:
    machine = machine_with(G, NEXT_TABLE, Dfn(1 << 20), devices=())
    expected = tables(machine)
    assert (len(expected), expected[0]) == (6, address_frame(machine.domains[1].pgd))

    async def body(m: Machine, cpu: Cpu) -> None:
        await m.tables.free_all(cpu, m.domains[1])

    events, findings = run(execute, machine, body)
    assert findings == []
    assert freed(events) == expected[::-1]
    assert tables(machine) == []


def test_neither_its_data_nor_the_tables_of_another_domain_are_freed(execute: Execute) -> None:
    machine = machine_with(G, devices=())
    other = machine.domains[2]
    machine.premap(other, G, machine.allocate(domain=other))
    kept, data = tables(machine, 2), machine.domains[1].p2m[G]

    async def body(m: Machine, cpu: Cpu) -> None:
        await m.tables.free_all(cpu, m.domains[1])

    run(execute, machine, body)
    assert tables(machine, 2) == kept
    assert machine.pages.page(data).owner is machine.domains[1]


def test_the_domain_is_dying_before_its_first_table_is_freed(execute: Execute) -> None:
    async def body(m: Machine, cpu: Cpu) -> None:
        await m.tables.free_all(cpu, m.domains[1])

    machine = machine_with(G, devices=())
    events, _ = run(execute, machine, body)
    (dying,) = steps(events, "variable.write")
    assert machine.domains[1].is_dying.value
    assert dying < min(steps(events, "page.free"))


@pytest.mark.parametrize("is_repaired", [False, True])
def test_since_1ef48c82e7_tables_are_freed_only_when_nobody_holds_the_mapping_lock(
    execute: Execute, is_repaired: bool
) -> None:
    machine = machine_with(G, devices=())
    if is_repaired:
        machine.driver.fixes.add(Fix.DYING)
    locked = machine.signal("locked")

    async def frees(m: Machine, cpu: Cpu) -> None:
        await locked.wait()
        await m.tables.free_all(cpu, m.domains[1])

    async def holds(m: Machine, cpu: Cpu) -> None:
        async with m.domains[1].mapping_lock.held(cpu):
            await locked.send()
            for _ in range(9):
                await cpu.load64(0)

    events, _ = run(execute, machine, frees, holds)
    released = min(steps(events, "lock.release", lock="d1.mapping_lock"))
    assert (released < min(steps(events, "page.free"))) is is_repaired


@pytest.mark.parametrize("is_detached", [False, True])
def test_the_tables_of_a_domain_whose_device_was_not_taken_away_are_found(execute: Execute, is_detached: bool) -> None:
    machine = machine_with(G)
    expected = {} if is_detached else dict.fromkeys(tables(machine)[::-1])

    async def body(m: Machine, cpu: Cpu) -> None:
        if is_detached:
            assert await m.assignment.detach(cpu, m.domains[1], m.devices[NIC]) == OK
        await m.tables.free_all(cpu, m.domains[1])

    _, findings = run(execute, machine, body)
    assert {one.kind for one in findings} == ({FindingKind.RELEASED} if expected else set())
    assert [one.table for one in findings if isinstance(one, Released)] == list(expected)


def test_a_table_that_waits_for_its_softirq_is_freed_once(execute: Execute) -> None:
    machine = machine_with(G, devices=())

    async def body(m: Machine, cpu: Cpu) -> None:
        await unmap_and_take_out(m, cpu)
        await m.tables.free_all(cpu, m.domains[1])

    events, findings = run(execute, machine, body)
    assert findings == []
    assert len(freed(events)) == len(set(freed(events))) == 3


def test_a_frame_that_was_a_table_and_is_data_now_is_not_freed_with_the_tables(execute: Execute) -> None:
    machine = machine_with(G, devices=())
    allocated: list[Mfn] = []

    async def body(m: Machine, cpu: Cpu) -> None:
        await unmap_and_take_out(m, cpu)
        await cpu.process_pending_softirqs()
        allocated.append(await m.pages.allocate(cpu, m.domains[1]))
        await m.tables.free_all(cpu, m.domains[1])

    run(execute, machine, body)
    assert machine.pages.page(allocated[0]).owner is machine.domains[1]


# Frames that were tables


def test_a_frame_that_was_a_table_is_zeroed_entirely_for_its_new_owner(execute: Execute) -> None:
    machine = machine_with(G, offset(G, 7), LAST, devices=())
    frames = tables(machine)
    held = [[machine.memory.peek(frame_address(mfn) + i) for i in range(0, PAGE_SIZE, WORD_BYTES)] for mfn in frames]
    assert [len([word for word in words if word]) for words in held] == [1, 1, 3]
    allocated: list[Mfn] = []

    async def body(m: Machine, cpu: Cpu) -> None:
        await m.tables.free_all(cpu, m.domains[1])
        allocated.extend([await m.pages.allocate(cpu, m.domains[2]) for _ in frames])

    run(execute, machine, body)
    assert allocated == frames
    for mfn in frames:
        first = frame_address(mfn)
        assert not any(machine.memory.peek(first + i) for i in range(0, PAGE_SIZE, WORD_BYTES))
        assert machine.pages.page(mfn).owner is machine.domains[2]


def test_zeroing_a_freed_table_declares_every_word_of_the_table(execute: Execute) -> None:
    machine = machine_with(G, devices=())
    table = address_frame(machine.domains[1].pgd)
    declared: list[Access] = []

    async def body(m: Machine, cpu: Cpu) -> None:
        await m.tables.free_all(cpu, m.domains[1])
        allocation = AllocatePage(m.pages, cpu, m.domains[2])
        declared.extend(allocation.accesses())
        assert await allocation == table

    run(execute, machine, body)
    first = word_number(frame_address(table))
    assert Access(WORDS, first, first + WORDS_OF_FRAME - 1, Kind.WRITE) in declared


def test_a_walk_that_still_goes_through_a_table_that_was_given_away_is_found_once(execute: Execute) -> None:
    machine = machine_with(G)
    table = table_of(machine, G)

    async def body(m: Machine, cpu: Cpu) -> None:
        await unmap(m, cpu, G)
        assert await take_out(m, cpu)
        await cpu.process_pending_softirqs()
        assert await m.pages.allocate(cpu, m.domains[2]) == table

    (finding,) = run(execute, machine, body)[1]
    assert isinstance(finding, Released)
    assert (finding.kind, finding.call, finding.table) == (FindingKind.RELEASED, "put_page", table)


@pytest.mark.parametrize("new_owner", [None, 1, 2])
@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_store_into_a_freed_table_is_found_with_the_cpu_that_freed_the_table(
    execute: Execute, level: int, new_owner: int | None
) -> None:
    machine = machine_with(G, devices=())
    entry = entry_of(machine, LAST, level)
    done = machine.signal("freed")

    async def frees(m: Machine, cpu: Cpu) -> None:
        await m.tables.free_all(cpu, m.domains[1])
        if new_owner is not None:
            for _ in range(3):
                await m.pages.allocate(cpu, m.domains[new_owner])
        await done.send()

    async def stores(m: Machine, cpu: Cpu) -> None:
        await done.wait()
        await StoreEntry(cpu, m.domains[1], LAST, level, entry, 0)

    events, (finding,) = run(execute, machine, frees, stores)
    assert isinstance(finding, FreedTable)
    (stored,) = steps(events, "pte.clear")
    (freed_at,) = steps(events, "page.free", mfn=address_frame(entry))
    assert (finding.kind, finding.frame) == (FindingKind.FREED_TABLE, address_frame(entry))
    assert (finding.agent, finding.step, finding.domain, finding.dfn) == ("cpu1", stored, 1, LAST)
    assert finding.freed == ("cpu0", freed_at)


def test_a_map_that_follows_an_entry_which_another_owner_has_written_into_a_freed_table_is_found(
    execute: Execute,
) -> None:
    machine = machine_with(G, devices=())
    entry, garbage, new = entry_of(machine, LAST, 3), machine.allocate(), machine.allocate()

    async def body(m: Machine, cpu: Cpu) -> None:
        await m.tables.free_all(cpu, m.domains[1])
        for _ in range(3):
            await m.pages.allocate(cpu, m.domains[2])
        await cpu.store64(entry, encode_table(frame_address(garbage)))
        await m.hypervisor.map(cpu, m.domains[1], LAST, new)

    _, (first, *_) = run(execute, machine, body)
    assert isinstance(first, FreedTable)
    assert (first.kind, first.frame, first.freed) == (FindingKind.FREED_TABLE, garbage, None)
    assert "to which a page table led that was freed" in sentence(first, machine.trace)


def test_a_store_into_a_table_that_waits_for_its_softirq_is_not(execute: Execute) -> None:
    machine = machine_with(G)
    entry = entry_of(machine, LAST, 1)

    async def body(m: Machine, cpu: Cpu) -> None:
        await unmap_and_take_out(m, cpu)
        await StoreEntry(cpu, m.domains[1], LAST, 1, entry, 0)

    assert run(execute, machine, body)[1] == []


@pytest.mark.parametrize("is_repaired", [False, True])
def test_a_map_and_the_end_of_its_domain_meet_in_a_freed_table_unless_repaired(is_repaired: bool) -> None:
    last: list[Machine] = []

    def program(strategy: Strategy) -> Execution:
        last[:] = [machine_with(G, vtd=VtdSettings(synchronous=True), devices=())]
        machine = last[0]
        machine.driver.fixes |= {Fix.DYING} if is_repaired else set()
        domain, new = machine.domains[1], machine.allocate()
        machine.cpu(0).runs(machine.tables.free_all, domain)

        @machine.cpu(1)
        async def mapper(cpu: Cpu) -> None:
            await machine.hypervisor.map(cpu, domain, LAST, new)

        return machine.execution(strategy)

    kinds: set[FindingKind] = set()
    for execution in Exploration(program, Optimal).each():
        direct.run(execution)
        kinds |= {finding.kind for finding in last[0].conclude(execution)}
    assert kinds == (set() if is_repaired else {FindingKind.FREED_TABLE})


def test_a_table_that_is_taken_out_while_its_domain_is_destroyed_is_freed_once() -> None:
    async def frees(machine: Machine, cpu: Cpu) -> None:
        await machine.tables.free_all(cpu, machine.domains[1])

    async def takes_out(machine: Machine, cpu: Cpu) -> bool:
        await unmap(machine, cpu, G, LAST)
        return await take_out(machine, cpu)

    for machine, _ in every_trace(frees, takes_out):
        assert len(machine.pages.free) == 3
