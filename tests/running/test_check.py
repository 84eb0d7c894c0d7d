"""Comparing a revision with a base: findings that are new, gone, unchanged or undecided, and mistakes."""

import inspect
import os
from pathlib import Path

import attrs
import pytest

from emu.checks.findings import Finding
from emu.engine import Trace
from emu.errors import ScenarioError, printable
from emu.hypervisor.revisions.loader import BUNDLED, load_folder
from emu.memory import FIRST_TABLE_FRAME
from emu.platforms import AMD, VTD
from emu.reports.check import CheckReport
from emu.reports.findings import sentence
from emu.running.cells import Cell, CellResult, Job, Shown, evaluate, grid, left_out, not_in_earlier, without_functions
from emu.running.check import DIED, Change, Check, Compared, run_all
from emu.running.earlier import FORMAT, read_earlier
from emu.scenarios.library import bundled_names, find
from tests.revisions import copy_of

CELL = Cell("unmap_fails_halfway")
BUDGET = 50_000
STALE, LOST = Shown("stale", (1, 0x10), "a stale one", 1), Shown("lost-error", (1, 0x10), "a lost one", 1)
ELSEWHERE = Shown("stale", (1, 0x11), "another one", 1)


def side(*, is_exhausted: bool = True, **shown: Shown) -> CellResult:
    return CellResult(is_exhausted, 1, 1, shown)


def changes(base: CellResult, ours: CellResult) -> list[tuple[Change, str]]:
    return [(one.change, one.signature) for one in Compared(CELL, base, ours).differences()]


def test_a_finding_of_the_revision_alone_is_new_if_the_base_was_executed_to_the_end() -> None:
    assert changes(side(), side(a=STALE)) == [(Change.NEW, "a")]
    assert changes(side(is_exhausted=False), side(a=STALE)) == [(Change.UNDECIDED, "a")]
    assert changes(side(), side(a=STALE, is_exhausted=False)) == [(Change.NEW, "a")]


def test_a_finding_of_the_base_alone_is_gone_if_the_revision_was_executed_to_the_end() -> None:
    assert changes(side(a=STALE), side()) == [(Change.GONE, "a")]
    assert changes(side(a=STALE), side(is_exhausted=False)) == [(Change.UNDECIDED, "a")]
    assert changes(side(a=STALE, is_exhausted=False), side()) == [(Change.GONE, "a")]


def test_a_finding_of_both_is_unchanged_however_far_they_were_executed() -> None:
    assert changes(side(a=STALE), side(a=STALE)) == [(Change.UNCHANGED, "a")]
    assert changes(side(a=STALE, is_exhausted=False), side(a=STALE, is_exhausted=False)) == [(Change.UNCHANGED, "a")]


@pytest.mark.parametrize(("base", "ours"), [(True, False), (False, True), (False, False)])
def test_where_neither_shows_anything_both_must_have_been_executed_to_the_end(base: bool, ours: bool) -> None:
    assert changes(side(is_exhausted=base), side(is_exhausted=ours)) == [(Change.UNDECIDED, "")]
    assert changes(side(), side()) == []


def test_a_new_finding_of_a_page_is_told_with_the_findings_gone_from_the_page_and_counts_as_new() -> None:
    (one,) = Compared(CELL, side(a=LOST), side(b=STALE)).differences()
    assert (one.change, one.signature, one.instead_of) == (Change.NEW, "b", (LOST,))
    assert changes(side(a=ELSEWHERE), side(b=STALE)) == [(Change.NEW, "b"), (Change.GONE, "a")]


def test_a_mistake_breaks_unless_the_base_makes_the_same() -> None:
    broken = CellResult(problem="it raised")
    assert changes(side(a=STALE), broken) == [(Change.BREAKS, "")]
    assert changes(broken, broken) == [(Change.UNDECIDED, "")]
    assert changes(broken, CellResult(problem="it raised at another step")) == [(Change.UNDECIDED, "")]


def test_the_grid_is_the_cells_of_the_table_and_each_setting_with_the_small_form() -> None:
    cells = list(map(str, grid(["move_more_than_fit"], {})))
    first = cells.index("move_more_than_fit iommu=amd")
    assert cells[first - len(VTD.tried) : first] == [f"move_more_than_fit slots=1 {one}" for one in VTD.tried]
    assert cells[-len(AMD.tried) :] == [f"move_more_than_fit iommu=amd slots=1 {one}" for one in AMD.tried]
    assert str(next(grid(["remap_before_flush"], {}))) == "remap_before_flush"


