"""Random programs: what a unit with cached table entries uses is legal in the ledger, whatever is replaced meanwhile.

A CPU stores to the words of tables on three levels, whole tables among them, and invalidates ranges, with and without
the table entries. Two devices access pages all the while. A device that uses what the ledger forbids is a finding.
"""

import random
from collections.abc import Iterator, Sequence
from typing import TypeVar

import attrs
import pytest

from emu.checks.findings import FindingKind
from emu.cpus import Cpu
from emu.devices.device import Device
from emu.engine import Wait
from emu.engine.hosts import direct
from emu.hypervisor.vtd.flush import iommu_flush_cache_entry
from emu.hypervisor.vtd.queue import qinval_update
from emu.iommus.formats import base_of_order
from emu.iommus.invalidation import Range, Remove
from emu.iommus.unit import UnitState
from emu.iommus.vtd.formats import (
    WRITE,
    Granularity,
    IotlbInvalidation,
    WaitDescriptor,
    encode_leaf,
    encode_table,
)
from emu.iommus.vtd.settings import VtdSettings
from emu.machine.description import Description
from emu.machine.machine import Machine
from emu.units import WORD_BYTES, Dfn, Maddr, address_frame, frame_address
from tests.turns import Lagging
from tests.vtd import driver_of

DEVICES = ("00:1f.0", "00:02.0")
PAGES = [Dfn(high << 18 | middle << 9 | low) for high in (0, 1) for middle in (0, 1) for low in (0, 1)]
ORDERS = (0, 1, 9, 10, 18)
PROGRAMS = 60

Item = TypeVar("Item")
Change = tuple[Maddr, int] | IotlbInvalidation


def drawn(machine: Machine, generator: random.Random) -> Iterator[Change]:
    """Fill tables with words, then yield the stores and the invalidations of a CPU."""

    def one_of(items: Sequence[Item]) -> Item:
        return items[int(generator.random() * len(items))]

    def tables(count: int) -> list[Maddr]:
        return [frame_address(machine.memory.allocate_table(1)) for _ in range(count)]

    middles, bottoms, frames = tables(2), tables(3), [frame_address(machine.allocate()) for _ in range(2)]
    leaves = [encode_leaf(frame, read=True, write=bool(number)) for number, frame in enumerate(frames)]
    links, top = [encode_table(one) for one in bottoms], machine.domains[1].pgd
    values = {**dict.fromkeys(bottoms, leaves), **dict.fromkeys(middles, links), top: [*map(encode_table, middles)]}
    words = [Maddr(table + WORD_BYTES * index) for table in values for index in (0, 1)]
    for word in words:
        machine.memory.put(word, one_of(values[frame_address(address_frame(word))]))
    for _ in range(20):
        if generator.random() < 0.6:
            word = one_of(words)
            first, *others = values[frame_address(address_frame(word))]
            yield word, one_of([first, *others, first & ~WRITE, 0])
        else:
            order, page, leaf_only = one_of(ORDERS), one_of(PAGES), generator.random() < 0.4
            yield IotlbInvalidation(Granularity.NARROW, 1, base_of_order(page, order), order, leaf_only=leaf_only)


async def change(cpu: Cpu, machine: Machine, changes: Sequence[Change]) -> None:
    """Make the changes of a CPU, which writes some of its stores back, and waits for some of its invalidations."""
    address = driver_of(machine).poll_slot(cpu)
    for number, one in enumerate(changes, 1):
        if isinstance(one, IotlbInvalidation):
            await qinval_update(cpu, driver_of(machine).iommus[0], one)
            if number % 2:
                done = cpu.memory.latch(address, number)
                await qinval_update(cpu, driver_of(machine).iommus[0], WaitDescriptor(address, number))
                await Wait(done)
        else:
            await cpu.store64(*one)
            if number % 3:
                await iommu_flush_cache_entry(cpu, driver_of(machine), one[0])


async def access(device: Device, accesses: Sequence[tuple[Dfn, bool]]) -> None:
    """Make the accesses of a device."""
    for page, is_write in accesses:
        await (device.write(page, 7) if is_write else device.read(page))


def run(seed: int, **settings: bool) -> tuple[set[FindingKind], int]:
    """Run a random program under a random schedule; return what is found, and how many walks started at an entry."""
    generator = random.Random(seed)
    units = VtdSettings(levels=3, walk_caches=True, iotlb_entries=2, **settings)
    machine = Machine(Description(settings=units, is_checking=True))
    machine.domain(1, devices=DEVICES)
    changes = list(drawn(machine, generator))
    machine.cpu(0).runs(change, machine, changes)
    for bdf in DEVICES:
        accesses = [(PAGES[int(generator.random() * len(PAGES))], generator.random() < 0.5) for _ in range(16)]
        machine.device(bdf).runs(access, accesses)
    execution = machine.execution(Lagging(generator))
    direct.run(execution)
    found = {finding.kind for finding in machine.conclude(execution)}
    starts = [event.fields["chosen"] for event in machine.trace.events() if event.name == "walk.start"]
    return found, sum(map(bool, starts))


SETTINGS = [
    {},
    {"synchronous": True},
    {"walk_at_once": True},
    {"synchronous": True, "walk_at_once": True},
    {"caching_mode": True},
    {"coherent": False},
    {"write_buffer": True},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda one: ",".join(one) or "default")
def test_what_is_used_is_legal(settings: dict[str, bool]) -> None:
    runs = [run(seed, **settings) for seed in range(PROGRAMS)]
    assert {kind for found, _ in runs for kind in found} == set()
    assert sum(starts for _, starts in runs) > PROGRAMS // 4


def test_a_unit_that_never_drops_table_entries_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = Remove.__init__

    def of_leaves(self: Remove, unit: UnitState, covered: Range, start: int) -> None:
        begin(self, unit, attrs.evolve(covered, leaf_only=True), start)

    monkeypatch.setattr(Remove, "__init__", of_leaves)
    assert {kind for seed in range(PROGRAMS) for kind in run(seed)[0]} == {FindingKind.ILLEGAL}
