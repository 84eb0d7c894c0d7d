"""`emu check`, `emu new revision`, and claims about a revision of the user's."""

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from emu.hypervisor.revisions.loader import BUNDLED, FOLDER
from tests.revisions import change

Emu = Callable[..., tuple[int, str, str]]

CHANGED = (
    "        result = result or error\n    return result\n\n\nasync def iommu_iotlb_flush(",
    "        result = error\n    return result\n\n\nasync def iommu_iotlb_flush(",
)


@pytest.fixture
def mine(emu: Emu) -> Path:
    """Return a copy of merged whose unmap loses an error, in the folder where commands run."""
    assert emu("new", "revision", "mine", "--from", "merged")[0] == 0
    change(Path("mine/iommu.py"), *CHANGED)
    return Path("mine")


def test_a_new_revision_is_a_copy_with_the_command_that_checks_it(emu: Emu) -> None:
    status, out, _ = emu("new", "revision", "mine", "--from", "v1")
    assert status == 0
    assert out.splitlines()[-1] == "change it, then: emu check ./mine --against v1"
    files = ["amd.py", "iommu.py", "p2m.py", "smmu.py", "vtd.py", "x86.py"]
    assert sorted(path.name for path in Path("mine").iterdir()) == files
    for path in Path("mine").iterdir():
        assert path.read_bytes() == (FOLDER / "v1" / path.name).read_bytes()


def test_a_new_revision_takes_no_folder_that_exists_and_no_unknown_origin(emu: Emu) -> None:
    Path("mine").mkdir()
    assert emu("new", "revision", "mine")[::2] == (2, "emu: mine exists already: name a folder that does not\n")
    status, _, err = emu("new", "revision", "other", "--from", "mergd")
    assert status == 2
    assert err.startswith("emu: there is no revision 'mergd' (did you mean 'merged'?): use one of ")


def test_a_new_finding_is_told_once_for_each_scenario_with_the_command_that_shows_it(emu: Emu, mine: Path) -> None:
    status, out, _ = emu("check", "./mine", "--against", "merged", "unmap_fails_halfway", "-j", "1")
    assert status == 1
    assert "new: unmap_fails_halfway: lost error: cpu0's unmap of domain 1 dfn 0x1000" in out
    assert "likewise with coherent=false; caching_mode=true; write_buffer=true;" in out
    assert "again: emu explore unmap_fails_halfway -p revision=./mine\n" in out
    assert out.count("new: unmap_fails_halfway: lost error") == 1
    assert out.splitlines()[-1] == "./mine against merged: 26 new"
    assert all(len(line) <= 80 for line in out.splitlines() if not line.startswith("again: "))


def test_the_json_of_a_check_is_a_base_for_a_later_check(emu: Emu, mine: Path) -> None:
    command = ("check", "./mine", "unmap_fails_halfway", "-j", "1", "--against")
    status, out, _ = emu(*command, "merged", "--json")
    data = json.loads(out)
    assert (status, data["format"], data["revision"], data["base"]) == (1, "emu-check-1", "./mine", "merged")
    assert {one["change"] for one in data["differences"]} == {"new"}
    assert len(data["cells"]) == 11
    Path("before.json").write_text(out)
    assert emu(*command, "before.json")[0] == 0
    emu("new", "revision", "mended", "--from", "merged")
    status, out, _ = emu("check", "./mended", *command[2:], "before.json")
    assert (status, out.splitlines()[-1]) == (0, "./mended against before.json: 26 gone")


def test_prints_of_a_revision_do_not_spoil_the_json(emu: Emu, mine: Path) -> None:
    path = mine / "iommu.py"
    path.write_text(path.read_text().replace("    result = OK\n", "    result = OK\n    print('here')\n", 2))
    status, out, _ = emu("check", "./mine", "--against", "merged", "unmap_fails_halfway", "-j", "1", "--json")
    assert (status, json.loads(out)["format"]) == (1, "emu-check-1")