def test_a_vendor_that_the_user_names_is_the_only_one() -> None:
    both, amd = (list(map(str, grid(["free_before_flush"], one))) for one in ({}, {"iommu": ["amd"]}))
    assert amd == [f"{one.replace(' iommu=amd', '')} iommu=amd" for one in both if "iommu=amd" in one]
    assert list(grid(["domain_id_freed_too_early"], {"iommu": ["amd"]})) == []
    with pytest.raises(ScenarioError, match="iommu takes one of vtd, amd, smmu, smmuv3, not 'gart'"):
        list(grid(["free_before_flush"], {"iommu": ["gart"]}))


def test_a_setting_that_the_user_names_is_tried_on_the_vendors_that_have_it() -> None:
    for setting, vendor in (("np_cache", "amd"), ("drain", "vtd")):
        cells = list(grid(["free_before_flush"], {setting: ["true"]}))
        assert {cell.platform.name for cell in cells} == {vendor}


@pytest.mark.parametrize(("file", "vendor"), [("amd.py", "amd"), ("vtd.py", "vtd")])
def test_the_cells_of_a_vendor_whose_hooks_a_revision_lacks_are_left_out_and_said(
    file: str, vendor: str, tmp_path: Path
) -> None:
    copy, cells = copy_of("merged", tmp_path / "copy"), list(grid(["flag_left_set"], {}))
    assert list(left_out(cells, copy)) == list(left_out(cells, "merged")) == []
    (tmp_path / "copy" / file).unlink()
    (without,) = left_out(cells, copy)
    assert without.cells == {cell for cell in cells if cell.platform.name == vendor}
    check = Check(copy, "merged", [CELL], sentence, left_out=[without])
    assert f"left out: {len(without.cells)} cells of {vendor}, because there is no {copy}/{file}" in (
        CheckReport(check).summary()
    )
    assert list(left_out(list(without.cells), copy)) == []


def test_so_are_the_cells_of_a_vendor_of_which_an_earlier_result_has_none() -> None:
    cells = list(grid(["flag_left_set"], {}))
    (without,) = not_in_earlier(cells, {"flag_left_set": 1}, "earlier.json")
    assert (without.of, without.lacks) == ("amd", "none in earlier.json")
    assert list(not_in_earlier(cells, {"flag_left_set": 1, "flag_left_set iommu=amd": 1}, "earlier.json")) == []
    assert list(not_in_earlier(cells, {}, "earlier.json")) == []


def test_so_are_the_cells_of_a_scenario_that_needs_a_function_which_a_revision_lacks(tmp_path: Path) -> None:
    copy, cells = copy_of("merged", tmp_path / "copy"), list(grid(["softirq_in_hwdom_init", "flag_left_set"], {}))
    assert list(without_functions(cells, copy)) == list(without_functions(cells, "merged")) == []
    (tmp_path / "copy" / "x86.py").unlink()
    load_folder.cache_clear()
    (without,) = without_functions(cells, copy)
    assert without.cells == {cell for cell in cells if cell.scenario == "softirq_in_hwdom_init"}
    assert (without.of, without.lacks) == ("softirq_in_hwdom_init", f"no arch_iommu_hwdom_init in {copy}")


CALLS = {
    "hwdom_init": {"iommu_hwdom_init", "arch_iommu_hwdom_init"},
    "arch_hwdom_init": {"arch_iommu_hwdom_init"},
    "populate": {"arch_iommu_populate_page_table"},
    "reserve_unity_map": {"amd_iommu_reserve_domain_unity_map"},
}
"""The functions that a revision may lack, by the calls that need them."""


@pytest.mark.parametrize("name", bundled_names())
def test_a_scenario_says_which_of_these_functions_it_needs(name: str) -> None:
    source = inspect.getsource(inspect.getmodule(find(name).build) or find(name).build)
    needed = {one for call, names in CALLS.items() if f"m.hypervisor.{call}(" in source for one in names}
    assert set(find(name).needs) == needed


def test_values_that_the_user_names_replace_those_of_the_cells_in_all_combinations() -> None:
    cells = list(map(str, grid(["free_before_flush"], {"repaired": ["true"], "coherent": ["true", "false"]})))
    assert cells[:2] == [
        "free_before_flush repaired=true coherent=true",
        "free_before_flush repaired=true coherent=false",
    ]
    assert len(cells) == len(set(cells))
    assert not any("coherent=false coherent" in cell for cell in cells)


