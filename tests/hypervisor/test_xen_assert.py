"""With debug_build, an ASSERT of Xen that does not hold is a finding. The seed patch's AMD hook has one."""

from pathlib import Path

import pytest

from emu.checks.findings import Asserted, Finding, FindingKind
from emu.cpus import Cpu
from emu.engine.hosts import direct
from emu.engine.strategies.random import RandomStrategy
from emu.errors import ModelAssertionError
from emu.hypervisor.ops import xen_assert
from emu.machine.machine import Machine
from emu.platforms import AMD as AMD_VI
from emu.reports.findings import sentence
from emu.scenarios.expectation import CLEAN
from emu.scenarios.library import bundled, find
from emu.scenarios.scenario import BoundScenario, scenario
from emu.units import Dfn
from tests.revisions import copy_of

G = Dfn(0x10)
ASSERT = "ASSERT(flush_type == IOMMU_FLUSHTYPE_MODIFIED)"
AMD = {"iommu": "amd", "levels": "2"}
OF_AMD = sorted(name for name, one in bundled().items() if AMD_VI in one.platforms())
"""The scenarios that AMD-Vi can run."""

UNMAP_FLUSH = "domain.ops.iotlb_flush(cpu, domain, dfn, count, FlushType.MODIFIED)"
FLUSH = "domain.ops.iotlb_flush(cpu, domain, dfn, unsigned_int(page_count), FlushType.MODIFIED)"


@scenario(expect=CLEAN, sequential=True)
def unmaps_and_flushes(m: Machine) -> None:
    """A page is unmapped, and its range is flushed."""
    domain = m.domain(1, devices=("00:1f.0",))
    m.premap(domain, G, m.allocate())

    @m.cpu(0)
    async def caller(cpu: Cpu) -> None:
        await m.hypervisor.unmap(cpu, domain, G)
        await m.hypervisor.flush(cpu, domain, G, pages=1)


def run(bound: BoundScenario, seed: int = 0) -> tuple[Machine, list[Finding]]:
    """Execute a scenario on a random schedule; return the machine and what shows."""
    machine = bound.build()
    execution = machine.execution(RandomStrategy.seeded(seed))
    direct.run(execution)
    return machine, machine.conclude(execution)


def changed(folder: Path, old: str) -> str:
    """Return a copy of v1 whose wrappers ask for the flush of a page that was not present, instead of another."""
    return copy_of("v1", folder / "mine", "iommu.py", old, old.replace("MODIFIED", "ADDED"))


@pytest.mark.parametrize("old", [UNMAP_FLUSH, FLUSH])
def test_a_users_revision_that_asks_the_hook_for_another_flush_breaks_the_assertion(tmp_path: Path, old: str) -> None:
    revision = changed(tmp_path, old)
    machine, (finding, *_) = run(unmaps_and_flushes.bind({**AMD, "revision": revision, "debug_build": "true"}))
    assert isinstance(finding, Asserted)
    assert (finding.kind, finding.claim, finding.agent) == (FindingKind.ASSERTION, ASSERT, "cpu0")
    lines = (tmp_path / "mine" / "amd.py").read_text().splitlines()
    line = next(number for number, text in enumerate(lines, 1) if "xen_assert(self" in text)
    assert finding.source == f"amd.py:{line}"
    assert f"(amd.py:{line})" in sentence(finding, machine.trace)


def test_it_names_the_users_own_line_where_the_hooks_are_bundled(tmp_path: Path) -> None:
    revision = Path(changed(tmp_path, FLUSH))
    (revision / "amd.py").write_text("from emu.hypervisor.revisions.v1.amd import AmdIommuOps\n")
    _, (finding, *_) = run(unmaps_and_flushes.bind({**AMD, "revision": str(revision), "debug_build": "true"}))
    assert isinstance(finding, Asserted)
    lines = (revision / "iommu.py").read_text().splitlines()
    assert (
        finding.source
        == f"iommu.py:{next(n for n, text in enumerate(lines, 1) if FLUSH[:60] in text and 'ADDED' in text)}"
    )


@pytest.mark.parametrize("old", [UNMAP_FLUSH, FLUSH])
def test_without_a_debug_build_it_is_not_checked(tmp_path: Path, old: str) -> None:
    _, findings = run(unmaps_and_flushes.bind({**AMD, "revision": changed(tmp_path, old)}))
    assert [finding.kind for finding in findings if isinstance(finding, Asserted)] == []


def test_v1_itself_does_not_break_it() -> None:
    assert run(unmaps_and_flushes.bind({**AMD, "revision": "v1", "debug_build": "true"}))[1] == []


@pytest.mark.parametrize("name", OF_AMD)
def test_no_scenario_makes_the_one_revision_that_asserts_break_its_assertion(name: str) -> None:
    bound = find(name).bind({**AMD, "revision": "v1", "debug_build": "true"})
    for seed in range(3):
        _, findings = run(bound, seed)
        asserted = [finding.claim for finding in findings if isinstance(finding, Asserted)]
        assert [claim for claim in asserted if claim.startswith("ASSERT(")] == []


@pytest.mark.parametrize(("debug_build", "condition"), [(True, True), (False, True), (False, False)])
def test_an_assertion_that_holds_or_is_not_checked_raises_nothing(debug_build: bool, condition: bool) -> None:
    xen_assert(debug_build, condition, "x")


def test_an_assertion_that_does_not_hold_says_its_condition_as_xen_does() -> None:
    with pytest.raises(ModelAssertionError, match=r"^ASSERT\(x > 0\)$"):
        xen_assert(True, False, "x > 0")
