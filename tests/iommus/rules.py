"""Small programs on hardware of each vendor: a CPU changes tables and invalidates, and a device reads.

The vendors differ in commands and in the names of settings; all else is the same code. What a device reads says which
translation it has used: `OLD` or `NEW`, or None where it was refused.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, NamedTuple

import attrs

from emu.checks.findings import FindingKind
from emu.cpus import Cpu
from emu.devices.device import Device
from emu.engine import Event
from emu.engine.hosts import direct
from emu.hypervisor.fixes import Fix
from emu.hypervisor.tables import TakeTable
from emu.iommus.amd.formats import InvalidatePages
from emu.iommus.smmu.queue import CompleteSync
from emu.iommus.status import WriteStatus
from emu.iommus.vtd.formats import Granularity, IotlbInvalidation
from emu.machine.description import Description
from emu.machine.machine import Machine
from emu.platforms import AMD, SMMU, VTD, Platform
from emu.running.exploration import ScenarioExploration
from emu.running.plan import Plan
from emu.scenarios.expectation import CLEAN
from emu.scenarios.scenario import scenario
from emu.units import Dfn, Maddr, Mfn, address_frame, frame_address, offset
from tests import amd, smmu, vtd
from tests.turns import Order

NIC = "00:1f.0"
G = Dfn(0x200)
NEAR, FAR = offset(G, 1), offset(G, 1 << 9)
"""Pages in the same table of leaves as G, and in the next one."""

OLD, NEW = 0x01D, 0x2E3
"""What the old and the new frame hold."""

UNIT = "the unit"
"""Stands for the name of the unit's agent in turns."""

Program = Callable[[Machine], None]


class Asked(NamedTuple):
    """What an invalidation asks for.

    Attributes:
        order: it covers 2^order pages; None for all pages of the domain.
        leaf_only: table entries may stay.
    """

    dfn: Dfn = G
    order: int | None = 0
    leaf_only: bool = False
    domain: int = 1


async def invalidate_on_vtd(m: Machine, cpu: Cpu, asked: Asked) -> None:
    """Invalidate, with IH set if table entries may stay, and wait."""
    granularity = Granularity.DOMAIN if asked.order is None else Granularity.NARROW
    order, leaf_only = asked.order or 0, asked.leaf_only
    await vtd.settle(m, cpu, IotlbInvalidation(granularity, asked.domain, asked.dfn, order, leaf_only=leaf_only))


async def invalidate_on_smmu(m: Machine, cpu: Cpu, asked: Asked) -> None:
    """Invalidate all that is cached of the domain, whatever range is asked for, and wait."""
    await smmu.settle(m, asked.domain)


async def invalidate_on_amd(m: Machine, cpu: Cpu, asked: Asked) -> None:
    """Invalidate, with PDE set unless table entries may stay, and wait."""
    command = InvalidatePages(asked.domain, asked.dfn, asked.order, directory=not asked.leaf_only)
    await amd.settle(m, cpu, command)


@attrs.frozen
class Vendor:
    """A vendor's hardware.

    Attributes:
        small: settings with which tables are small.
        invalidate: has a CPU invalidate and wait.
        tells: the operation by which a unit tells that invalidations have completed, and its event.
        caching: the setting with which a unit caches non-present entries; empty if none does.
        is_wide: an invalidation drops all that is cached of a domain, and cannot drop less.
    """

    platform: Platform
    small: Mapping[str, int]
    invalidate: Callable[[Machine, Cpu, Asked], Awaitable[None]]
    tells: tuple[type, str]
    caching: str = ""
    is_wide: bool = False

    @property
    def name(self) -> str:
        """The name of its platform."""
        return self.platform.name

    def can_ask(self, asked: Asked | None) -> bool:
        """Whether an invalidation can drop exactly what it asks for."""
        return asked is None or not self.is_wide or (asked.order is None and not asked.leaf_only)

    @property
    def walk_tables(self) -> str:
        """Where its walk finds the walk of page tables."""
        module = "vtd.walk" if self.platform is VTD else "unit_by_tag"
        return f"emu.iommus.{module}.walk_tables"

    def machine(self, program: Program, **settings: Any) -> Machine:
        """Return a machine that is to execute a program."""
        unit = self.platform.settings(**{**self.small, **settings})
        machine = Machine(Description("v1", self.platform, unit, is_checking=True))
        program(machine)
        return machine

    def explored(self, program: Program, **settings: Any) -> "Explored":
        """Return what all executions of a program together show."""
        values = {name: str(value).lower() for name, value in {**self.small, **settings}.items()}

        @scenario(expect=CLEAN, only={self.name: "it is explored on one vendor's units at a time"})
        def small(m: Machine) -> None:
            program(m)

        done, machines = (
            ScenarioExploration(small.bind({"iommu": self.name, **values}), __file__, Plan(sections=False)),
            [],
        )
        for execution in done.each():
            direct.run(execution)
            assert done.machine is not None
            machines.append(done.machine)
        assert done.is_exhausted
        return Explored({cause.kind for cause in done.causes}, machines)