def checked(revision: str, base: str, scenarios: list[str], processes: int = 0) -> Check:
    check = Check(revision, base, list(grid(scenarios, {})), sentence)
    check.on(processes)
    return check


@pytest.mark.parametrize("base", BUNDLED)
def test_a_copy_with_a_comment_has_the_findings_of_the_original(base: str, tmp_path: Path) -> None:
    copy = copy_of(base, tmp_path / "copy")
    wrappers = tmp_path / "copy" / "iommu.py"
    wrappers.write_text(f"# mine\n{wrappers.read_text()}")
    check = checked(copy, base, ["flag_left_set", "unmap_fails_halfway", "map_dma_unmap_dma"])
    assert {one.change for one in check.differences} == {Change.UNCHANGED}
    assert not check.is_worse
    assert not check.is_undecided


KEEPS_NO_ERROR = (
    "iommu.py",
    "        result = result or error\n    return result\n\n\nasync def iommu_iotlb_flush(",
    "        result = error\n    return result\n\n\nasync def iommu_iotlb_flush(",
)
"""The result of the flush of an unmap takes the place of its own."""


def test_a_lost_error_is_new_and_the_way_back_is_gone(tmp_path: Path) -> None:
    copy = copy_of("merged", tmp_path / "copy", *KEEPS_NO_ERROR)
    worse, better = checked(copy, "merged", [CELL.scenario]), checked("merged", copy, [CELL.scenario])
    assert worse.is_worse
    assert {one.change for one in worse.differences if one.cell == CELL} == {Change.NEW}
    assert not better.is_worse
    assert {one.change for one in better.differences if one.cell == CELL} == {Change.GONE}


def test_the_number_of_processes_changes_nothing(tmp_path: Path) -> None:
    copy = copy_of("merged", tmp_path / "copy", *KEEPS_NO_ERROR)
    one, two = (checked(copy, "merged", [CELL.scenario], processes) for processes in (0, 2))
    assert one.compared == two.compared


def test_a_check_may_end_at_the_first_new_finding(tmp_path: Path) -> None:
    copy = copy_of("merged", tmp_path / "copy", *KEEPS_NO_ERROR)
    check = Check(copy, "merged", list(grid([CELL.scenario], {})), sentence, ends_at_first=True)
    check.on(0)
    assert [one.cell for one in check.compared] == [CELL]


def test_a_mistake_in_a_revision_is_told_with_its_line_and_the_other_cells_go_on(tmp_path: Path) -> None:
    called = "await domain.ops.unmap_page(cpu, domain, offset(dfn, i))\n"
    copy = copy_of("merged", tmp_path / "copy", "iommu.py", called, f"{called}        flush_type += FlushType.WRONG\n")
    check = checked(copy, "merged", ["unmap_fails_halfway", "map_fails_halfway"])
    broken = [one for one in check.differences if one.change is Change.BREAKS]
    assert {one.cell.scenario for one in broken} == {"unmap_fails_halfway"}
    assert all("WRONG" in one.problem and "iommu.py:" in one.problem for one in broken)
    assert len(check.compared) == len(check.cells)


def test_a_call_that_a_revision_forgets_to_await_is_told_with_the_missing_word(tmp_path: Path) -> None:
    called = "        error = await iommu_iotlb_flush(cpu, domain, dfn, page_count(page_order), flush_type)\n"
    last = f"{called}        result = result or error\n    return result\n\n\nasync def iommu_iotlb_flush("
    copy = copy_of("merged", tmp_path / "copy", "iommu.py", last, last.replace("await ", ""))
    (broken,) = [one.problem for one in checked(copy, "merged", ["unmap_claims_nothing_was_there"]).differences][:1]
    assert "returned a call that it has not awaited: write `await` before it" in broken
    assert "0x7f" not in broken


def test_the_frame_of_a_table_is_named_by_its_domain_and_a_page() -> None:
    shown = evaluate(Job(Cell("table_freed_before_flush"), "merged", BUDGET, None, sentence)).shown
    (one,) = shown
    assert one == "released | released | 1 | 4096 | table of domain 1 for 0x1000 | vtd0 | cpu0"
    assert str(FIRST_TABLE_FRAME + 3) not in one


def test_a_budget_is_of_steps_and_ends_an_exploration_before_its_end() -> None:
    cut = evaluate(Job(Cell("remap_before_flush"), "merged", 300, None, sentence))
    assert not cut.is_exhausted
    assert 300 <= cut.steps < 500


def kills(finding: Finding, trace: Trace) -> str:
    """Kill the process that asks."""
    os._exit(1)


