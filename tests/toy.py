"""A vendor that emu does not know: tables of two levels, units that invalidate at once, a driver and hooks of its own.

A device stands in no table: it has the tables that it was given before the first step.
"""

from collections.abc import Awaitable, Iterable, Mapping
from typing import Any

import attrs

from emu.cpus import Cpu
from emu.devices.device import Device
from emu.engine import Access, Kind, Operation, Space, Trace
from emu.engine.execution import ReadRecorder
from emu.errors import ScenarioError
from emu.hypervisor.domain import Domain
from emu.hypervisor.driver import Driver
from emu.hypervisor.entries import StoreEntry, enter_leaf, leaf_section, read_pte, write_pte
from emu.hypervisor.faults import Faults
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import ENOMEM, OK, FlushType, MapFlags
from emu.iommus.formats import Entry, TableFormat, Translation
from emu.iommus.iotlb import Iotlb, IotlbEntry, Lookup
from emu.iommus.ledger import Ledger
from emu.iommus.paths import Tables
from emu.iommus.requests import Removal, Request, Requests
from emu.iommus.settings import setting
from emu.iommus.status import StatusWatcher
from emu.iommus.unit import Unit
from emu.iommus.walk import walk_tables
from emu.iommus.walk_cache import WalkCache
from emu.memory import TABLE_WORDS, WORDS, Memory
from emu.platforms import VTD, Platform
from emu.units import Dfn, Maddr, Mfn, frame_address

STREAM_BITS = 32


def decode(word: int, level: int) -> Entry | None:
    """Bit 63 says that a word is present, bit 0 that it permits writes; every present word permits reads."""
    return Entry(Maddr(word & 0xFFFF_FFFF_F000), level - 1, 0, True, bool(word & 1)) if word >> 63 else None


def encode_leaf(address: Maddr, *, read: bool, write: bool, level: int = 1) -> int:
    return (read or write) << 63 | address | write


FORMAT = TableFormat((7, 9), (2, 2), (1,), decode, encode_leaf, lambda address, _: 1 << 63 | address | 1)


@attrs.frozen
class Settings:
    coherent: bool = setting(True, "walks snoop the CPUs' caches")
    write_buffer = False
    synchronous = True


class ToyUnit:
    """Its IOTLB is looked up by tag: the devices of a domain share what is cached."""

    def __init__(self, name: str, settings: Settings, memory: Memory, trace: Trace, recorder: ReadRecorder) -> None:
        self.name, self.settings, self.memory, self.trace, self.format = name, settings, memory, trace, FORMAT
        self.sources: list[int] = []
        self.given: dict[int, Tables] = {}
        self.ledger = Ledger(name, memory, FORMAT, recorder=recorder)
        self.iotlb = Iotlb(name, None, FORMAT, user_bits=STREAM_BITS)
        self.requests = Requests(name)
        self.counters = self.iotlb.counters
        self.walk_cache: WalkCache | None = None

    def watch_status(self, watcher: StatusWatcher) -> None:
        pass  # it tells of what it has done by no status word

    def look_up(self, request: Request) -> Awaitable[IotlbEntry | None]:
        request.user = request.tag = self.given[request.source_id].tag
        return Lookup(self.iotlb, request)

    async def walk(self, request: Request) -> IotlbEntry | None:
        request.begin_walk(self.trace.step)
        tables = self.given[request.source_id]
        request.tag = tables.tag
        return await walk_tables(self.memory, FORMAT, request, tables, caches_non_present=False)

    def is_void(self, request: Request) -> bool:
        return self.requests.is_void(request, lambda _, read, step: read.was_replaced(self.memory, step))

    async def run(self) -> None:
        raise NotImplementedError

    def tables_ever(self, source_id: int) -> list[Tables]:
        return [self.given[source_id]]

    def tables_found(self, source_id: int) -> list[Tables]:
        return list(self.given.values())

    def tables_at(self, root: Maddr) -> list[Tables]:
        return list(dict.fromkeys(tables for tables in self.given.values() if tables.root == root))

    def may_refuse(self, source_id: int) -> bool:
        return False

    def lets_through(self, source_id: int) -> bool:
        return False

    def device_reads(self, source_id: int) -> list[tuple[Space, int]]:
        return []


class Invalidate(Operation[None]):
    """Drop one page of a tag, in one step; a request that was translated by it begins again."""

    def __init__(self, unit: ToyUnit, tag: int, dfn: Dfn) -> None:
        self.unit, self.tag, self.dfn = unit, tag, dfn
        self.step = 0

    def accesses(self) -> Iterable[Access]:
        iotlb, ledger, dfn = self.unit.iotlb, self.unit.ledger, self.dfn
        yield Access(WORDS, *TABLE_WORDS, Kind.READ)
        yield iotlb.access(dfn, dfn, Kind.COMMUTE)
        yield from iotlb.void_accesses(dfn, dfn)
        yield ledger.access(self.tag, dfn, dfn, Kind.COMMUTE)
        yield from ledger.drop_accesses(self.tag, dfn, dfn)

    def perform(self, step: int) -> None:
        unit, self.step = self.unit, step
        unit.iotlb.invalidate(self.tag, self.dfn, self.dfn)
        unit.requests.removals.append(Removal(step, self.tag, self.dfn, self.dfn, leaf_only=False, step=step))
        for request in unit.requests.translated(self.tag, self.dfn, self.dfn):
            request.recall()
        unit.ledger.complete(step, self.tag, self.dfn, 0)

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        keys = {"iommu": self.unit.name, "tag": self.tag, "dfn": self.dfn, "page_order": 0, "began": self.step}
        return "invalidate.complete", keys


