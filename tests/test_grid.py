"""What each scenario that comes with emu declares of its small form with each setting holds on each revision.

Where a table says that it claims nothing with a setting, it says why. The parameters of the tables themselves, without
settings, are in test_scenarios.py.
"""

import pytest

from emu.platforms import AMD, PLATFORMS, VTD
from emu.running.cells import Cell, grid
from emu.running.exploration import ScenarioExploration
from emu.running.plan import Plan
from emu.running.verdict import Verdict
from emu.scenarios.library import bundled_names, find

STEPS = 50_000

MANY_TRACES = ("domain_id_freed_too_early", "remove_moved_page", "two_wait_for_mapping_lock")
"""Scenarios that are not exhausted in so many steps with some settings; nothing speaks against what they declare."""

WITH_SETTING = [
    cell
    for name in bundled_names()
    for cell in grid([name], {})
    if cell.parameters and cell.parameters[-1] in cell.platform.tried
]


def verdict_of(cell: Cell, revision: str) -> Verdict | None:
    """Return the verdict of an exploration; None where nothing is claimed."""
    bound = cell.bind(revision)
    if bound.expectation.unclaimed:
        assert len(bound.expectation.unclaimed.split()) > 4
        return None
    done = ScenarioExploration(bound, cell.scenario, Plan(steps=STEPS))
    done.on("direct")
    return done.verdict


def holds(cell: Cell, revision: str) -> bool:
    """Whether what is declared was seen, or nothing speaks against it in so many steps."""
    verdict = verdict_of(cell, revision)
    return verdict in {None, Verdict.SHOWN, Verdict.PROVED} or (
        verdict is Verdict.UNDECIDED and cell.scenario in MANY_TRACES
    )


def test_each_scenario_is_tried_with_each_setting_of_each_vendor_that_can_run_it() -> None:
    tried = [(find(name), platform) for name in bundled_names() for platform in PLATFORMS.values()]
    least = sum(len(platform.tried) for scenario, platform in tried if platform in scenario.platforms())
    assert len(WITH_SETTING) >= least > len(VTD.tried) * len(bundled_names())


@pytest.mark.parametrize("setting", [*VTD.tried, *(f"iommu=amd {setting}" for setting in AMD.tried)])
def test_what_a_scenario_declares_with_a_setting_holds(setting: str) -> None:
    assert holds(Cell("free_before_flush", tuple(setting.split())), "merged")


@pytest.mark.long
@pytest.mark.parametrize(
    ("cell", "revision"), [(cell, one) for cell in WITH_SETTING for one in cell.platform.revisions]
)
def test_so_it_does_for_every_cell_of_the_grid(cell: Cell, revision: str) -> None:
    assert holds(cell, revision)