def test_a_process_that_dies_is_told_and_its_cell_is_executed_again() -> None:
    again = Cell("flush_misses_last_page", ("repaired=true",))
    jobs = [Job(cell, "v1", BUDGET, None, kills) for cell in (CELL, again)]
    dead, alive = run_all(jobs, 2, lambda: None)
    assert dead.problem == DIED
    assert alive.is_exhausted


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is no JSON"),
        ('{"format": "emu-check-1", "cells": {"a', "is no JSON"),
        ("[]", "has the format 'None'"),
        ('{"format": "emu-check-9", "cells": {}}', "has the format 'emu-check-9'"),
        ('{"format": "emu-check-1"}', "is damaged"),
        ('{"format": "emu-check-1", "cells": {"a": {"shown": 1}}}', "is damaged"),
        ('{"format": "emu-check-1", "cells": 7}', "is damaged"),
        ('{"format": "emu-check-1", "cells": {"a": {"is_exhausted": "false"}}}', "is damaged"),
        ('{"format": "emu-check-1", "cells": {"a": {"steps": true}}}', "is damaged"),
        ('{"format": "emu-check-1", "cells": {"a": {"more": 1}}}', "is damaged"),
    ],
)
def test_a_file_that_is_no_earlier_result_is_refused(text: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "earlier.json"
    path.write_text(text)
    with pytest.raises(ScenarioError, match=problem):
        read_earlier(path)
    assert FORMAT == "emu-check-1"


def test_a_folder_or_nothing_is_no_earlier_result(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="is no regular file"):
        read_earlier(tmp_path)
    with pytest.raises(ScenarioError, match="cannot be read"):
        read_earlier(tmp_path / "nothing.json")
    with pytest.raises(ScenarioError, match="cannot be read: embedded null byte"):
        read_earlier(tmp_path / "a\0b.json")


CHANGED = """
async def unused(cpu):
    '''Nobody calls it.'''
    return cpu
"""


def test_functions_that_are_never_entered_and_changed_lines_that_are_never_executed_are_named(tmp_path: Path) -> None:
    tested, untested = "if error == OK:\n            continue\n", "if error == OK:\n            continue  # changed\n"
    copy = copy_of("merged", tmp_path / "copy", "iommu.py", tested, untested)
    wrappers = tmp_path / "copy" / "iommu.py"
    wrappers.write_text(wrappers.read_text() + CHANGED)
    lines = wrappers.read_text().splitlines()
    (number,), last = (i for i, line in enumerate(lines, 1) if line.endswith("# changed")), len(lines)
    for processes in (0, 2):
        check = Check(copy, "merged", [Cell("map_fails_halfway", ("domain=0",))], sentence)
        check.on(processes)
        entered, executed = CheckReport(check).unexecuted()
        assert "iommu.py: unused" in entered
        assert "iommu.py: iommu_map" not in entered
        assert executed == f"differs and was never executed: iommu.py:{number}, iommu.py:{last}"
    check = checked(copy, "merged", ["unmap_fails_halfway"])
    assert f"iommu.py:{number}," not in CheckReport(check).unexecuted()[-1]


FLUSHES_ALWAYS = ("iommu.py", "    flush_type = FlushType.NONE\n", "    flush_type = FlushType.MODIFIED\n")
"""A map of v1 that flushes in any case."""

FLUSH = "await iommu_flush_iotlb(cpu, self.driver, domain, dfn, old_present=old_present, page_count=page_count)"
IGNORES_EVERY_TIMEOUT = ("vtd.py", f"        return {FLUSH}\n", f"        {FLUSH}\n        return OK\n")

STORE = "            await write_pte(cpu, domain, dfn, address, new)\n"
WRITE_BACK = "            await iommu_flush_cache_entry(cpu, self.driver, address)\n"
WRITES_BACK_FIRST = ("vtd.py", STORE + WRITE_BACK, WRITE_BACK + STORE)


def test_a_revision_without_the_race_of_r1_has_no_new_finding(tmp_path: Path) -> None:
    check = checked(copy_of("v1", tmp_path / "copy", *FLUSHES_ALWAYS), "v1", ["remap_before_flush"])
    assert {one.change for one in check.differences if one.cell == Cell("remap_before_flush")} == {Change.GONE}
    assert not check.is_worse
    assert not check.is_undecided


def test_a_lost_error_on_a_second_unit_is_new_although_the_base_loses_one_on_the_first(tmp_path: Path) -> None:
    check = checked(copy_of("merged", tmp_path / "copy", *IGNORES_EVERY_TIMEOUT), "merged", ["timeout_on_one_unit"])
    here = [one for one in check.differences if one.cell == Cell("timeout_on_one_unit")]
    lost = {one.change: one.signature for one in here if one.signature.startswith("lost-error")}
    assert "iotlb_flush on vtd0" in lost[Change.UNCHANGED]
    assert "iotlb_flush on vtd1" in lost[Change.NEW]


def test_a_line_that_is_written_back_before_the_store_is_new_where_walks_do_not_snoop(tmp_path: Path) -> None:
    copy = copy_of("merged", tmp_path / "copy", *WRITES_BACK_FIRST)
    check = checked(copy, "merged", ["batch_flushes_whole_domain"])
    assert {one.cell.parameters for one in check.differences if one.change is Change.NEW} == {("coherent=false",)}


CALLED = "        error, this_flush_type = await domain.ops.unmap_page(cpu, domain, offset(dfn, i))\n"
"""A line in the unmap of merged."""


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("while True: await cpu.read(iommu_dont_flush_iotlb)", "an agent loops for ever"),
        ("raise GeneratorExit", "cpu0, at iommu.py:51, raised GeneratorExit"),
        ("return 'done', FlushType.NONE", "(copy/iommu.py:65) returned a str: return 0 or a negative errno"),
    ],
)
def test_any_mistake_of_a_revision_is_a_line_and_the_other_cells_go_on(line: str, said: str, tmp_path: Path) -> None:
    copy = copy_of("merged", tmp_path / "copy", "iommu.py", CALLED, f"        {line}\n{CALLED}")
    cells = [CELL, Cell("map_fails_halfway")]
    check = Check(copy, "merged", cells, sentence)
    check.on(0)
    (broken,) = [one for one in check.differences if one.change is Change.BREAKS]
    assert said in broken.problem
    assert not check.bugs
    assert "never entered: iommu.py: iommu_unmap" not in CheckReport(check).unexecuted()[0]
    assert [one.cell for one in check.compared] == cells


