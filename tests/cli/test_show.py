"""`emu show`: everything about a scenario or a revision, from where it is already."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emu.hypervisor.revisions.loader import BUNDLED
from emu.scenarios.defects import DEFECTS
from emu.scenarios.library import bundled_names, find

ROOT = Path(__file__).parents[2]

Emu = Callable[..., tuple[int, str, str]]


def shown(emu: Emu, name: str) -> dict[str, Any]:
    status, out, err = emu("show", name, "--json")
    assert (status, err) == (0, "")
    data: dict[str, Any] = json.loads(out)
    return data


def test_a_scenario_has_its_story_its_parameters_and_its_place(emu: Emu) -> None:
    data = shown(emu, "remap_before_flush")
    assert data["names"] == ["R1"]
    assert data["story"] == [find("remap_before_flush").story]
    assert {one["name"]: one.get("meaning") for one in data["parameters"]} == {
        "order": None,
        "outer_lock": None,
        "dma": "how many times a device of the domain reads the page meanwhile.",
        "repaired": "CPU 1 waits until CPU 0's unmap has returned.",
    }
    file, _, line = data["source"].rpartition(":")
    assert Path(file).read_text().splitlines()[int(line) - 1] == "@scenario("


def test_the_docstring_is_whole_and_reflowed(emu: Emu) -> None:
    data = shown(emu, "map_into_dying_domain")
    meaning = next(one["meaning"] for one in data["parameters"] if one["name"] == "repaired")
    assert meaning.startswith("a map checks under the mapping_lock whether the domain is dying")
    assert meaning.endswith("waits for the lock (1ef48c82e7).")
    assert shown(emu, "command_buffer_full")["story"][1].startswith("It shows with few slots only")


def test_the_verdicts_are_those_that_are_declared_for_each_vendor(emu: Emu) -> None:
    data = shown(emu, "remap_before_flush")
    order = {"implicit": "stale", "v1": "clean", "merged": "clean", "flush_on_error": "clean"}
    assert data["verdicts"]["vtd"]["order=1"] == order
    assert data["verdicts"]["amd"]["order=1"] == dict.fromkeys(BUNDLED, "stale")
    assert "names domain id 0" in data["no_claim"]["vtd"]["caching_mode=true"]
    assert "caching_mode=true" not in data["no_claim"]["amd"]
    assert set(data["no_claim"]["vtd"]) == {"caching_mode=true", "hook_faults>0", "wait_faults>0"}


def test_the_functions_of_xen_are_those_that_an_execution_calls_on_that_vendor(emu: Emu) -> None:
    functions = shown(emu, "remap_before_flush")["functions"]
    assert set(functions["vtd"]["drivers/passthrough/iommu.c"]) >= {"iommu_map", "iommu_unmap"}
    assert "intel_iommu_map_page" in functions["vtd"]["drivers/passthrough/vtd/iommu.c"]
    assert "amd_iommu_map_page" in functions["amd"]["drivers/passthrough/amd/iommu_map.c"]
    assert not [file for file in functions["vtd"] if "/amd/" in file]
    assert not [file for file in functions["amd"] if "/vtd/" in file]
    of_flush = shown(emu, "two_wait_for_mapping_lock")["functions"]["vtd"]["drivers/passthrough/iommu.c"]
    assert "iommu_unmap" not in of_flush


@pytest.mark.parametrize("defect", [one for one in DEFECTS if one.shows], ids=lambda one: one.name)
def test_a_scenario_names_the_defects_that_name_it(emu: Emu, defect: Any) -> None:
    assert shown(emu, defect.shows[0].scenario)["defects"][defect.name] == defect.says


@pytest.mark.parametrize("name", [*bundled_names(), *BUNDLED])
def test_each_can_be_shown_in_80_columns(emu: Emu, name: str) -> None:
    status, out, err = emu("show", name)
    first, *lines = out.splitlines()
    assert (status, err, first.split()[0]) == (0, "", name)
    assert [line for line in lines if len(line) > 80] == []


def test_a_file_of_the_users_is_shown_too_and_has_no_defects_of_the_patch(emu: Emu) -> None:
    emu("new", "scenario", "remap_before_flush")
    data = shown(emu, "remap_before_flush.py")
    assert data["source"].startswith("remap_before_flush.py:")
    assert data["verdicts"]["vtd"] == {
        "": dict.fromkeys(BUNDLED, "stale"),
        "repaired=true": dict.fromkeys(BUNDLED, "clean"),
    }
    assert data["defects"] == {}


def test_a_revision_has_its_functions_and_its_defects(emu: Emu) -> None:
    data = shown(emu, "merged")
    assert data["commit"] == "e8afe1124c"
    assert data["functions"]["iommu.py"]["iommu_map"].startswith("drivers/passthrough/iommu.c, iommu_map")
    assert "C5" in data["defects"]
    assert "D1" not in data["defects"]
    assert "D1" in shown(emu, "v1")["defects"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("remap_befor_flush", "(did you mean 'remap_before_flush'?)"),
        ("mergd", "(did you mean 'merged'?)"),
        ("nowhere.py", "nowhere.py is no file with a scenario"),
        ("new/race", "is no scenario or revision"),
        ("broken.py", "broken.py cannot be loaded"),
    ],
)
def test_what_is_neither_is_one_sentence(emu: Emu, name: str, said: str) -> None:
    Path("broken.py").write_text("1 / 0\n")
    status, out, err = emu("show", name)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert said in err
