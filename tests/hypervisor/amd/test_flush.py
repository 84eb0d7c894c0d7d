"""Flushes of pages: which units, which command, which order, and that a CPU waits under the lock of the unit."""

from collections.abc import Callable

import pytest

from emu.checks.findings import Finding
from emu.cpus import Cpu
from emu.hypervisor.amd import amd_iommu_flush_all_pages, amd_iommu_flush_pages, flush_range
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import INVALID_DFN
from emu.iommus.amd.formats import CompletionWait, InvalidatePages
from emu.iommus.amd.settings import AmdSettings
from emu.machine.machine import Machine
from emu.units import Dfn
from tests.amd import amd_machine, driver_of, submitted
from tests.events import steps

Execute = Callable[..., list[Finding]]

G = Dfn(0x4_0000)
NIC, FAR = "00:1f.0", "01:00.0"
WAIT = CompletionWait(interrupt=True)


def two_units(*devices: str) -> Machine:
    """Return a machine with two units, on which domain 1 has some devices."""
    machine = amd_machine(AmdSettings(levels=3))
    machine.scope(1, FAR)
    machine.domain(1, devices=devices)
    return machine


def flushed(execute: Execute, machine: Machine, dfn: Dfn, order: int | None) -> list[InvalidatePages]:
    """Have CPU 0 flush pages of domain 1; return what unit 0 was asked for besides waits."""

    @machine.cpu(0)
    async def flusher(cpu: Cpu) -> None:
        await amd_iommu_flush_pages(cpu, driver_of(machine), machine.domains[1], dfn, order)

    assert execute(machine) == []
    return [command for command in submitted(machine) if isinstance(command, InvalidatePages)]


@pytest.mark.parametrize("devices", [(NIC, FAR), (NIC,), ()])
def test_every_unit_is_flushed_whether_the_domain_uses_it_or_not(execute: Execute, devices: tuple[str, ...]) -> None:
    machine = two_units(*devices)
    flushed(execute, machine, G, 0)
    assert submitted(machine, 0) == submitted(machine, 1) == [InvalidatePages(1, G, 0), WAIT]


def test_one_unit_after_the_other_each_under_its_lock_until_its_wait_is_over(execute: Execute) -> None:
    machine = two_units(NIC)
    flushed(execute, machine, G, 0)
    events = list(machine.trace.events())
    locks = [
        (steps(events, f"lock.{verb}", lock=f"amd{number}.lock"))
        for number in (0, 1)
        for verb in ("acquire", "release")
    ]
    done = [steps(events, "flush.done", iommu=f"amd{number}") for number in (0, 1)]
    order = [*locks[0], *done[0], *locks[1], *locks[2], *done[1], *locks[3]]
    assert len(order) == 6
    assert order == sorted(order)


@pytest.mark.parametrize(
    ("dfn", "order", "command"),
    [
        (G + 3, 0, InvalidatePages(1, Dfn(G + 3), 0, directory=False)),
        (G + 3, 9, InvalidatePages(1, G, 9, directory=True)),
        (G + 0x203, 18, InvalidatePages(1, G, 18, directory=True)),
        (G + 3, None, InvalidatePages(1, Dfn(0), None, directory=True)),
    ],
)
def test_one_page_leaves_entries_of_higher_tables_and_ranges_drop_them(
    execute: Execute, dfn: int, order: int | None, command: InvalidatePages
) -> None:
    assert flushed(execute, two_units(NIC), Dfn(dfn), order) == [command]


@pytest.mark.parametrize(
    ("dfn", "order", "command"),
    [
        (G + 3, 0, InvalidatePages(1, Dfn(G + 3), 0)),
        # address bits 19:12 are set, and bit 20 stays as it is
        (G, 9, InvalidatePages(1, G, 9)),
        (G + 0x100, 9, InvalidatePages(1, G, 10)),
        (G, None, InvalidatePages(1, Dfn(0x7_FFFF_FFFF_FFFF), 0)),
    ],
)
def test_until_3a1ba3c2e7_the_size_depends_on_the_address_and_all_pages_are_one_page(
    execute: Execute, dfn: int, order: int | None, command: InvalidatePages
) -> None:
    machine = two_units(NIC)
    machine.driver.fixes.discard(Fix.SIZE)
    assert flushed(execute, machine, Dfn(dfn), order) == [command]


def test_a_flush_of_a_domain_is_a_flush_of_all_its_pages(execute: Execute) -> None:
    machine = two_units(NIC)

    @machine.cpu(0)
    async def flusher(cpu: Cpu) -> None:
        await amd_iommu_flush_all_pages(cpu, driver_of(machine), machine.domains[1])

    assert execute(machine) == []
    expected = [InvalidatePages(1, Dfn(0), None, directory=True), WAIT]
    assert submitted(machine, 0) == submitted(machine, 1) == expected


@pytest.mark.parametrize(
    ("dfn", "page_count", "order"),
    [
        (0, 1, 0),
        (0x1FF, 1, 0),
        (0, 2, 9),
        (0x1FE, 2, 9),
        (0, 0x200, 9),
        (0x1FF, 2, 18),
        (0, 0x201, 18),
        (0x200, 0x200, 9),
        (0x3_FFFF, 2, None),
        (0, 0x4_0000, 18),
        (0, 0x4_0001, None),
        (1, 0x4_0000, None),
        # ranges that are none
        (5, 0, None),
        (INVALID_DFN, 1, None),
        (INVALID_DFN, 0, None),
        (INVALID_DFN - 1, 4, None),
        (INVALID_DFN - 1, 2, None),
        (INVALID_DFN - 1, 1, 0),
    ],
)
def test_a_range_is_flushed_as_one_page_as_one_block_or_as_all_pages(
    dfn: int, page_count: int, order: int | None
) -> None:
    (domain,) = two_units(NIC).domains.values()
    assert flush_range(domain, Dfn(dfn), page_count) == order


def test_a_block_is_as_large_as_the_units_superpages_are() -> None:
    machine = amd_machine(AmdSettings(levels=3, superpage_bits=1))
    domain = machine.domain(1)
    assert [flush_range(domain, Dfn(0), count) for count in (1, 2, 3, 4, 5)] == [0, 1, 2, 2, None]
