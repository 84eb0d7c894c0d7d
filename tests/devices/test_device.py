"""DMA: lookup, walk, fill, access; faults and permissions."""

from collections.abc import Callable, Sequence

import pytest

from emu.checks.findings import Finding
from emu.cpus import Cpu
from emu.devices.device import Device
from emu.engine import Agent, Strategy
from emu.engine.hosts import direct
from emu.engine.strategies.random import RandomStrategy
from emu.engine.strategies.round_robin import RoundRobinStrategy
from emu.errors import ModelError
from emu.hypervisor.ops import READ_WRITE, MapFlags
from emu.iommus.vtd.formats import VTD_FORMAT, decode_pte, encode_leaf
from emu.iommus.vtd.settings import VtdSettings
from emu.machine.description import Description
from emu.machine.machine import Machine
from emu.memory import Memory
from emu.units import Dfn, Maddr, frame_address, offset
from tests.events import steps
from tests.vtd import unit_of

Execute = Callable[..., list[Finding]]

G = Dfn(0x200)


def run(execute: Execute, machine: Machine, *accesses: tuple[str, Dfn]) -> list[object]:
    """Have the device make accesses one after the other and return what each gave."""
    results: list[object] = []

    @machine.device("00:1f.0")
    async def device(device: Device) -> None:
        for access, dfn in accesses:
            results.append(await (device.read(dfn) if access == "read" else device.write(dfn, 0xABC)))

    assert execute(machine) == []
    return results


def mapped(flags: MapFlags = READ_WRITE, levels: int = 4, iotlb_entries: int | None = None) -> Machine:
    machine = Machine(Description(settings=VtdSettings(levels=levels, iotlb_entries=iotlb_entries or 0)))
    domain = machine.domain(1, devices=("00:1f.0",))
    machine.premap(domain, G, machine.allocate(page_order=2), page_order=2, flags=flags)
    return machine


def events(machine: Machine) -> list[str]:
    return [event.name for event in machine.trace.events()]


@pytest.mark.parametrize("levels", [3, 4])
def test_a_first_access_walks_one_step_a_level_and_a_second_one_hits(execute: Execute, levels: int) -> None:
    machine = mapped(levels=levels)
    run(execute, machine, ("read", G), ("read", G))
    walk = ["iotlb.miss", "context.miss", "walk.root", "walk.context", "context.fill", *["walk.read"] * levels]
    assert events(machine) == [*walk, "iotlb.fill", "dma.read", "iotlb.hit", "dma.read"]


def test_another_page_of_the_device_finds_its_context_cached(execute: Execute) -> None:
    machine = mapped()
    run(execute, machine, ("read", G), ("read", offset(G, 1)))
    assert events(machine).count("walk.context") == 1
    assert events(machine).count("context.hit") == 1


def test_what_a_device_writes_it_reads_back(execute: Execute) -> None:
    machine = mapped()
    assert run(execute, machine, ("read", G), ("write", G), ("read", G)) == [0, True, 0xABC]


@pytest.mark.parametrize(
    ("flags", "results"),
    [
        (MapFlags.READABLE, [0, False]),
        (MapFlags.WRITABLE, [None, True]),
        (MapFlags(0), [None, False]),
    ],
)
def test_an_access_that_is_not_permitted_faults(execute: Execute, flags: MapFlags, results: list[object]) -> None:
    machine = mapped(flags)
    assert run(execute, machine, ("read", G), ("write", G)) == results
    assert "dma.fault" in events(machine)


def test_a_page_that_is_not_mapped_faults_and_is_not_cached(execute: Execute) -> None:
    machine = mapped()
    assert run(execute, machine, ("read", Dfn(0x9999))) == [None]
    assert len(machine.unit.iotlb) == 0


def test_a_device_without_a_context_entry_faults(execute: Execute) -> None:
    machine = mapped()
    root_table = unit_of(machine).contexts.root_table
    machine.memory.put(root_table, 0)
    assert run(execute, machine, ("read", G)) == [None]


def test_a_full_iotlb_evicts_what_the_strategy_chooses(execute: Execute) -> None:
    machine = mapped(iotlb_entries=2)
    run(execute, machine, *(("read", offset(G, page)) for page in range(3)))
    assert len(machine.unit.iotlb) == 2
    filled = [event.fields for event in machine.trace.events() if event.name == "iotlb.fill"]
    assert [keys.get("evicted_dfn") for keys in filled] == [None, None, G]