def test_a_process_that_dies_once_is_told_and_nothing_is_lost(tmp_path: Path) -> None:
    died = tmp_path / "died"
    dies = f"        import os, pathlib\n        path = pathlib.Path({str(died)!r})\n"
    dies += "        if not path.exists():\n            path.touch()\n            os._exit(0)\n"
    copy = copy_of("merged", tmp_path / "copy", "iommu.py", CALLED, dies + CALLED)
    check = Check(copy, "merged", [CELL, Cell("flush_misses_last_page")], sentence)
    check.on(2)
    assert check.deaths == 1
    assert not check.is_worse
    assert "a process died 1 time, and its cell was executed again" in CheckReport(check).summary()


def test_characters_that_a_terminal_or_json_cannot_take_are_escaped() -> None:
    assert printable("a\x1b[31m\x00\ud800\nb é") == "a\\x1b[31m\\x00\\ud800\nb é"


def test_cells_are_told_together_only_if_their_sentences_are_the_same() -> None:
    other = Cell("unmap_fails_halfway", ("coherent=false",))
    check = Check("mine", "merged", [CELL, other], sentence)
    check.compared += [
        Compared(CELL, side(is_exhausted=False), side(a=STALE)),
        Compared(other, side(a=STALE), side(is_exhausted=False)),
    ]
    assert [len(others) for _, others in CheckReport(check).groups()] == [0, 0]
    check.compared[1] = attrs.evolve(check.compared[0], cell=other)
    assert [len(others) for _, others in CheckReport(check).groups()] == [1]


def test_findings_without_a_page_do_not_replace_one_another() -> None:
    stuck, claim = Shown("deadlock", (None, None), "stuck", 1), Shown("assertion", (None, None), "false", 1)
    assert changes(side(a=stuck), side(b=claim)) == [(Change.NEW, "b"), (Change.GONE, "a")]


@pytest.mark.long
@pytest.mark.parametrize("base", BUNDLED)
def test_a_copy_has_the_findings_of_the_original_in_every_cell(base: str, tmp_path: Path) -> None:
    check = checked(copy_of(base, tmp_path / "copy"), base, bundled_names(), 2)
    assert {one.change for one in check.differences} <= {Change.UNCHANGED, Change.UNDECIDED}
    undecided = {one.cell for one in check.differences if one.change is Change.UNDECIDED}
    assert len(undecided) <= len(check.cells) * 0.05
