"""Something tells every wrong patch from the code that it changes."""

from pathlib import Path

import pytest

from emu.running.cells import grid
from tests.mutants.mutant import Mutant
from tests.mutants.mutants import MUTANTS

TOLD = [one for one in MUTANTS if not one.equivalent]

SIX = (
    "merged: unmap reports the last page's type",
    "v1: flush_all before the roll-back",
    "merged: the same frame needs no flush",
    "v1: unmap_page takes no lock",
    "merged: unmap without a write-back",
    "the status word is not reset",
)
"""Those that are tried every time."""


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: one.name)
def test_the_text_that_a_mutant_changes_occurs_once(mutant: Mutant) -> None:
    assert mutant.changed() != mutant.old


def test_each_mutant_has_a_name_of_its_own_and_six_are_tried_every_time() -> None:
    names = [one.name for one in MUTANTS]
    assert len(set(names)) == len(names) >= 60
    assert set(SIX) <= set(names)


@pytest.mark.parametrize(
    "mutant", [one for one in TOLD if one.is_of_a_revision and not one.is_told_by_a_test], ids=lambda one: one.name
)
def test_what_tells_a_wrong_patch_of_a_revision_is_a_cell_that_a_check_executes(mutant: Mutant) -> None:
    assert set(mutant.chosen()) in [set(cell.parameters) for cell in grid([mutant.scenario], {})]


@pytest.mark.parametrize(
    "mutant",
    [pytest.param(one, id=one.name, marks=[] if one.name in SIX else [pytest.mark.long]) for one in TOLD],
)
def test_a_wrong_patch_is_told(mutant: Mutant, tmp_path: Path) -> None:
    assert mutant.differs(tmp_path)
