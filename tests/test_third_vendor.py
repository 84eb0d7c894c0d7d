"""A vendor of which nothing in emu knows runs the reference race R1, once its platform is handed in."""

from pathlib import Path

import pytest

from emu.checks.findings import FindingKind, Stale
from emu.errors import ScenarioError
from emu.running.exploration import ScenarioExploration
from emu.running.replay import Replay
from emu.running.run import Run
from emu.running.save import schedule_of_run
from emu.running.verdict import Verdict
from emu.scenarios.library import find
from emu.scenarios.scenario import BoundScenario
from tests.toy import TOY

PLATFORMS = {"toy": TOY}
R1 = "remap_before_flush"


def bound(**parameters: str) -> BoundScenario:
    return find(R1).bind(parameters, PLATFORMS)


def test_a_run_shows_the_race_on_a_device() -> None:
    run = Run(bound(dma="12"), "random", 0, 1000)
    run.on("trio")
    assert run.verdict is Verdict.SHOWN
    assert run.reported is not None
    (finding,) = run.reported.findings
    assert isinstance(finding, Stale)
    assert (finding.unit, finding.dfn, finding.tag) == ("toy0", 0x1000, 1)
    assert finding.use is not None


def test_an_exploration_finds_the_race_and_repeats_it_on_both_hosts() -> None:
    done = ScenarioExploration(bound(), R1)
    done.on("direct")
    assert (done.is_exhausted, done.verdict) == (True, Verdict.SHOWN)
    (cause,) = done.causes.values()
    assert (cause.signature.kind, cause.signature.dfn, cause.signature.unit) == (FindingKind.STALE, 0x1000, "toy0")


@pytest.mark.parametrize("parameters", [{"outer_lock": "across-flush"}, {"repaired": "true"}])
def test_an_exploration_proves_that_the_lock_or_the_order_closes_it(parameters: dict[str, str]) -> None:
    done = ScenarioExploration(bound(**parameters), R1)
    done.on("direct")
    assert done.verdict is Verdict.PROVED


def test_a_saved_schedule_repeats_it(tmp_path: Path) -> None:
    run = Run(bound(), "random", 0, 1000)
    run.on("direct")
    saved = schedule_of_run(run, R1)
    assert saved is not None
    replay = Replay.of(str(saved.write(tmp_path)), None, {}, PLATFORMS)
    assert replay.changes() == []
    again = replay.run("trio")
    assert again.reported is not None
    assert run.reported is not None
    assert again.reported.findings == run.reported.findings
    assert again.bound.platform is TOY


def test_the_settings_of_its_units_are_its_parameters() -> None:
    assert bound(coherent="false").changed() == ["coherent=false"]
    with pytest.raises(ScenarioError, match="no parameter 'caching_mode'"):
        bound(caching_mode="true")


def test_without_its_platform_nobody_knows_it() -> None:
    with pytest.raises(ScenarioError, match="parameter iommu takes one of vtd, amd, smmu, smmuv3, not 'toy'"):
        find(R1).bind({"iommu": "toy"})


def test_a_repair_of_another_vendors_driver_is_refused() -> None:
    repaired = find("map_into_dying_domain").bind({"repaired": "true"}, PLATFORMS)
    with pytest.raises(ScenarioError, match="the driver of toy has nothing that DYING repairs"):
        Run(repaired, "random", 0, 1).on("direct")


def test_a_scenario_of_another_vendor_is_refused_with_the_reason() -> None:
    with pytest.raises(ScenarioError, match="is for vtd only, and cannot be run on toy: on AMD-Vi the id is"):
        find("domain_id_freed_too_early").bind({}, PLATFORMS)
