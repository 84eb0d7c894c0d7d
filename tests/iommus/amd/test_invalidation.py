"""What each command removes, from the caches and from what the ledger allows."""

from collections.abc import Callable

import pytest

from emu.checks.findings import Finding
from emu.cpus import Cpu
from emu.iommus.amd.formats import (
    AMD_FORMAT,
    Command,
    InvalidateAll,
    InvalidateDeviceEntry,
    InvalidateDeviceTlb,
    InvalidatePages,
    encode_leaf,
    encode_table,
)
from emu.iommus.amd.settings import AmdSettings
from emu.machine.machine import Machine
from emu.units import Dfn, Maddr, frame_address, offset
from tests.amd import amd_machine, settle, unit_of

Execute = Callable[..., list[Finding]]

G = Dfn(0x200)
PAGES = 8
EVERY = list(range(PAGES))
DEVICES = ("00:1f.0", "00:1f.1", "00:02.0")


def two_domains() -> Machine:
    """Return a machine with two domains, each with the same eight pages cached; the first one has two devices."""
    machine = amd_machine()
    for number, devices in ((1, DEVICES[:2]), (2, DEVICES[2:])):
        domain = machine.domain(number, devices=devices)
        machine.premap(domain, G, machine.allocate(page_order=3), page_order=3, cached=True)
    table = unit_of(machine).device_table
    for device in machine.devices.values():
        table.entries[device.source_id] = (next(iter(table.lifetimes(device.source_id)))[0], ())
    return machine


def submit(execute: Execute, machine: Machine, *commands: Command) -> None:
    """Have CPU 0 submit commands and wait for them."""

    @machine.cpu(0)
    async def submitter(cpu: Cpu) -> None:
        await settle(machine, cpu, *commands)

    assert execute(machine) == []


def cached(machine: Machine, tag: int) -> list[int]:
    """Return which of the eight pages are cached under a domain id."""
    return [page for page in range(PAGES) if machine.unit.iotlb.find(tag, offset(G, page))]


def devices_cached(machine: Machine) -> list[str]:
    """Return the devices whose table entries are cached."""
    entries = unit_of(machine).device_table.entries
    return [bdf for bdf in DEVICES if machine.devices[bdf].source_id in entries]


def pages(page: int, order: int | None, *, directory: bool = False) -> InvalidatePages:
    return InvalidatePages(1, Dfn(0) if order is None else offset(G, page), order, directory)


@pytest.mark.parametrize(
    ("command", "left"),
    [
        (pages(3, 0), [0, 1, 2, 4, 5, 6, 7]),
        (pages(4, 1), [0, 1, 2, 3, 6, 7]),
        (pages(5, 2), [0, 1, 2, 3]),
        (pages(0, 9), []),
        (pages(0, None), []),
        (InvalidatePages(3, Dfn(0), None), EVERY),
    ],
)
@pytest.mark.parametrize("directory", [False, True])
def test_an_invalidation_of_pages_removes_its_range_of_its_domain_id_and_nothing_else(
    execute: Execute, command: InvalidatePages, directory: bool, left: list[int]
) -> None:
    machine = two_domains()
    submit(execute, machine, InvalidatePages(command.domain_id, command.dfn, command.order, directory))
    assert (cached(machine, 1), cached(machine, 2)) == (left, EVERY)
    assert devices_cached(machine) == list(DEVICES)


def test_an_invalidation_of_a_device_entry_removes_that_entry_and_no_translation(execute: Execute) -> None:
    machine = two_domains()
    submit(execute, machine, InvalidateDeviceEntry(machine.devices["00:1f.0"].source_id))
    assert devices_cached(machine) == ["00:1f.1", "00:02.0"]
    assert (cached(machine, 1), cached(machine, 2)) == (EVERY, EVERY)


def test_an_invalidation_of_everything_removes_every_device_entry_and_every_translation(execute: Execute) -> None:
    machine = two_domains()
    submit(execute, machine, InvalidateAll())
    assert devices_cached(machine) == []
    assert (cached(machine, 1), cached(machine, 2)) == ([], [])