def test_a_revision_that_ends_its_process_is_no_success(emu: Emu, mine: Path) -> None:
    path = mine / "iommu.py"
    path.write_text(path.read_text().replace("    result = OK\n", "    result = OK\n    import os; os._exit(0)\n", 2))
    status, out, _ = emu("check", "./mine", "--against", "merged", "unmap_claims_nothing_was_there", "-j", "1")
    assert status == 1
    assert "breaks: unmap_claims_nothing_was_there: the process that executed it has died, twice" in out.replace(
        "\n", " "
    )


def test_a_check_that_would_execute_no_cell_is_refused(emu: Emu, mine: Path) -> None:
    (mine / "x86.py").unlink()
    status, _, err = emu("check", "./mine", "--against", "merged", "softirq_in_hwdom_init", "-j", "1")
    assert status == 2
    assert "there is nothing to check: ./mine lacks functions that each of these scenarios needs" in err


def test_a_populate_that_does_not_flush_is_new_where_a_map_beside_it_is_stale_already(emu: Emu, mine: Path) -> None:
    path = mine / "x86.py"
    flush = "        result = await iommu_iotlb_flush_all(cpu, domain, FlushType.MODIFIED)\n"
    assert flush in path.read_text()
    path.write_text(path.read_text().replace(flush, "        pass\n"))
    change = ("-p", "change=replace", "-p", "iommu=vtd")
    status, out, _ = emu("check", "./mine", "--against", "merged", "map_between_populate_passes", "-j", "1", *change)
    assert status == 1
    assert "populate of domain 1" in out.replace("\n", " ")


def test_a_junit_file_has_a_case_for_each_cell(emu: Emu, mine: Path) -> None:
    cells = ("unmap_fails_halfway", "flush_misses_last_page")
    emu("check", "./mine", "--against", "merged", *cells, "-j", "1", "--junit", "out.xml")
    first, second = ET.parse("out.xml").getroot()  # noqa: S314 - a file that the test has just written
    assert (first.get("name"), first.get("tests"), first.get("failures")) == ("unmap_fails_halfway", "11", "11")
    assert (second.get("name"), second.get("failures"), second.get("skipped")) == ("flush_misses_last_page", "0", "0")
    assert not list(Path().glob("*.part"))


def test_a_junit_file_that_cannot_be_written_is_a_usage_error(emu: Emu, mine: Path) -> None:
    command = ("check", "./mine", "--against", "merged", "flush_misses_last_page", "-j", "1")
    status, _, err = emu(*command, "--junit", "nowhere/out.xml")
    said = "emu: the JUnit file 'nowhere/out.xml' cannot be written: there is no such folder to write into\n"
    assert (status, err) == (2, said)


