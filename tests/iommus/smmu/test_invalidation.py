"""What each invalidation removes, from the caches and from what the ledger allows."""

from collections.abc import Callable

import pytest

from emu.checks.findings import Finding
from emu.cpus import Cpu
from emu.iommus.smmu.formats import encode_leaf, encode_table
from emu.iommus.smmu.queue import ALL, SYNC
from emu.iommus.smmu.settings import SmmuSettings
from emu.machine.machine import Machine
from emu.units import Dfn, frame_address, offset
from tests.events import steps
from tests.smmu import settle, smmu_machine, unit_of

Execute = Callable[..., list[Finding]]

G = Dfn(0x200)
PAGES = 8
EVERY = list(range(PAGES))
DEVICES = ("00:1f.0", "00:1f.1", "00:02.0")


def two_domains(settings: SmmuSettings | None = None) -> Machine:
    """Return a machine with two domains, each with the same eight pages cached; the first one has two devices."""
    machine = smmu_machine(settings or SmmuSettings(ipa_bits=32, walk_caches=True))
    for number, devices in ((1, DEVICES[:2]), (2, DEVICES[2:])):
        domain = machine.domain(number, devices=devices)
        machine.premap(domain, G, machine.allocate(page_order=3), page_order=3, cached=True)
    return machine


def submit(execute: Execute, machine: Machine, *asked: int) -> None:
    """Have CPU 0 ask for invalidations and wait for them."""

    @machine.cpu(0)
    async def submitter(cpu: Cpu) -> None:
        await settle(machine, *asked)

    assert execute(machine) == []


def cached(machine: Machine, tag: int) -> list[int]:
    """Return which of the eight pages are cached under a VMID."""
    return [page for page in range(PAGES) if machine.unit.iotlb.find(tag, offset(G, page))]


def tables_cached(machine: Machine, tag: int) -> int:
    """Return how many entries that lead to tables are cached under a VMID for the first page."""
    cache = machine.unit.walk_cache
    assert cache is not None
    return len(cache.find(tag, G))


@pytest.mark.parametrize(
    ("asked", "left"),
    [((1,), (0, 8)), ((2,), (8, 0)), ((3,), (8, 8)), ((ALL,), (0, 0)), ((), (8, 8)), ((1, 2), (0, 0))],
)
def test_tlbivmid_removes_all_of_its_vmid_and_tlbiallnsnh_all_of_every_vmid(
    execute: Execute, asked: tuple[int, ...], left: tuple[int, int]
) -> None:
    machine = two_domains()
    assert [len(cached(machine, tag)) for tag in (1, 2)] == [8, 8]
    assert [tables_cached(machine, tag) for tag in (1, 2)] == [2, 2]
    submit(execute, machine, *asked)
    assert tuple(len(cached(machine, tag)) for tag in (1, 2)) == left
    assert tuple(4 * tables_cached(machine, tag) for tag in (1, 2)) == left


@pytest.mark.parametrize(
    ("asked", "counts"), [(1, (True, False)), (2, (False, True)), (3, (False, False)), (ALL, (True, True))]
)
def test_the_ledger_counts_an_invalidation_from_its_start(
    execute: Execute, asked: int, counts: tuple[bool, bool]
) -> None:
    machine = two_domains()
    submit(execute, machine, asked)
    completed, (started,) = machine.unit.ledger.completed, steps(machine.trace.events(), "invalidate.begin")
    assert [completed.since(tag, G) for tag in (1, 2)] == [started * one for one in counts]
    assert [completed.next_drop(tag, G, 3, 0) < 1 << 60 for tag in (1, 2)] == list(counts)


def test_asking_accepting_beginning_removing_and_completing_are_steps_of_their_own(execute: Execute) -> None:
    machine = two_domains()
    submit(execute, machine, 1)
    stages = [
        "queue.post",
        "queue.fetch",
        "invalidate.begin",
        "iotlb.invalidate",
        "invalidate.complete",
        "queue.complete",
    ]
    found = [next(event.step for event in machine.trace.events() if event.name == stage) for stage in stages]
    assert found == sorted(set(found))


def test_two_devices_of_a_domain_find_one_entry_and_one_invalidation_drops_it(execute: Execute) -> None:
    machine = two_domains()
    assert len(machine.unit.iotlb) == 2 * PAGES
    submit(execute, machine, 1)
    (removed,) = (one.fields["removed"] for one in machine.trace.events() if one.name == "iotlb.invalidate")
    assert removed == PAGES


@pytest.mark.parametrize("is_dropped", [False, True])
def test_a_cached_entry_that_leads_to_a_table_is_dropped_with_the_leaves_of_its_vmid(is_dropped: bool) -> None:
    machine = two_domains()
    format_, domain, unit = machine.unit.format, machine.domains[1], unit_of(machine)
    above = [format_.entry_address(domain.pgd, G, 3)]
    table = format_.decode(machine.memory.peek(above[0]), 3)
    assert table is not None
    above.append(format_.entry_address(table.address, G, 2))
    old = format_.decode(machine.memory.peek(above[1]), 2)
    assert old is not None
    machine.memory.put(above[1], encode_table(frame_address(machine.memory.allocate_table())), step=1)
    unit.ledger.complete(2, 1 if is_dropped else 2, Dfn(0), None)
    leaf = encode_leaf(frame_address(machine.allocate()), read=True, write=True)
    machine.memory.put(format_.entry_address(old.address, G, 1), leaf, step=3)
    (tables,) = unit.tables_ever(machine.devices[DEVICES[0]].source_id)
    legal = [one.leaf for one in unit.ledger.legal(tables, G) if one.is_present]
    assert (leaf in legal) is not is_dropped
    assert len(legal) == (0 if is_dropped else 2)


def test_what_software_asks_for_is_counted_by_kind(execute: Execute) -> None:
    machine = two_domains()
    submit(execute, machine, 1, 2, ALL)
    counters = machine.counters
    assert counters.commands == {"vmid": 2, "all": 1, "wait": 1}
    assert counters.flushes == 3
    assert counters.register_writes == 4
    assert counters.waits == 1
    assert SYNC not in {1, 2, ALL}


def test_a_dropped_entry_counts_as_still_valid_unless_a_word_of_its_walk_was_replaced(execute: Execute) -> None:
    machine = two_domains()
    (tables,) = unit_of(machine).tables_ever(machine.devices[DEVICES[0]].source_id)
    table, level, format_ = tables.root, tables.levels, machine.unit.format
    while level > 1:
        entry = format_.decode(machine.memory.peek(format_.entry_address(table, G, level)), level)
        assert entry is not None
        table, level = entry.address, entry.next_level

    @machine.cpu(0)
    async def clearer(cpu: Cpu) -> None:
        await cpu.store64(format_.entry_address(table, G, 1), 0)
        await settle(machine, 1)

    assert execute(machine) == []
    assert (machine.counters.dropped, machine.counters.over_flushed) == (PAGES, PAGES - 1)