def test_an_invalidation_of_a_devices_own_tlb_removes_nothing_here(execute: Execute) -> None:
    machine = two_domains()
    submit(execute, machine, InvalidateDeviceTlb(machine.devices["00:1f.0"].source_id, Dfn(0), None))
    assert devices_cached(machine) == list(DEVICES)
    assert (cached(machine, 1), cached(machine, 2)) == (EVERY, EVERY)
    assert machine.unit.ledger.completed.since(1, G) == 0


def begun(machine: Machine) -> list[int]:
    return [event.step for event in machine.trace.events() if event.name == "invalidate.begin"]


@pytest.mark.parametrize(
    ("command", "counts"),
    [
        (pages(3, 0), [False, True, False]),
        (pages(2, 1), [True, True, False]),
        (pages(0, None), [True, True, False]),
        (InvalidateAll(), [True, True, True]),
        (InvalidateDeviceEntry(0xF8), [False, False, False]),
    ],
)
def test_the_ledger_counts_an_invalidation_of_translations_from_its_start(
    execute: Execute, command: Command, counts: list[bool]
) -> None:
    machine = two_domains()
    submit(execute, machine, command)
    completed, started = machine.unit.ledger.completed, begun(machine)[-1]
    asked = [(1, offset(G, 2)), (1, offset(G, 3)), (2, offset(G, 3))]
    assert [completed.since(tag, dfn) for tag, dfn in asked] == [started if one else 0 for one in counts]


def test_submitting_beginning_removing_and_completing_are_steps_of_their_own(execute: Execute) -> None:
    machine = two_domains()
    submit(execute, machine, pages(3, 0))
    stages = ["queue.post", "queue.fetch", "invalidate.begin", "iotlb.invalidate", "invalidate.complete"]
    found = [next(event.step for event in machine.trace.events() if event.name == stage) for stage in stages]
    assert found == sorted(set(found))


# PDE: cached entries of higher tables


def relinked(directory: bool, order: int | None) -> list[int]:
    """Return the leaves of G that are legal after a CPU has put another table in the place of G's and invalidated it.

    Afterwards the leaf in the table that was taken out is changed: only a cached entry of the higher table leads to it.
    """
    machine = amd_machine(AmdSettings(levels=2))
    domain = machine.domain(1, devices=("00:1f.0",))
    machine.premap(domain, G, machine.allocate())
    above = AMD_FORMAT.entry_address(domain.pgd, G, 2)
    old = AMD_FORMAT.decode(machine.memory.peek(above), 2)
    assert old is not None
    leaf = encode_leaf(frame_address(machine.allocate()), read=True, write=True)
    machine.memory.put(above, encode_table(frame_address(machine.memory.allocate_table()), 1), step=1)
    first = Dfn(0) if order is None else Dfn(G >> order << order)
    machine.unit.ledger.complete(2, 1, first, order, leaf_only=not directory)
    machine.memory.put(AMD_FORMAT.entry_address(old.address, G, 1), leaf, step=3)
    (tables,) = machine.unit.tables_ever(machine.devices["00:1f.0"].source_id)
    return [translation.leaf for translation in machine.unit.ledger.legal(tables, G) if translation.is_present]


@pytest.mark.parametrize("order", [0, 9, None])
def test_a_cached_entry_that_leads_to_a_table_is_dropped_with_pde_alone(order: int | None) -> None:
    assert len(relinked(directory=False, order=order)) == 2, "both leaves that it has led to since"
    assert relinked(directory=True, order=order) == []


@pytest.mark.parametrize("directory", [False, True])
def test_the_engine_tells_the_ledger_whether_pde_was_set(execute: Execute, directory: bool) -> None:
    machine = two_domains()
    submit(execute, machine, pages(0, 0, directory=directory))
    (removal,) = machine.unit.requests.removals
    assert removal.leaf_only is not directory
    assert bool(machine.unit.ledger.completed.drops) is directory


def test_the_status_register_lies_beside_the_ring_and_not_in_it() -> None:
    queue = unit_of(two_domains()).queue
    assert not queue.base <= queue.status < Maddr(queue.base + 16 * queue.entries)