class Explored(NamedTuple):
    """The kinds of findings and the machines of all executions of a program."""

    kinds: set[FindingKind]
    machines: list[Machine]

    @property
    def results(self) -> set[tuple[int | None, ...]]:
        """What the device has read, in each execution."""
        return {tuple(results(m.trace.events())) for m in self.machines}

    @property
    def legal(self) -> set[int | None]:
        """What the ledger allows at the end of some execution."""
        return set().union(*map(legal, self.machines))


WRITES_STATUS = (WriteStatus, "queue.status")

VENDORS = {
    one.name: one
    for one in (
        Vendor(VTD, {"levels": 3}, invalidate_on_vtd, WRITES_STATUS, "caching_mode"),
        Vendor(AMD, {"levels": 2}, invalidate_on_amd, WRITES_STATUS, "np_cache"),
        Vendor(SMMU, {"ipa_bits": 32}, invalidate_on_smmu, (CompleteSync, "queue.complete"), is_wide=True),
    )
}


async def invalidate(m: Machine, cpu: Cpu, asked: Asked) -> None:
    """Have a CPU invalidate and wait, whatever the vendor."""
    await VENDORS[m.description.platform.name].invalidate(m, cpu, asked)


def run(machine: Machine, turns: list[tuple[str, type | None]]) -> list[Event]:
    """Run agents in turns; return the events. Nothing is found."""
    named = [(machine.unit.name if name == UNIT else name, held) for name, held in turns]
    execution = machine.execution(Order(named))
    direct.run(execution)
    assert machine.conclude(execution) == []
    return list(machine.trace.events())


def results(events: Iterable[Event]) -> list[int | None]:
    """Return what the device has read; None where it was refused."""
    return [event.fields.get("value") for event in events if event.name in {"dma.read", "dma.fault"}]


def legal(m: Machine, dfn: Dfn = G) -> set[int | None]:
    """Return what the ledger allows the device to read at a page now."""
    translations = {
        one for tables in m.unit.tables_found(m.devices[NIC].source_id) for one in m.unit.ledger.legal(tables, dfn)
    }
    frames = {one.frame(dfn) for one in translations}
    return {None if frame is None else m.memory.peek(frame_address(frame)) for frame in frames}


def legal_meanwhile(m: Machine) -> list[set[int | None]]:
    """Have CPU 1 ask what the ledger allows; return where its answer will be."""
    answers: list[set[int | None]] = []

    @m.cpu(1)
    async def asker(cpu: Cpu) -> None:
        await cpu.load64(Maddr(0))
        answers.append(legal(m))

    return answers


def frame_with(m: Machine, value: int) -> Mfn:
    """Return a frame that holds a value."""
    frame = m.allocate()
    m.memory.put(frame_address(frame), value)
    return frame


def words(m: Machine, dfn: Dfn = G) -> dict[int, Maddr]:
    """Return where the words of a page lie, by level, down to its leaf or to a word that is not present."""
    format_, domain = m.unit.format, m.domains[1]
    found, table, level = {}, domain.pgd, domain.levels
    while level:
        found[level] = format_.entry_address(table, dfn, level)
        entry = format_.read(m.memory.peek(found[level]), level, dfn)
        if entry is None:
            break
        table, level = entry.address, entry.next_level
    return found