def test_the_cells_can_be_listed_and_take_other_values(emu: Emu) -> None:
    command = ("check", "v1", "--against", "merged", "free_before_flush", "--list")
    assert emu(*command)[1].splitlines()[:2] == ["free_before_flush", "free_before_flush repaired=true"]
    listed = emu(*command, "-p", "repaired=true,false")[1].splitlines()
    assert listed[:2] == ["free_before_flush repaired=true", "free_before_flush repaired=false"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("v1", "--against", "mergde"), "there is no revision 'mergde' (did you mean 'merged'?)"),
        (("v2", "--against", "v1"), "there is no revision 'v2': use one of"),
        (("v1", "--against", "nothing.json"), "'nothing.json' cannot be read: No such file or directory"),
        (("v1", "nowhere", "--against", "merged"), "there is no scenario 'nowhere'"),
        (
            ("v1", "--against", "merged", "-p", "revision=v1"),
            "name revisions as REVISION and --against BASE, not with -p",
        ),
        (("v1", "--against", "merged", "-p", "ordr=1"), "no scenario has all the parameters that -p names"),
        (("v1", "--against", "merged", "-p", "order=x"), "parameter order takes a whole number from 0 to 12, not 'x'"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_runs(emu: Emu, arguments: tuple[str, ...], problem: str) -> None:
    status, out, err = emu("check", *arguments)
    assert (status, out) == (2, "")
    assert problem in err
    assert len(err.splitlines()) == 1


def test_nothing_is_claimed_of_a_folder_in_run_explore_and_replay_alike(emu: Emu, mine: Path) -> None:
    where = ("unmap_fails_halfway", "-p", "revision=./mine")
    status, out, _ = emu("explore", *where)
    assert status == 1
    assert "no claim for a revision of yours: lost-error in 1, released in 1 of 1 execution" in out
    replay = next(line for line in out.splitlines() if line.startswith("replay: ")).split()[2:]
    status, out, _ = emu("run", *where)
    assert status == 1
    assert "no claim for a revision of yours: lost-error, released in execution 1 (seed 0)" in out
    status, out, _ = emu(*replay)
    assert status == 1
    assert "no claim for a revision of yours: " in out
    status, out, _ = emu("explore", "flush_misses_last_page", "-p", "repaired=true", "-p", "revision=./mine")
    assert status == 0
    assert "no claim for a revision of yours: clean: proved for these parameters" in out


def test_a_run_on_a_folder_ends_at_its_first_finding(emu: Emu, mine: Path) -> None:
    status, out, _ = emu("run", "remap_before_flush", "-p", "revision=./mine", "--executions", "1000", "--json")
    data = json.loads(out)
    assert (status, data["declared"], data["verdict"]) == (1, None, "found")
    assert data["executions"] < 1000


@pytest.mark.parametrize(
    ("claim", "status", "said"),
    [
        (("--expect", "clean"), 1, "you claim clean: contradicted"),
        (("--expect", "released,lost-error"), 0, "you claim released: shown"),
        (("--expect", "released"), 1, "you claim released: contradicted; not declared is lost-error"),
        (("--expect", "stale,released,lost-error"), 1, "you claim stale: contradicted: no execution shows it"),
        (("--like", "v1"), 0, "like v1, of which unmap_fails_halfway declares released: shown"),
        (("--like", "merged"), 1, "like merged, of which unmap_fails_halfway declares clean: contradicted"),
    ],
)
def test_the_user_may_state_a_claim(emu: Emu, mine: Path, claim: tuple[str, str], status: int, said: str) -> None:
    ended, out, _ = emu("explore", "unmap_fails_halfway", "-p", "revision=./mine", *claim)
    assert ended == status
    assert said in out.replace("\n", " ")
    assert " ".join(claim) in out.splitlines()[-1]


def test_a_name_that_a_bundled_revision_and_a_folder_here_share_is_refused(emu: Emu, mine: Path) -> None:
    mine.rename("merged")
    for command in (("run", "free_before_flush", "-p"), ("explore", "free_before_flush", "-p")):
        status, _, err = emu(*command, "revision=merged")
        assert (status, err) == (2, "emu: both emu's merged and ./merged exist: write emu:merged or ./merged\n")
    assert "declares released" in emu("explore", "free_before_flush", "-p", "revision=emu:merged")[1]
    assert "no claim" in emu("explore", "free_before_flush", "-p", "revision=./merged")[1]
    status, _, err = emu("check", "merged", "--against", "v1", "free_before_flush")
    assert (status, err) == (2, "emu: both emu's merged and ./merged exist: write emu:merged or ./merged\n")
    assert BUNDLED == ("implicit", "v1", "merged", "flush_on_error")


def test_without_the_hooks_of_a_vendor_its_cells_are_left_out_and_a_line_says_so(emu: Emu, mine: Path) -> None:
    (mine / "amd.py").unlink()
    status, out, _ = emu("check", "./mine", "--against", "merged", "unmap_fails_halfway", "-j", "1")
    assert (status, out.splitlines()[-1]) == (1, "./mine against merged: 16 new")
    assert "\nleft out: 4 cells of amd, because there is no mine/amd.py\n" in out
    status, _, err = emu("check", "./mine", "--against", "merged", "command_buffer_full", "-j", "1")
    assert (status, err.partition("here/")[2].partition(":")[0]) == (2, "mine/amd.py")


def test_one_vendor_is_checked_if_it_is_named(emu: Emu) -> None:
    command = ("check", "v1", "--against", "merged", "free_before_flush", "--list", "-p")
    listed = emu(*command, "iommu=amd")[1].splitlines()
    assert listed[0] == "free_before_flush iommu=amd"
    assert all(line.endswith(" iommu=amd") for line in listed)
