"""Random programs: what an AMD-Vi unit uses is legal in the ledger, whatever is replaced and invalidated meanwhile.

One CPU stores to the words of tables on three levels, whole tables among them, another rewrites device table entries,
and both invalidate, with and without the entries of higher tables, and wait or not. Two devices access pages all the
while. A device that uses what the ledger forbids is a finding.
"""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TypeVar

import attrs
import pytest

from emu.checks.findings import FindingKind
from emu.cpus import Cpu
from emu.devices.device import Device
from emu.engine import Wait
from emu.engine.hosts import direct
from emu.iommus.amd.formats import (
    WRITE,
    Command,
    CompletionWait,
    DeviceTableEntry,
    InvalidateAll,
    InvalidateDeviceEntry,
    InvalidateDeviceTlb,
    InvalidatePages,
    encode_device_entry,
    encode_leaf,
    encode_table,
)
from emu.iommus.amd.settings import AmdSettings
from emu.iommus.formats import base_of_order
from emu.iommus.invalidation import Range, Remove
from emu.iommus.unit import UnitState
from emu.machine.machine import Machine
from emu.units import WORD_BYTES, Dfn, Maddr, address_frame, frame_address
from tests.amd import amd_machine, driver_of, post, status_word, unit_of
from tests.turns import Lagging

DEVICES = ("00:1f.0", "00:02.0")
PAGES = [Dfn(high << 18 | middle << 9 | low) for high in (0, 1) for middle in (0, 1) for low in (0, 1)]
ORDERS = (0, 1, 9, 10, 18, None)
PROGRAMS = 40

Item = TypeVar("Item")
Stores = tuple[tuple[Maddr, int], ...]
Change = Stores | Command


@attrs.define
class Drawn:
    """Draws the changes that CPUs make.

    Attributes:
        tags: the domain ids.
    """

    machine: Machine
    random: random.Random
    tags: tuple[int, ...] = (1, 2)

    def one_of(self, items: Sequence[Item]) -> Item:
        return items[int(self.random.random() * len(items))]

    def tables(self, count: int) -> list[Maddr]:
        return [frame_address(self.machine.memory.allocate_table(1)) for _ in range(count)]

    def values(self) -> dict[Maddr, list[int]]:
        """Return tables of three levels for each domain, each with the values that its words may have."""
        found: dict[Maddr, list[int]] = {}
        for domain in self.machine.domains.values():
            middles, bottoms = self.tables(2), self.tables(2)
            frames = [frame_address(self.machine.allocate()) for _ in range(2)]
            leaves = [encode_leaf(frame, read=True, write=bool(number)) for number, frame in enumerate(frames)]
            links = [encode_table(one, 1) for one in bottoms]
            found |= {**dict.fromkeys(bottoms, leaves), **dict.fromkeys(middles, links)}
            found[domain.pgd] = [*(encode_table(one, 2) for one in middles), encode_table(bottoms[0], 1)]
        return found

    def words(self, values: dict[Maddr, list[int]]) -> list[Maddr]:
        """Fill tables, and return the addresses of their words."""
        words = [Maddr(table + WORD_BYTES * index) for table in values for index in (0, 1)]
        for word in words:
            self.machine.memory.put(word, self.one_of(values[frame_address(address_frame(word))]))
        return words

    def of_tables(self, count: int) -> Iterator[Change]:
        """Yield stores to tables, and invalidations of pages."""
        values = self.values()
        words = self.words(values)
        for _ in range(count):
            if self.random.random() < 0.6:
                word = self.one_of(words)
                first, *others = values[frame_address(address_frame(word))]
                yield ((word, self.one_of([first, *others, first & ~WRITE, 0])),)
            else:
                order, page = self.one_of(ORDERS), self.one_of(PAGES)
                first_page = Dfn(0) if order is None else base_of_order(page, order)
                yield InvalidatePages(self.one_of(self.tags), first_page, order, self.random.random() < 0.6)

    def of_devices(self, count: int) -> Iterator[Change]:
        """Yield stores to device table entries, in one step or in parts, and invalidations of entries."""
        table = unit_of(self.machine).device_table
        roots = [domain.pgd for domain in self.machine.domains.values()]
        for _ in range(count):
            source_id = self.machine.devices[self.one_of(DEVICES)].source_id
            if self.random.random() < 0.5:
                entry = DeviceTableEntry(
                    is_valid=self.random.random() < 0.9,
                    translates=self.random.random() < 0.9,
                    mode=self.one_of((3, 3, 3, 3, 0)),
                    root=self.one_of(roots),
                    write=self.random.random() < 0.8,
                    domain_id=self.one_of(self.tags),
                )
                words = zip(table.words(source_id), encode_device_entry(entry)[:2], strict=False)
                yield tuple((Maddr(address), word) for address, word in words)
            else:
                commands: list[Command] = [InvalidateDeviceEntry(source_id)] * 2
                yield self.one_of([*commands, InvalidateAll(), InvalidateDeviceTlb(source_id, order=None)])


