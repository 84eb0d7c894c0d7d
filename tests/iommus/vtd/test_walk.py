"""Walks in flight while entries are replaced and invalidated: what may fill, and what begins again."""

from collections.abc import Callable, Sequence

import attrs
import pytest

from emu.checks.findings import Finding
from emu.cpus import Cpu
from emu.devices.device import Device
from emu.engine import Agent, Choose, Operation, Wait
from emu.engine.hosts import direct
from emu.hypervisor.vtd.queue import qinval_update
from emu.iommus.iotlb import Fill
from emu.iommus.vtd.formats import (
    VTD_FORMAT,
    Granularity,
    IotlbInvalidation,
    WaitDescriptor,
    decode_pte,
    encode_leaf,
    encode_table,
)
from emu.iommus.vtd.settings import VtdSettings
from emu.iommus.walk import ReadTable
from emu.machine.description import Description
from emu.machine.machine import Machine
from emu.units import Dfn, Maddr, frame_address, offset
from tests.vtd import driver_of

G = Dfn(0x200)
DID = 1


@attrs.define
class HoldBack:
    """Let the device go first, up to an operation that waits until nobody else can go on."""

    holds: Callable[[Operation[object] | None], bool]

    def pick(self, enabled: Sequence[Agent]) -> Agent:
        devices = [agent for agent in enabled if "device" in agent.labels]
        others = [agent for agent in enabled if "device" not in agent.labels]
        return devices[0] if devices and (not others or not self.holds(devices[0].pending)) else others[0]

    def choose(self, choice: Choose) -> int:
        return 0


def fills(operation: Operation[object] | None) -> bool:
    return isinstance(operation, Fill)


def reads_leaf(operation: Operation[object] | None) -> bool:
    return isinstance(operation, ReadTable) and operation.level == 1


@pytest.fixture
def machine() -> Machine:
    """A machine on which G is mapped through three levels."""
    machine = Machine(Description(settings=VtdSettings(levels=3)))
    domain = machine.domain(1, devices=("00:1f.0",))
    machine.premap(domain, G, machine.allocate())
    return machine


def words(machine: Machine) -> tuple[Maddr, Maddr]:
    """Return where G's words of levels 2 and 1 lie."""
    top = decode_pte(machine.memory.peek(VTD_FORMAT.entry_address(machine.domains[1].pgd, G, 3)), 3)
    assert top is not None
    middle = VTD_FORMAT.entry_address(top.address, G, 2)
    table = decode_pte(machine.memory.peek(middle), 2)
    assert table is not None
    return middle, VTD_FORMAT.entry_address(table.address, G, 1)


async def invalidate(machine: Machine, cpu: Cpu, page: Dfn, *, leaf_only: bool = False) -> None:
    """Invalidate one page and wait."""
    iommu, address = driver_of(machine).iommus[0], driver_of(machine).poll_slot(cpu)
    done = cpu.memory.latch(address, 7)
    await qinval_update(cpu, iommu, IotlbInvalidation(Granularity.NARROW, DID, page, leaf_only=leaf_only))
    await qinval_update(cpu, iommu, WaitDescriptor(address, 7))
    await Wait(done)


def outcome(machine: Machine, holds: Callable[[Operation[object] | None], bool]) -> tuple[list[Finding], list[str]]:
    execution = machine.execution(HoldBack(holds))
    direct.run(execution)
    return machine.conclude(execution), [event.name for event in machine.trace.events()]


@pytest.mark.parametrize("leaf_only", [False, True])
def test_a_walk_that_holds_a_replaced_table_entry_begins_again_after_a_neighbour_was_invalidated(
    machine: Machine, leaf_only: bool
) -> None:
    middle, leaf = words(machine)
    new = machine.allocate()

    @machine.cpu(0)
    async def relink(cpu: Cpu) -> None:
        await cpu.store64(middle, encode_table(frame_address(machine.memory.allocate_table())))
        await invalidate(machine, cpu, offset(G, 1), leaf_only=leaf_only)
        await cpu.store64(leaf, encode_leaf(frame_address(new), read=True, write=True))

    @machine.device("00:1f.0")
    async def reader(device: Device) -> None:
        await device.read(G)

    findings, events = outcome(machine, reads_leaf)
    assert findings == []
    assert ("walk.void" in events) is not leaf_only


def test_a_superpage_that_was_replaced_is_not_cached_after_one_of_its_pages_was_invalidated(machine: Machine) -> None:
    middle, _ = words(machine)
    frames = machine.allocate(page_order=9)
    machine.memory.put(middle, encode_leaf(frame_address(frames), read=True, write=True, level=2))

    @machine.cpu(0)
    async def clear(cpu: Cpu) -> None:
        await cpu.store64(middle, 0)
        await invalidate(machine, cpu, offset(G, 5))

    @machine.device("00:1f.0")
    async def reader(device: Device) -> None:
        await device.read(G)
        await device.read(offset(G, 5))

    findings, events = outcome(machine, fills)
    assert findings == []
    assert "walk.void" in events


def test_a_walk_that_read_only_what_is_in_force_goes_on(machine: Machine) -> None:
    @machine.cpu(0)
    async def flush(cpu: Cpu) -> None:
        await invalidate(machine, cpu, G)

    @machine.device("00:1f.0")
    async def reader(device: Device) -> None:
        await device.read(G)

    findings, events = outcome(machine, fills)
    assert findings == []
    assert "walk.void" not in events


def test_completing_an_invalidation_declares_the_table_entries_that_it_drops(machine: Machine) -> None:
    ledger = machine.unit.ledger
    (tables,) = machine.unit.tables_ever(machine.devices["00:1f.0"].source_id)
    middle, leaf = words(machine)
    machine.memory.put(middle, encode_table(frame_address(machine.memory.allocate_table())), step=1)
    machine.memory.put(leaf, encode_leaf(frame_address(machine.allocate()), read=True, write=True), step=3)
    assert list(ledger.old_paths(tables, G, 1))
    read = ledger.objects_read(tables, G, 1)
    ledger.complete(2, DID, offset(G, 1), 0)
    left = [path.translation.leaf for path in ledger.old_paths(tables, G, 1)]
    assert machine.memory.peek(leaf) not in left
    declared = list(ledger.drop_accesses(DID, offset(G, 1), offset(G, 1)))
    assert any(access.covers(space, number) for access in declared for space, number in read)
