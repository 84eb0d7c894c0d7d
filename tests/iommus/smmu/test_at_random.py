"""No unit uses what the ledger does not allow: random stores, invalidations and accesses on two CPUs and two devices.

Tables are linked to each other at random. The other CPU stores to registers: it moves devices from bank to bank, gives
banks other tables and VMIDs, and disables them. The addresses are of both tables at the top.
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
from emu.engine.hosts import direct
from emu.iommus.invalidation import Range, Remove
from emu.iommus.smmu.formats import (
    ACCESS_FLAG,
    CBAR_STAGE_2,
    S2AP_WRITE,
    S2CR_BYPASS,
    S2CR_FAULT,
    S2CR_TRANSLATE,
    encode_leaf,
    encode_table,
)
from emu.iommus.smmu.queue import ALL, SYNC
from emu.iommus.smmu.registers import SCTLR, TTBR0_LOW, StoreRegister
from emu.iommus.smmu.settings import SmmuSettings
from emu.iommus.unit import UnitState
from emu.machine.machine import Machine
from emu.memory import HALF_MASK
from emu.units import PAGE_SIZE, WORD_BYTES, Dfn, Maddr, address_frame, frame_address
from tests.smmu import ask, poll, registers_of, smmu_machine, store, stream_of
from tests.turns import Lagging

DEVICES = ("00:1f.0", "00:02.0")
HIGH, LOW = (0, 1 << 9), (0, 1)
"""Indexes of the tables at the top, one of each, and of the tables below."""

PAGES = [Dfn(high << 18 | middle << 9 | low) for high in HIGH for middle in LOW for low in LOW]
TAGS = (1, 2)
PROGRAMS = 40

Item = TypeVar("Item")
Change = tuple[Maddr, int] | StoreRegister | int
"""A store to a table or a register, or what the TLB is asked for."""


@attrs.define
class Drawn:
    """Draws the changes that CPUs make."""

    machine: Machine
    random: random.Random

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
            to_bottoms, to_middles = ([encode_table(one) for one in tables] for tables in (bottoms, middles))
            roots = (domain.pgd, Maddr(domain.pgd + PAGE_SIZE))
            found |= {**dict.fromkeys(bottoms, leaves), **dict.fromkeys(middles, to_bottoms)}
            found |= dict.fromkeys(roots, to_middles)
        return found

    def words(self, values: dict[Maddr, list[int]]) -> list[Maddr]:
        """Fill tables, and return the addresses of their words: of those at the top one each, of the others two."""
        roots = {root for one in self.machine.domains.values() for root in (one.pgd, Maddr(one.pgd + PAGE_SIZE))}
        words = [Maddr(one + WORD_BYTES * index) for one in values for index in LOW[: 1 if one in roots else 2]]
        for word in words:
            self.machine.memory.put(word, self.one_of(values[frame_address(address_frame(word))]))
        return words

    def invalidation(self) -> int:
        return self.one_of((*TAGS, *TAGS, ALL))

    def of_tables(self, count: int) -> Iterator[Change]:
        """Yield stores to tables, and invalidations."""
        values = self.values()
        words = self.words(values)
        for _ in range(count):
            if self.random.random() < 0.7:
                word = self.one_of(words)
                first, *others = values[frame_address(address_frame(word))]
                yield word, self.one_of([first, *others, first & ~S2AP_WRITE, first & ~ACCESS_FLAG, 0])
            else:
                yield self.invalidation()

    def of_registers(self, count: int) -> Iterator[Change]:
        """Yield stores to registers, and invalidations."""
        machine, registers = self.machine, registers_of(self.machine)
        roots = [domain.pgd & HALF_MASK for domain in machine.domains.values()]
        for _ in range(count):
            if self.random.random() < 0.6:
                stream, bank = stream_of(machine, self.one_of(DEVICES)), self.one_of((0, 1))
                kinds = [S2CR_TRANSLATE | 0, S2CR_TRANSLATE | 1] * 3
                writes = [
                    *[(registers.s2cr(stream), self.one_of([*kinds, S2CR_FAULT, S2CR_BYPASS]))] * 2,
                    (registers.cbar(bank), CBAR_STAGE_2 | self.one_of(TAGS)),
                    (registers.of_bank(bank, TTBR0_LOW), self.one_of(roots)),
                    (registers.of_bank(bank, SCTLR), self.one_of((1, 1, 1, 0))),
                ]
                yield store(machine, *self.one_of(writes))
            else:
                yield self.invalidation()


async def change(cpu: Cpu, machine: Machine, changes: Sequence[Change]) -> None:
    """Make the changes of a CPU, which waits for some of its invalidations."""
    for number, one in enumerate(changes):
        if isinstance(one, tuple):
            await cpu.store64(*one)
        elif isinstance(one, StoreRegister):
            await one
        else:
            await ask(machine, one)
            if number % 2:
                await ask(machine, SYNC)
                await poll(machine)


async def access(device: Device, accesses: Sequence[tuple[Dfn, bool]]) -> None:
    """Make the accesses of a device."""
    for page, is_write in accesses:
        await (device.write(page, 7) if is_write else device.read(page))


def run(seed: int, **settings: bool) -> tuple[set[FindingKind], Counter[str]]:
    """Run a random program under a random schedule; return what is found, and how often what has happened."""
    generator = random.Random(seed)
    machine = smmu_machine(SmmuSettings(iotlb_entries=2, **settings))
    for number, bdf in enumerate(DEVICES, 1):
        machine.domain(number, devices=(bdf,))
    drawn = Drawn(machine, generator)
    for number, changes in enumerate([list(drawn.of_tables(20)), list(drawn.of_registers(12))]):
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
    {"drain": False},
    {"walk_caches": True},
    {"walk_caches": True, "synchronous": True},
    {"walk_caches": True, "synchronous": True, "walk_at_once": True},
    {"walk_caches": True, "drain": False},
    {"coherent": False},
]

HAPPEN = ("iotlb.hit", "dma.read", "dma.write", "dma.fault", "stream.fault", "walk.pass_through", "iotlb.fill")
"""What a property of random programs must have met."""


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda one: ",".join(one) or "default")
def test_what_is_used_is_legal(settings: dict[str, bool]) -> None:
    runs = [run(seed, **settings) for seed in range(PROGRAMS)]
    assert {kind for found, _ in runs for kind in found} == set()
    happened = sum((events for _, events in runs), Counter())
    assert [name for name in HAPPEN if happened[name] < PROGRAMS // 4] == []
    assert happened["walk.void"] >= 4


def test_a_unit_that_never_drops_translations_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = Remove.__init__

    def of_nothing(self: Remove, unit: UnitState, covered: Range, start: int) -> None:
        begin(self, unit, attrs.evolve(covered, tag=3), start)

    monkeypatch.setattr(Remove, "__init__", of_nothing)
    assert {kind for seed in range(PROGRAMS) for kind in run(seed)[0]} == {FindingKind.ILLEGAL}


def test_requests_that_had_to_be_drained_begin_again_where_a_unit_is_synchronous() -> None:
    assert sum((run(seed, synchronous=True)[1] for seed in range(PROGRAMS)), Counter())["dma.again"] > 2
