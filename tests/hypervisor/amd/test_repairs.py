"""Repairs of the AMD-Vi driver: a wait that is never given up, and tables of a dying domain that nobody changes."""

import pytest

from emu.checks.findings import FindingKind
from emu.cpus import Cpu
from emu.hypervisor.fixes import Fix
from emu.machine.machine import Machine
from emu.running.exploration import ScenarioExploration
from emu.scenarios.expectation import CLEAN
from emu.scenarios.scenario import scenario
from emu.units import Dfn

G = Dfn(0x1000)
BEYOND = Dfn(1 << 20)
"""A page that two levels of tables do not reach."""


def kinds(*fixes: Fix, **parameters: str) -> set[FindingKind]:
    """Return what a CPU's unmap shows with a ring of two slots."""

    @scenario(expect=CLEAN, sequential=True)
    def unmapped(m: Machine) -> None:
        m.driver.fixes.update(fixes)
        domain = m.domain(1, devices=("00:1f.0",))
        m.premap(domain, G, m.allocate(), cached=True)

        @m.cpu(0)
        async def unmapper(cpu: Cpu) -> None:
            await m.hypervisor.unmap(cpu, domain, G)

    done = ScenarioExploration(unmapped.bind({"iommu": "amd", "queue_entries": "2", **parameters}), __file__)
    done.on("direct")
    return {one.kind for one in done.causes}


def test_a_cpu_that_waits_for_ever_for_a_wait_that_was_dropped_never_goes_on() -> None:
    assert kinds() == {FindingKind.STALE}
    assert kinds(Fix.RING_ROOM) == set()
    assert kinds(Fix.RING_ROOM, Fix.WAIT_FOR_EVER) == set()
    assert kinds(Fix.WAIT_FOR_EVER) == {FindingKind.DEADLOCK}


def test_with_the_repair_no_wait_is_given_up() -> None:
    assert kinds(Fix.RING_ROOM, wait_faults="1") == {FindingKind.STALE}
    assert kinds(Fix.RING_ROOM, Fix.WAIT_FOR_EVER, wait_faults="1") == set()


@pytest.mark.parametrize("call", ["map", "unmap"])
def test_the_tables_of_a_dying_guest_neither_grow_nor_change(call: str) -> None:
    @scenario(expect=CLEAN, sequential=True)
    def dying(m: Machine) -> None:
        m.driver.fixes.add(Fix.DYING)
        domain, frame = m.domain(1, is_hvm=True), m.allocate()

        @m.cpu(0)
        async def toolstack(cpu: Cpu) -> None:
            await m.tables.free_all(cpu, domain)
            for dfn in (G, BEYOND):
                if call == "map":
                    assert await m.hypervisor.map(cpu, domain, dfn, frame) == 0
                else:
                    assert await m.hypervisor.unmap(cpu, domain, dfn) == 0
            assert not domain.tables

    done = ScenarioExploration(dying.bind({"iommu": "amd", "revision": "merged"}), __file__)
    done.on("direct")
    assert done.is_exhausted
    assert not done.causes
