"""Machines that are younger than the seed patch run a revision of their own, and no other; each verb knows it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from emu.errors import ScenarioError
from emu.hypervisor.revisions.loader import ALL_BUNDLED, BUNDLED, LATER, is_bundled
from emu.platforms import PLATFORMS, SMMUV3, VTD
from emu.scenarios.library import find
from tests.cli.conftest import Outcome

Emu = Callable[..., Outcome]

STORY = "vmid_taken_again"


def test_each_revision_that_comes_with_emu_runs_somewhere_and_only_those_of_the_patch_are_columns() -> None:
    assert {one for platform in PLATFORMS.values() for one in platform.revisions} == set(ALL_BUNDLED)
    assert not set(BUNDLED) & set(LATER)
    assert all(platform.revision in platform.revisions for platform in PLATFORMS.values())


@pytest.mark.parametrize("revision", ALL_BUNDLED)
@pytest.mark.parametrize("platform", PLATFORMS.values(), ids=lambda one: one.name)
def test_a_platform_has_hooks_of_the_revisions_that_it_runs_and_refuses_the_others(
    platform: object, revision: str
) -> None:
    known = next(one for one in PLATFORMS.values() if one is platform)
    if revision in known.revisions:
        known.refuse_revision(revision)
        assert known.load_revision(revision).name == revision
    else:
        with pytest.raises(ScenarioError, match=f"^{known.name} does not run the revision {revision}, but "):
            known.refuse_revision(revision)


def test_without_a_revision_the_machines_run_their_own() -> None:
    assert find(STORY).bind({}).values["revision"] == "today"
    assert find("remap_before_flush").bind({}).values["revision"] == "v1"


@pytest.mark.parametrize("revision", ["v1", "emu:v1"])
def test_another_revision_is_refused_in_one_sentence_that_says_why(emu: Emu, revision: str) -> None:
    code, _, err = emu("explore", STORY, "-p", f"revision={revision}")
    assert code == 2
    assert err.strip() == (
        "emu: smmuv3 does not run the revision v1, but today: Xen's driver for the SMMUv3 is of 2020, and younger than "
        "the patch that the others are about"
    )


def test_so_is_the_later_one_on_the_machines_of_the_patch(emu: Emu) -> None:
    code, _, err = emu("explore", "remap_before_flush", "-p", "revision=today")
    assert code == 2
    assert "vtd does not run the revision today, but implicit, v1, merged, flush_on_error" in err


def test_a_revision_that_is_unknown_is_answered_with_those_that_the_machine_runs(emu: Emu) -> None:
    _, _, of_later = emu("explore", STORY, "-p", "revision=v9")
    _, _, of_patch = emu("explore", "remap_before_flush", "-p", "revision=v9")
    assert "use one of today, or a folder with iommu.py and smmuv3.py" in of_later
    assert "use one of implicit, v1, merged, flush_on_error, or a folder with iommu.py and vtd.py" in of_patch


def test_a_claim_like_that_of_a_revision_of_other_machines_is_refused(emu: Emu) -> None:
    code, _, err = emu("explore", STORY, "--like", "merged")
    assert code == 2
    assert "smmuv3 does not run the revision merged" in err


def test_the_later_revision_is_listed_and_shown_with_its_commit_and_without_defects_of_the_patch(emu: Emu) -> None:
    _, out, _ = emu("list", "--revisions", "--json")
    assert json.loads(out)["revisions"][-1]["commit"] == "c447b7308b"
    code, out, _ = emu("show", "today")
    assert code == 0
    assert "smmuv3.py, and what it models of Xen" in out
    assert "defects of the patch" not in out


def test_a_scenario_of_later_machines_is_shown_with_the_one_column(emu: Emu) -> None:
    _, out, _ = emu("show", STORY, "--json")
    assert json.loads(out)["verdicts"] == {
        "smmuv3": {
            "": {"today": "not-isolated"},
            "in_use=true": {"today": "clean"},
            "taker=same": {"today": "stale"},
        }
    }


def test_what_is_found_there_is_replayed_without_naming_the_revision(emu: Emu) -> None:
    assert emu("explore", STORY)[0] == 0
    (saved,) = Path("emu-findings").glob("*.json")
    code, out, _ = emu("replay", str(saved))
    assert code == 0
    assert "not isolated" in out


def test_a_check_leaves_out_the_machines_that_a_side_does_not_run(emu: Emu) -> None:
    code, out, _ = emu("check", "v1", STORY, "free_before_flush", "--against", "v1", "--list", "--json")
    assert code == 0
    assert not [cell for cell in json.loads(out)["cells"] if cell.startswith(STORY)]


def test_a_copy_of_it_can_be_checked_against_it(emu: Emu) -> None:
    assert emu("new", "revision", "mine", "--from", "today").status == 0
    code, out, _ = emu("check", "./mine", STORY, "--against", "today", "-j", "1")
    assert code == 0
    assert "./mine against today: nothing is new" in out


def test_today_is_known_as_a_revision_of_emus_and_its_machines_by_name() -> None:
    assert is_bundled("today")
    assert is_bundled("emu:today")
    assert (SMMUV3.hooks_file, VTD.hooks_file) == ("smmuv3.py", "vtd.py")
