"""A revision in which one CPU forgets the mapping lock: an exploration that takes sections in one step must see it."""

import itertools
from pathlib import Path

import pytest

from emu.checks.findings import FindingKind
from emu.checks.signatures import Signature
from emu.cpus import Cpu
from emu.engine.hosts import direct
from emu.machine.machine import Machine
from emu.running.exploration import ScenarioExploration
from emu.running.plan import Plan
from emu.scenarios.expectation import CLEAN
from emu.scenarios.scenario import BoundScenario, scenario
from emu.units import Dfn

PAGE, NEIGHBOUR = Dfn(0x1000), Dfn(0x1001)

WRAPPERS = """
from emu.hypervisor.revisions.merged.iommu import (
    iommu_iotlb_flush,
    iommu_iotlb_flush_all,
    iommu_legacy_map,
    iommu_legacy_unmap,
    iommu_map,
    iommu_unmap,
)
"""

HOOKS = """
import attrs

from emu.hypervisor.ops import OK, FlushType
from emu.hypervisor.revisions.merged import vtd as merged
from emu.hypervisor.vtd import addr_to_dma_page_maddr, iommu_flush_cache_entry, write_pte
from emu.iommus.vtd.formats import encode_leaf
from emu.units import frame_address


@attrs.frozen
class IntelIommuOps(merged.IntelIommuOps):
    async def map_page(self, cpu, domain, dfn, mfn, flags):
        if cpu.number == 0:
            return await merged.IntelIommuOps.map_page(self, cpu, domain, dfn, mfn, flags)
        address = await addr_to_dma_page_maddr(cpu, self.driver, domain, dfn, alloc=True)
        leaf = encode_leaf(frame_address(mfn), read=True, write=True, snoop=self.driver.snoop_control)
        await write_pte(cpu, domain, dfn, address, leaf)
        await iommu_flush_cache_entry(cpu, self.driver, address)
        return OK, FlushType.MODIFIED
"""


def two_mappers(m: Machine) -> None:
    """Two CPUs map one page to different frames."""
    domain = m.domain(1, devices=("00:1f.0",))
    m.premap(domain, NEIGHBOUR, m.allocate())
    frames = m.allocate(), m.allocate()

    async def mapper(cpu: Cpu) -> None:
        await m.hypervisor.map(cpu, domain, PAGE, frames[cpu.number])

    for number in (0, 1):
        m.cpu(number).runs(mapper)


def explored(bound: BoundScenario, *, sections: bool) -> ScenarioExploration:
    done = ScenarioExploration(bound, "two_mappers", Plan(sections=sections))
    for execution in done.each():
        direct.run(execution)
    return done


def shown(done: ScenarioExploration) -> dict[Signature, int]:
    """Return in how many executions each signature is."""
    return {signature: cause.executions for signature, cause in done.causes.items()}


@pytest.mark.parametrize("settings", list(itertools.product(["true", "false"], repeat=3)), ids="-".join)
def test_a_lock_that_one_cpu_forgets_is_taken_step_by_step(tmp_path: Path, settings: tuple[str, ...]) -> None:
    (tmp_path / "iommu.py").write_text(WRAPPERS)
    (tmp_path / "vtd.py").write_text(HOOKS)
    hardware = dict(zip(("coherent", "write_buffer", "synchronous"), settings, strict=True))
    bound = scenario(expect=CLEAN)(two_mappers).bind({"revision": str(tmp_path), **hardware})
    short, stepwise = explored(bound, sections=True), explored(bound, sections=False)
    assert {signature.kind for signature in short.causes} == {FindingKind.STALE}
    assert (short.done, shown(short)) == (stepwise.done, shown(stepwise))
    assert short.coverage.short_locks == []


@pytest.mark.parametrize("setting", ["write_buffer=true", "write_buffer=false", "synchronous=true"])
def test_a_lock_that_no_cpu_forgets_is_taken_in_one_step(setting: str) -> None:
    bound = scenario(expect=CLEAN)(two_mappers).bind({"revision": "merged", **dict([setting.split("=")])})
    short, stepwise = explored(bound, sections=True), explored(bound, sections=False)
    assert shown(short) == shown(stepwise)
    assert short.done <= stepwise.done
    assert len(short.coverage.short_locks) == 1