def leaf_address(memory: Memory, machine: Machine, level: int) -> Maddr:
    """Return where the word of G's table of a level lies."""
    (tables,) = machine.unit.tables_ever(machine.devices["00:1f.0"].source_id)
    table = tables.root
    for above in range(tables.levels, level, -1):
        entry = decode_pte(memory.peek(VTD_FORMAT.entry_address(table, G, above)), above)
        assert entry is not None
        table = entry.address
    return VTD_FORMAT.entry_address(table, G, level)


@pytest.mark.parametrize("level", [2, 3])
def test_a_superpage_is_cached_once_for_all_its_pages(execute: Execute, level: int) -> None:
    machine = mapped()
    frames = machine.allocate(page_order=9 * (level - 1))
    address = leaf_address(machine.memory, machine, level)
    machine.memory.put(address, encode_leaf(frame_address(frames), read=True, write=True, level=level))
    base = VTD_FORMAT.base(G, level)
    run(execute, machine, ("read", base), ("read", offset(base, 300)))
    reads = [event.fields["mfn"] for event in machine.trace.events() if event.name == "dma.read"]
    assert reads == [frames, frames + 300]
    assert len(machine.unit.iotlb) == 1


class SlowRootComplex(RoundRobinStrategy):
    """Lets the root complex go on only where nobody else can."""

    def pick(self, enabled: Sequence[Agent]) -> Agent:
        return ([agent for agent in enabled if "root complex" not in agent.name] or list(enabled))[0]


def posting(by: int | Strategy, *, read: bool = False, drain: bool = True) -> Machine:
    """Return a machine whose device has posted two writes and gone on, while a CPU unmapped and flushed the pages."""
    machine = Machine(Description(settings=VtdSettings(drain=drain)))
    domain = machine.domain(1, devices=("00:1f.0",))
    machine.premap(domain, G, machine.allocate(page_order=1), page_order=1, cached=True)
    machine.premap(domain, offset(G, 2), machine.allocate(), cached=True)

    @machine.device("00:1f.0", posts=True)
    async def device(device: Device) -> None:
        await device.post(G, 1)
        await device.post(offset(G, 1), 2)
        if read:
            await device.read(offset(G, 2))

    @machine.cpu(0)
    async def unmapper(cpu: Cpu) -> None:
        await machine.hypervisor.unmap(cpu, domain, G, page_order=1)

    direct.run(machine.execution(RandomStrategy.seeded(by) if isinstance(by, int) else by))
    return machine


def test_a_device_goes_on_while_the_root_complex_holds_its_writes() -> None:
    held = 0
    for seed in range(40):
        machine = posting(seed)
        posted, written = steps(machine.trace.events(), "dma.post"), steps(machine.trace.events(), "dma.write")
        assert len(posted) == 2
        held += bool(written) and posted[1] < written[0]
    assert held > 5


def test_posted_writes_are_committed_in_order() -> None:
    for seed in range(40):
        values = [one.fields["value"] for one in posting(seed).trace.events() if one.name == "dma.write"]
        assert values == sorted(values)


def test_a_read_pushes_posted_writes_out() -> None:
    for seed in range(40):
        machine = posting(seed, read=True)
        done = [*steps(machine.trace.events(), "dma.write"), *steps(machine.trace.events(), "dma.fault")]
        assert len(done) == 2
        assert max(done) < steps(machine.trace.events(), "dma.read")[0]


@pytest.mark.parametrize("drain", [True, False])
def test_an_invalidation_that_drains_waits_for_the_root_complex(drain: bool) -> None:
    machine = posting(SlowRootComplex(), drain=drain)
    (completed,) = steps(machine.trace.events(), "invalidate.complete")
    assert [step < completed for step in steps(machine.trace.events(), "dma.write")] == [drain, drain]


def test_a_write_can_only_be_posted_where_something_commits_it() -> None:
    machine = mapped()

    @machine.device("00:1f.0")
    async def device(device: Device) -> None:
        await device.post(G, 1)

    with pytest.raises(ModelError, match=r'00:1f\.0 posts writes: say so, @m\.device\("00:1f\.0", posts=True\)'):
        direct.run(machine.execution(RandomStrategy.seeded(0)))
