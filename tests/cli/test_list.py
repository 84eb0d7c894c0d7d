"""`emu list`, and the command line before any verb."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from emu.hypervisor.revisions.loader import ALL_BUNDLED, FOLDER

Emu = Callable[..., tuple[int, str, str]]


def test_the_list_tells_each_story_with_its_parameters_within_80_columns(emu: Emu) -> None:
    status, out, _ = emu("list")
    assert status == 0
    assert "CPU 1 maps a page whose old entry CPU 0 has cleared" in out
    assert "-p outer_lock=none           one of none, per-call, across-flush" in out
    assert all(len(line) <= 80 for line in out.splitlines())


def test_a_scenario_of_one_vendor_says_why_and_a_vendor_which_parameters_it_has(emu: Emu) -> None:
    _, out, _ = emu("list")
    entry = " ".join(out.partition("\ndomain_id_freed_too_early\n")[2].partition("\n\n")[0].split())
    assert "Only vtd: on AMD-Vi the id is the domain's number, which nobody takes, frees or looks up." in entry
    assert "every scenario with -p iommu=amd\n" in out
    assert "-p np_cache=false            true or false" in out
    _, out, _ = emu("list", "--json")
    data = json.loads(out)
    only = {one["name"]: list(one["only"]) for one in data["scenarios"] if "only" in one}
    assert only["domain_id_freed_too_early"] == ["vtd"]
    assert only["command_buffer_full"] == ["amd"]
    assert "np_cache" in {one["name"] for one in data["with_iommu"]["amd"]}


def test_the_list_as_json_names_every_scenario(emu: Emu) -> None:
    _, out, _ = emu("list", "--json")
    names = [scenario["name"] for scenario in json.loads(out)["scenarios"]]
    assert names == sorted(names)
    assert "remap_before_flush" in names


def test_the_revisions_are_listed_with_their_commits_within_80_columns(
    emu: Emu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(FOLDER.parent)
    status, out, _ = emu("list", "--revisions")
    assert status == 0
    assert "implicit\n  Xen just before the seed patch" in out
    assert "  commit  cbe21fd047\n  folder  revisions/implicit\n" in out
    assert "  commit  none: posted as a patch\n  folder  revisions/v1\n" in out
    assert "remap_before_flush" not in out
    assert all(len(line) <= 80 for line in out.splitlines())


def test_the_revisions_as_json_name_folders_outside_of_the_working_directory_in_full(emu: Emu) -> None:
    _, out, _ = emu("list", "--revisions", "--json")
    listed = json.loads(out)["revisions"]
    assert [one["name"] for one in listed] == list(ALL_BUNDLED)
    assert [one["commit"] for one in listed] == ["cbe21fd047", None, "e8afe1124c", "0229adb138", "c447b7308b"]
    assert all(Path(one["folder"]) == FOLDER / one["name"] for one in listed)
    assert all(set(one) == {"name", "story", "commit", "folder"} for one in listed)


def test_listing_revisions_runs_none() -> None:
    code = (
        "import sys\n"
        "from emu.hypervisor.revisions.catalogue import bundled_revisions\n"
        "bundled_revisions()\n"
        "sys.exit(any(name.endswith(('.iommu', '.vtd')) and '.revisions.' in name for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_help_does_not_import_trio() -> None:
    code = (
        "import sys; sys.argv = ['emu', '--help']\n"
        "from emu.cli import run_cli\n"
        "run_cli()\n"
        "sys.exit('trio' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_an_unknown_verb_is_a_usage_error(emu: Emu) -> None:
    assert emu("fly") == (2, "", "emu: No such command 'fly'.\n")