async def change(cpu: Cpu, machine: Machine, changes: Sequence[Change]) -> None:
    """Make the changes of a CPU, which waits for some of its invalidations."""
    lock, address = driver_of(machine).iommus[0].lock, status_word(machine, cpu.number)
    for number, one in enumerate(changes, 1):
        if isinstance(one, tuple):
            for word, value in one:
                await cpu.store64(word, value)
            continue
        async with lock.held(cpu):
            await post(machine, cpu, one)
            if number % 2:
                done = cpu.memory.latch(address, number)
                await post(machine, cpu, CompletionWait(address, number, store=True, flush=number % 4 == 1))
        if number % 2:
            await Wait(done)


async def access(device: Device, accesses: Sequence[tuple[Dfn, bool]]) -> None:
    """Make the accesses of a device."""
    for page, is_write in accesses:
        await (device.write(page, 7) if is_write else device.read(page))


def run(seed: int, **settings: bool) -> tuple[set[FindingKind], Counter[str]]:
    """Run a random program under a random schedule; return what is found, and how often what has happened."""
    generator = random.Random(seed)
    machine = amd_machine(AmdSettings(levels=3, iotlb_entries=2, **settings))
    machine.domain(1, devices=DEVICES)
    machine.domain(2)
    drawn = Drawn(machine, generator)
    for number, changes in enumerate([list(drawn.of_tables(20)), list(drawn.of_devices(10))]):
        machine.cpu(number).runs(change, machine, changes)
    for bdf in DEVICES:
        accesses = [(PAGES[int(generator.random() * len(PAGES))], generator.random() < 0.5) for _ in range(16)]
        machine.device(bdf).runs(access, accesses)
    execution = machine.execution(Lagging(generator))
    direct.run(execution)
    found = {finding.kind for finding in machine.conclude(execution)}
    return found, Counter(event.name for event in machine.trace.events())


SETTINGS = [
    {},
    {"synchronous": True},
    {"walk_at_once": True},
    {"synchronous": True, "walk_at_once": True},
    {"np_cache": True},
    {"walk_caches": True},
    {"walk_caches": True, "synchronous": True},
]

HAPPEN = ("iotlb.hit", "dma.read", "dma.write", "dma.fault", "walk.void", "device_entry.hit", "walk.pass_through")
"""What a property of random programs must have met."""


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda one: ",".join(one) or "default")
def test_what_is_used_is_legal(settings: dict[str, bool]) -> None:
    runs = [run(seed, **settings) for seed in range(PROGRAMS)]
    assert {kind for found, _ in runs for kind in found} == set()
    happened = sum((events for _, events in runs), Counter())
    assert [name for name in HAPPEN if happened[name] < PROGRAMS // 4] == []


def test_accesses_are_drained_before_a_wait_by_both_sorts_of_invalidations() -> None:
    happened = sum((run(seed)[1] for seed in range(PROGRAMS)), Counter())
    assert happened["device_entry.complete"] > 2
    assert sum((run(seed, synchronous=True)[1] for seed in range(PROGRAMS)), Counter())["dma.again"] > 2


def test_a_unit_that_never_drops_translations_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = Remove.__init__

    def of_nothing(self: Remove, unit: UnitState, covered: Range, start: int) -> None:
        begin(self, unit, attrs.evolve(covered, tag=3), start)

    monkeypatch.setattr(Remove, "__init__", of_nothing)
    assert {kind for seed in range(PROGRAMS) for kind in run(seed)[0]} == {FindingKind.ILLEGAL}
