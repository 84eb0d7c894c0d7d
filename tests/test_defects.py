"""Each defect of the patch has a scenario that shows it, and a repaired form; or a reason why there is none.

`python -m tests.test_defects` renews docs/defects.md.
"""

from pathlib import Path

import pytest

from emu.hypervisor.revisions.loader import BUNDLED
from emu.reports.defects import page
from emu.scenarios.defects import DEFECTS, Defect
from emu.scenarios.library import find

PAGE = Path(__file__).parent.parent / "docs/defects.md"

SHOWN = [defect for defect in DEFECTS if defect.shows]
EACH = pytest.mark.parametrize("defect", SHOWN, ids=lambda one: one.name)


def test_the_page_is_what_the_scenarios_declare() -> None:
    assert PAGE.read_text() == page()


def test_each_defect_has_its_place() -> None:
    assert [one.name for one in DEFECTS] == [*(f"D{n}" for n in range(1, 25)), *(f"C{n}" for n in range(1, 7))]


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda one: one.name)
def test_a_defect_is_shown_or_has_a_reason(defect: Defect) -> None:
    assert bool(defect.shows) != bool(defect.unseen)


@EACH
def test_a_defect_that_is_shown_shows_in_a_revision_and_not_in_all_of_its_cells_and_revisions(defect: Defect) -> None:
    verdicts = [verdict for _, _, verdicts in defect.verdicts() for verdict in verdicts]
    assert any(verdict not in {"clean", "nothing"} for verdict in verdicts)
    assert any(verdict == "clean" for verdict in verdicts) or defect.name in NEVER_CLEAN


NEVER_CLEAN = {"D20"}
"""Defects of every revision for which Xen has no repair, and no caller a way round."""


@EACH
def test_each_cell_is_one_that_the_tests_execute(defect: Defect) -> None:
    for cell, vendor, verdicts in defect.verdicts():
        scenario = find(cell.scenario)
        asked = {*cell.parameters.split(), f"iommu={vendor}"}
        default = scenario.platforms()[0].name
        cells = [{*one.split(), *(() if "iommu=" in one else (f"iommu={default}",))} for one in scenario.cells]
        assert asked in cells or len(verdicts) != len(BUNDLED), (cell, vendor)


if __name__ == "__main__":
    PAGE.write_text(page())
