"""Which descriptors the seed patch submits for which change of an entry."""

from collections.abc import Callable

import pytest

from emu.checks.findings import Finding
from emu.cpus import Cpu
from emu.hypervisor.ops import READ_WRITE, FlushType, MapFlags
from emu.iommus.vtd.formats import Descriptor, Granularity, IotlbInvalidation, WaitDescriptor, decode_descriptor
from emu.iommus.vtd.settings import VtdSettings
from emu.machine.description import Description
from emu.machine.machine import Machine
from emu.units import WORD_BYTES, Dfn, Mfn
from tests.vtd import driver_of, unit_of

Execute = Callable[[Machine], list[Finding]]

G = Dfn(0x10)
DID = 1
NO_ACCESS = MapFlags(0)

PAGE = IotlbInvalidation(Granularity.NARROW, DID, G, 0)
PAGE_UNDER_DID_0 = IotlbInvalidation(Granularity.NARROW, 0, G, 0)
DOMAIN = IotlbInvalidation(Granularity.DOMAIN, DID)

PRESENT, NOT_PRESENT, NEVER_MAPPED = READ_WRITE, NO_ACCESS, None


def submitted(machine: Machine) -> list[Descriptor | None]:
    """Return the descriptors that lie in the ring, in the order in which they were submitted."""
    queue, memory = unit_of(machine).queue, machine.memory
    words = [queue.slot_address(slot) for slot in range(queue.count)]
    return [decode_descriptor(memory.peek(at) | memory.peek(at + WORD_BYTES) << 64) for at in words]


def described(description: Description, before: MapFlags | None, order: int) -> tuple[Machine, Mfn]:
    machine = Machine(description)
    domain = machine.domain(5, devices=("00:1f.0",))
    old = machine.allocate(page_order=order)
    if before is not None:
        machine.premap(domain, G, old, page_order=order, flags=before)
    return machine, old


@pytest.mark.parametrize("caching_mode", [False, True])
@pytest.mark.parametrize(
    ("before", "is_equal", "order", "expected", "expected_in_caching_mode"),
    [
        (NEVER_MAPPED, False, 0, [], [PAGE_UNDER_DID_0]),
        (NOT_PRESENT, False, 0, [], [PAGE_UNDER_DID_0]),
        (NOT_PRESENT, True, 0, [], []),
        (PRESENT, False, 0, [PAGE], [PAGE]),
        (PRESENT, True, 0, [], []),
        (NEVER_MAPPED, False, 1, [DOMAIN], [DOMAIN]),
        (NOT_PRESENT, False, 1, [DOMAIN], [DOMAIN]),
        (NOT_PRESENT, True, 1, [], []),
        (PRESENT, False, 1, [DOMAIN], [DOMAIN]),
        (PRESENT, True, 1, [], []),
    ],
)
def test_a_map_submits_what_its_changes_require(
    execute: Execute,
    before: MapFlags | None,
    is_equal: bool,
    order: int,
    expected: list[Descriptor],
    expected_in_caching_mode: list[Descriptor],
    caching_mode: bool,
) -> None:
    machine, old = described(Description(settings=VtdSettings(caching_mode=caching_mode)), before, order)
    new = old if is_equal else machine.allocate(page_order=order)
    flags = before if is_equal and before is not None else READ_WRITE

    @machine.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        await machine.hypervisor.map(cpu, machine.domains[5], G, new, page_order=order, flags=flags)

    execute(machine)
    wanted = expected_in_caching_mode if caching_mode else expected
    wait = [WaitDescriptor(driver_of(machine).poll_slot(machine.cpus[0]), 1)]
    assert submitted(machine) == [each for flush in wanted for each in (flush, *wait)]


@pytest.mark.parametrize("caching_mode", [False, True])
@pytest.mark.parametrize("before", [NEVER_MAPPED, NOT_PRESENT, PRESENT])
@pytest.mark.parametrize(("order", "expected"), [(0, PAGE), (1, DOMAIN)])
def test_an_unmap_flushes_whatever_was_there(
    execute: Execute, before: MapFlags | None, order: int, expected: Descriptor, caching_mode: bool
) -> None:
    machine, _ = described(Description(settings=VtdSettings(caching_mode=caching_mode)), before, order)

    @machine.cpu(0)
    async def unmapper(cpu: Cpu) -> None:
        await machine.hypervisor.unmap(cpu, machine.domains[5], G, page_order=order)

    execute(machine)
    assert submitted(machine)[0] == expected
    assert len(submitted(machine)) == 2


def test_a_unit_that_cannot_select_pages_is_asked_for_the_domain(execute: Execute) -> None:
    machine, _ = described(Description(settings=VtdSettings(page_selective=False)), PRESENT, 0)

    @machine.cpu(0)
    async def unmapper(cpu: Cpu) -> None:
        await machine.hypervisor.unmap(cpu, machine.domains[5], G)

    execute(machine)
    assert submitted(machine)[0] == DOMAIN


def test_flush_types_are_ordered_by_what_they_require() -> None:
    assert FlushType.NONE < FlushType.ADDED < FlushType.MODIFIED


def test_one_modified_page_decides_for_the_whole_range_wherever_it_stands(execute: Execute) -> None:
    for modified in (0, 1):
        machine = Machine(Description())
        domain = machine.domain(5, devices=("00:1f.0",))
        frames = machine.allocate(page_order=1)
        for page in range(2):
            frame = machine.allocate() if page == modified else Mfn(frames + page)
            machine.premap(domain, Dfn(G + page), frame)

        @machine.cpu(0)
        async def mapper(cpu: Cpu, machine: Machine = machine, frames: Mfn = frames) -> None:
            await machine.hypervisor.map(cpu, machine.domains[5], G, frames, page_order=1)

        execute(machine)
        assert submitted(machine)[0] == DOMAIN