@attrs.define
class ToyDriver:
    memory: Memory
    units: list[ToyUnit] = attrs.field(factory=list)
    fixes: set[Fix] = attrs.field(factory=set)
    known_fixes: frozenset[Fix] = frozenset()
    debug_build: bool = False

    def add_unit(self, unit: Unit) -> None:
        assert isinstance(unit, ToyUnit)
        self.units.append(unit)

    def add_device(self, device: Device) -> None:
        pass

    def add_domain(self, domain: Domain) -> None:
        domain.levels = domain.most_levels = 2
        domain.enter_root(frame_address(domain.frames.add_table(domain, Dfn(0))))

    def assign(self, domain: Domain, device: Device) -> None:
        self.units[0].given[device.source_id] = Tables(domain.number, domain.pgd, domain.levels)

    def premap(
        self, domain: Domain, dfn: Dfn, mfn: Mfn, flags: MapFlags, users: Iterable[Device], page_order: int = 0
    ) -> None:
        assert page_order == 0
        leaf = encode_leaf(frame_address(mfn), read=True, write=MapFlags.WRITABLE in flags)
        reads = enter_leaf(self.memory, domain, dfn, leaf)
        for _ in users:
            translation = Translation(leaf, 0, True, MapFlags.WRITABLE in flags, frame_address(mfn))
            self.units[0].iotlb.insert(IotlbEntry(domain.number, domain.number, dfn, translation, reads))

    async def attach(self, cpu: Cpu, domain: Domain, device: Device) -> int:
        raise ScenarioError("a toy's devices stay where they are")

    detach = attach

    async def reassign(self, cpu: Cpu, source: Domain, target: Domain, device: Device) -> int:
        raise ScenarioError("a toy's devices stay where they are")

    async def store_entry(self, cpu: Cpu, domain: Domain, dfn: Dfn, level: int, address: Maddr, word: int) -> None:
        await StoreEntry(cpu, domain, dfn, level, address, word)


@attrs.frozen
class ToyOps:
    """They change entries and leave the flush to the wrappers."""

    driver: ToyDriver

    async def change(self, cpu: Cpu, domain: Domain, dfn: Dfn, word: int, mfn: Mfn | None) -> tuple[int, FlushType]:
        async with domain.mapping_lock.held(cpu, leaf_section(cpu, domain, dfn, mfn)):
            address = FORMAT.entry_address(domain.pgd, dfn, 2)
            table = FORMAT.read(
                await cpu.load64(address, "pte.read", domain=domain.number, dfn=dfn, table_level=2), 2, dfn
            )
            if table is None:
                return ENOMEM, FlushType.NONE
            address = FORMAT.entry_address(table.address, dfn, 1)
            old = await read_pte(cpu, domain, dfn, address)
            if old != word:
                await write_pte(cpu, domain, dfn, address, word)
        return OK, FlushType.NONE if decode(old, 1) is None else FlushType.MODIFIED

    async def map_page(self, cpu: Cpu, domain: Domain, dfn: Dfn, mfn: Mfn, flags: MapFlags) -> tuple[int, FlushType]:
        word = encode_leaf(frame_address(mfn), read=True, write=MapFlags.WRITABLE in flags)
        return await self.change(cpu, domain, dfn, word, mfn)

    async def unmap_page(self, cpu: Cpu, domain: Domain, dfn: Dfn) -> tuple[int, FlushType]:
        return await self.change(cpu, domain, dfn, 0, None)

    async def iotlb_flush(self, cpu: Cpu, domain: Domain, dfn: Dfn, page_count: int, flush_type: FlushType) -> int:
        for page in range(page_count if flush_type else 0):
            await Invalidate(self.driver.units[0], domain.number, Dfn(dfn + page))
        return OK

    async def iotlb_flush_all(self, cpu: Cpu, domain: Domain) -> int:
        return await self.iotlb_flush(cpu, domain, Dfn(0), FORMAT.reach(2), FlushType.MODIFIED)


def make_driver(memory: Memory, devices: Mapping[str, Device], faults: Faults) -> ToyDriver:
    return ToyDriver(memory)


def make_ops(driver: Driver) -> ToyOps:
    assert isinstance(driver, ToyDriver)
    return ToyOps(driver)


TOY = Platform(
    "toy",
    Settings,
    ToyUnit,
    make_driver,
    lambda name: attrs.evolve(VTD.load_revision(name), hooks=make_ops),
)