def leading_to_new(m: Machine, level: int) -> int:
    """Return a word of level 1 or 2 that leads G to a frame that holds `NEW`."""
    format_ = m.unit.format
    leaf = format_.encode_leaf(frame_address(frame_with(m, NEW)), read=True, write=True)
    if level == 1:
        return leaf
    table = frame_address(m.memory.allocate_table())
    m.memory.put(format_.entry_address(table, G, 1), leaf)
    return format_.encode_table(table, 1)


def reads(m: Machine, *pages: Dfn) -> None:
    """Have the device read pages."""

    @m.device(NIC)
    async def reader(device: Device) -> None:
        for page in pages:
            await device.read(page)


# The programs


def mapped(m: Machine) -> None:
    """Domain 1 has a device and maps G to a frame that holds `OLD`."""
    m.premap(m.domain(1, devices=(NIC,)), G, frame_with(m, OLD))


def replaced(m: Machine, *, level: int = 1, asked: Asked | None = None) -> None:
    """A CPU replaces G's word of a level, and may invalidate; a device reads G."""
    mapped(m)
    word, new, stored = words(m)[level], leading_to_new(m, level), m.signal("stored")
    reads(m, G)

    @m.cpu(0)
    async def driver(cpu: Cpu) -> None:
        await cpu.store64(word, new)
        await stored.send()
        if asked is not None:
            await invalidate(m, cpu, asked)


def mapped_later(m: Machine, *, neighbour: Dfn, asked: Asked | None = None) -> None:
    """A CPU makes a word of G present, and may invalidate; a device reads G at any time, and again after that."""
    m.premap(m.domain(1, devices=(NIC,)), neighbour, m.allocate())
    (level, word), mapped = min(words(m).items()), m.signal("mapped")
    new = leading_to_new(m, level)

    @m.cpu(0)
    async def driver(cpu: Cpu) -> None:
        await cpu.store64(word, new)
        if asked is not None:
            await invalidate(m, cpu, asked)
        await mapped.send()

    @m.device(NIC)
    async def reader(device: Device) -> None:
        await device.read(G)
        await mapped.wait()
        await device.read(G)


def freed_table(m: Machine, *, asked: Asked | None = None, is_late: bool = False, waits: bool = True) -> None:
    """A CPU cuts G's table of leaves off and frees it; the frame's next owner stores there what leads G to `NEW`.

    The unit has cached the table's entry, because the device has used the page beside G. The device reads G last of
    all, or at any time.

    Args:
        asked: what is invalidated before the table is freed; if `is_late`, after the frame's next owner has stored.
    """
    mapped(m)
    domain = m.domains[1]
    m.premap(domain, NEAR, m.allocate(), cached=True)
    m.premap(domain, FAR, m.allocate())
    above, leaf, new, done = words(m)[2], words(m)[1], leading_to_new(m, 1), m.signal("done")

    @m.cpu(0)
    async def driver(cpu: Cpu) -> None:
        await cpu.store64(above, 0)
        if asked is not None and not is_late:
            await invalidate(m, cpu, asked)
        await TakeTable(domain, address_frame(leaf))
        await m.pages.put(cpu, address_frame(leaf))
        await cpu.store64(leaf, new)
        if asked is not None and is_late:
            await invalidate(m, cpu, asked)
        await done.send()

    @m.device(NIC)
    async def reader(device: Device) -> None:
        if waits:
            await done.wait()
        await device.read(G)


def unmapped(m: Machine) -> None:
    """A CPU unmaps G, which promises that no device uses it any more; a device writes to G."""
    m.driver.fixes |= m.driver.known_fixes & {Fix.HAS_IOMMU}
    domain, frame = m.domain(1, devices=(NIC,)), m.allocate()
    m.premap(domain, G, frame, cached=True)

    @m.cpu(0)
    async def unmapper(cpu: Cpu) -> None:
        if domain.cpu_tlb is None:
            await m.hypervisor.unmap(cpu, domain, G)
        else:  # the wrappers are for the hardware domain alone there
            await m.hypervisor.guest_physmap_remove_page(cpu, domain, G, frame)

    @m.device(NIC)
    async def writer(device: Device) -> None:
        await device.write(G, NEW)
