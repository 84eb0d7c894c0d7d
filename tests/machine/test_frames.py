"""Frames that a scenario names: where they may lie, that nobody else gets them, and how they are judged."""

import pytest

from emu.checks.findings import FindingKind
from emu.cpus import Cpu
from emu.engine.hosts import direct
from emu.engine.strategies.round_robin import RoundRobinStrategy
from emu.errors import ScenarioError
from emu.hypervisor.ops import OK
from emu.machine.description import Description
from emu.machine.machine import Machine
from emu.memory import DATA_FRAMES, NAMED_FRAMES, TABLE_FRAMES
from emu.units import Dfn, Mfn, frame_address
from tests.conftest import Execute

G = Dfn(0x1000)
BELOW_4_GIB, FROM_8_GIB = Mfn(0xFFFFF), Mfn(0x200000)


@pytest.mark.parametrize("mfn", [1, 0xFFFFF, 0x200000, (1 << 28) - 1])
def test_a_frame_below_4_gib_or_from_8_gib_on_may_be_named(mfn: int) -> None:
    assert Machine(Description()).allocate(at=Mfn(mfn)) == mfn


def test_two_frames_may_lie_on_either_side_of_4_gib_and_of_2_to_the_33() -> None:
    machine = Machine(Description())
    low, middle, high = machine.allocate(at=BELOW_4_GIB), machine.allocate(), machine.allocate(at=FROM_8_GIB)
    assert [frame_address(frame) >> 32 for frame in (low, middle, high)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("mfn", "page_order"),
    [
        (0, 0),  # 0 stands for no frame
        (0, 9),
        (TABLE_FRAMES.start, 0),
        (TABLE_FRAMES[-1], 0),
        (DATA_FRAMES.start, 0),
        (DATA_FRAMES[-1], 0),
        (1 << 28, 0),
        (-1, 0),
        (0, 21),  # reaches the tables
        (1 << 27, 28),  # not aligned
    ],
)
def test_no_frame_elsewhere_may_be_named(mfn: int, page_order: int) -> None:
    complaint = "name frames from 0x1 to 0xfffff or 0x200000 to 0xfffffff|is not aligned to page order"
    with pytest.raises(ScenarioError, match=complaint):
        Machine(Description()).allocate(at=Mfn(mfn), page_order=page_order)


def test_the_regions_do_not_overlap() -> None:
    below, above = NAMED_FRAMES
    assert below.stop == TABLE_FRAMES.start < TABLE_FRAMES.stop == DATA_FRAMES.start < DATA_FRAMES.stop == above.start


@pytest.mark.parametrize(
    ("first", "order", "second", "other", "taken"),
    [(0x200, 0, 0x200, 0, 0x200), (0x200, 9, 0x3FF, 0, 0x3FF), (0x3FF, 0, 0x200, 9, 0x3FF)],
)
def test_a_frame_is_given_out_once(first: int, order: int, second: int, other: int, taken: int) -> None:
    machine = Machine(Description())
    machine.allocate(at=Mfn(first), page_order=order)
    with pytest.raises(ScenarioError, match=f"mfn {taken:#x} is allocated already: name another frame"):
        machine.allocate(at=Mfn(second), page_order=other)


def test_the_frames_beside_it_may_be_had() -> None:
    machine = Machine(Description())
    machine.allocate(at=Mfn(0x200), page_order=9)
    assert [machine.allocate(at=Mfn(mfn)) for mfn in (0x1FF, 0x400)] == [0x1FF, 0x400]


def test_what_is_no_frame_or_not_aligned_is_refused() -> None:
    machine = Machine(Description())
    with pytest.raises(ScenarioError, match="mfn '1' is no frame number"):
        machine.allocate(at="1")  # type: ignore[arg-type]  # the mistake that is tested
    with pytest.raises(ScenarioError, match="mfn 0x201 is not aligned to page order 9"):
        machine.allocate(at=Mfn(0x201), page_order=9)


def test_naming_a_frame_leaves_the_others_where_they_were() -> None:
    plain, named = Machine(Description()), Machine(Description())
    named.allocate(at=FROM_8_GIB, page_order=9)
    assert plain.allocate() == named.allocate()


def test_a_named_frame_goes_to_somebody_else_only_after_it_was_freed(execute: Execute) -> None:
    machine = Machine(Description(is_checking=True))
    domain, other = machine.domain(1), machine.domain(2)
    frame = machine.allocate(domain=domain, at=BELOW_4_GIB)
    given: list[Mfn] = []

    @machine.cpu(0)
    async def allocator(cpu: Cpu) -> None:
        given.append(await machine.pages.allocate(cpu, other))
        await machine.pages.put(cpu, frame)
        given.extend([await machine.pages.allocate(cpu, other), await machine.pages.allocate(cpu, other)])

    assert execute(machine) == []
    assert given[0] != frame
    assert given[1] == frame
    assert len(set(given)) == 3


@pytest.mark.parametrize("mfn", [BELOW_4_GIB, FROM_8_GIB])
def test_the_last_word_of_a_named_frame_is_an_ordinary_word(mfn: Mfn) -> None:
    machine = Machine(Description())
    address = frame_address(machine.allocate(at=mfn)) + 0xFF8
    machine.memory.put(address, 7, step=1)
    assert machine.memory.seen(address) == 7
    assert not machine.memory.dirty


@pytest.mark.parametrize("is_flushed", [True, False])
@pytest.mark.parametrize("mfn", [BELOW_4_GIB, FROM_8_GIB])
def test_a_named_frame_that_is_freed_must_be_out_of_reach(is_flushed: bool, mfn: Mfn) -> None:
    machine = Machine(Description(is_checking=True))
    domain = machine.domain(1, devices=("00:1f.0",))
    frame = machine.allocate(domain=domain, at=mfn)
    machine.premap(domain, G, frame, cached=True)

    @machine.cpu(0)
    async def freer(cpu: Cpu) -> None:
        if is_flushed:
            assert await machine.hypervisor.unmap(cpu, domain, G) == OK
        await machine.pages.put(cpu, frame)

    execution = machine.execution(RoundRobinStrategy())
    direct.run(execution)
    assert [one.kind for one in machine.conclude(execution)] == ([] if is_flushed else [FindingKind.RELEASED])


@pytest.mark.parametrize("mfn", [BELOW_4_GIB, FROM_8_GIB])
def test_a_named_frame_of_another_domain_may_not_be_mapped(execute: Execute, mfn: Mfn) -> None:
    machine = Machine(Description(is_checking=True))
    domain, owner = machine.domain(1, devices=("00:1f.0",)), machine.domain(2)
    frame = machine.allocate(domain=owner, at=mfn)

    @machine.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        await machine.hypervisor.map(cpu, domain, G, frame)

    assert [one.kind for one in execute(machine)] == [FindingKind.NOT_ISOLATED]
