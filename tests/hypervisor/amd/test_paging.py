"""Growth of an HVM guest's page tables: two fields of the domain, and device table entries rewritten while in use."""

import attrs
import pytest

from emu.checks.findings import Finding
from emu.cpus import Cpu
from emu.engine import Choose, Event, Strategy
from emu.engine.hosts import direct
from emu.engine.strategies.round_robin import RoundRobinStrategy
from emu.errors import ScenarioError
from emu.hypervisor.domain import Domain
from emu.hypervisor.ops import ENOMEM, OK
from emu.iommus.amd.formats import InvalidateDeviceEntry, InvalidatePages, decode_device_entry
from emu.iommus.amd.settings import AmdSettings
from emu.machine.machine import Machine
from emu.units import Dfn, Maddr
from tests.amd import amd_machine, submitted, unit_of

G = Dfn(0x1000)
BEYOND = Dfn(1 << 18)
FAR = Dfn(1 << 30)
NICS = ("00:1f.0", "00:02.0")


def events(machine: Machine, *names: str) -> list[Event]:
    return [event for event in machine.trace.events() if event.name in names]


def guest(revision: str = "v1") -> tuple[Machine, Domain]:
    """Return a machine whose guest has two devices, and a page that they have used."""
    machine = amd_machine(AmdSettings(levels=4), revision=revision)
    domain = machine.domain(1, devices=NICS, is_hvm=True)
    machine.premap(domain, G, machine.allocate(), cached=True)
    machine.domain(2, devices=("00:03.0",))
    return machine, domain


def change(
    machine: Machine, domain: Domain, dfn: Dfn, *, unmap: bool = False, strategy: Strategy | None = None
) -> tuple[int, list[Finding]]:
    """Map or unmap a page; return the result and the findings."""
    results: list[int] = []

    @machine.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        async with cpu.hypercall("memory_op"):
            if unmap:
                results.append(await machine.hypervisor.unmap(cpu, domain, dfn))
            else:
                results.append(await machine.hypervisor.map(cpu, domain, dfn, frame))

    frame = machine.allocate()
    execution = machine.execution(strategy or RoundRobinStrategy())
    direct.run(execution)
    return results[0], machine.conclude(execution)


def test_an_hvm_guest_begins_with_two_levels_whatever_the_setting_is() -> None:
    _, domain = guest()
    assert (domain.levels, domain.most_levels, domain.roots) == (2, 6, [domain.pgd])


@pytest.mark.parametrize("revision", ["implicit", "v1", "merged"])
@pytest.mark.parametrize(("dfn", "levels"), [(BEYOND, 3), (FAR, 4)])
@pytest.mark.parametrize("unmap", [False, True])
def test_a_map_or_an_unmap_beyond_the_reach_lets_the_tables_grow(
    revision: str, dfn: Dfn, levels: int, *, unmap: bool
) -> None:
    machine, domain = guest(revision)
    old = domain.pgd
    assert change(machine, domain, dfn, unmap=unmap) == (OK, [])
    assert (domain.levels, domain.roots[0], len(domain.roots)) == (levels, old, 2)
    for bdf in NICS:
        entry = decode_device_entry(unit_of(machine).device_table.seen(machine.devices[bdf].source_id))
        assert entry is not None
        assert (entry.mode, entry.root, entry.domain_id) == (levels, domain.pgd, 1)


def test_the_old_root_stays_below_the_first_entry_of_the_new_one() -> None:
    machine, domain = guest()
    old = domain.pgd
    change(machine, domain, FAR)
    table = domain.pgd
    for level in (4, 3):
        entry = domain.format.decode(machine.memory.peek(table), level)
        assert entry is not None
        assert entry.next_level == level - 1
        table = entry.address
    assert table == old


def test_the_number_of_levels_is_stored_before_the_root_and_then_the_entry_of_each_device_in_three_parts() -> None:
    machine, domain = guest()
    change(machine, domain, BEYOND)
    names = ("paging.write", "device_entry.write")
    done = [(one.fields.get("field") or one.fields["bdf"], one.fields.get("dword")) for one in events(machine, *names)]
    stores = [(bdf, dword) for bdf in NICS for dword in (2, 1, 0)]
    assert done == [("mode", None), ("root", None), *stores]


def test_each_device_is_flushed_and_then_all_pages_of_the_domain() -> None:
    machine, domain = guest()
    change(machine, domain, BEYOND, unmap=True)
    sources = [machine.devices[bdf].source_id for bdf in NICS]
    devices = [one.device_id for one in submitted(machine) if isinstance(one, InvalidateDeviceEntry)]
    pages = [one for one in submitted(machine) if isinstance(one, InvalidatePages)]
    assert devices == sources
    assert pages[0] == InvalidatePages(1, Dfn(0), None, directory=True)


def test_a_page_within_reach_changes_neither_field() -> None:
    machine, domain = guest()
    change(machine, domain, Dfn(BEYOND - 1))
    assert events(machine, "paging.write", "device_entry.write") == []


@attrs.define
class NoMemory(RoundRobinStrategy):
    """Lets every allocation fail that may."""

    def choose(self, choice: Choose) -> int:
        return choice.count - 1


def test_without_memory_for_a_root_nothing_has_changed_and_the_domain_is_crashed() -> None:
    machine, domain = guest("merged")
    machine.allow_faults(allocations=1)
    assert change(machine, domain, BEYOND, strategy=NoMemory()) == (ENOMEM, [])
    assert events(machine, "fault.inject")
    assert (domain.levels, len(domain.roots), domain.is_crashed) == (2, 1, True)


def test_what_is_mapped_before_the_first_step_must_lie_within_the_first_reach() -> None:
    machine, domain = guest()
    with pytest.raises(ScenarioError, match="beyond the reach"):
        machine.premap(domain, BEYOND, machine.allocate())


def test_no_other_domain_can_grow() -> None:
    machine, _ = guest()
    with pytest.raises(ScenarioError, match="beyond the reach of 4 levels"):
        change(machine, machine.domains[2], Dfn(1 << 36))
    assert Maddr(machine.domains[2].pgd) == machine.domains[2].roots[-1]
