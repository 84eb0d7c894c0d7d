"""Files with scenarios: a mistake is refused in a sentence."""

from pathlib import Path

import pytest

from emu.errors import ScenarioError
from emu.scenarios.library import find, load


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("def broken(:\n", "cannot be loaded: its code raised SyntaxError"),
        ("raise KeyError('x')\n", "cannot be loaded: its code, at mine.py:1, raised KeyError"),
        ("x = 1\n", "holds 0 scenarios: put exactly one into each file"),
    ],
)
def test_a_file_that_holds_no_scenario_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(ScenarioError, match=complaint):
        load(path)


@pytest.mark.parametrize("name", ["nothing", "../remap_before_flush", "remap before flush", ""])
def test_a_name_that_is_no_scenario_is_refused(name: str) -> None:
    with pytest.raises(ScenarioError, match="there is no scenario"):
        find(name)


def test_a_close_name_is_suggested() -> None:
    with pytest.raises(ScenarioError, match="did you mean 'remap_before_flush'"):
        find("remap_before_flsh")


def test_a_path_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="is no file with a scenario"):
        find(str(tmp_path / "gone.py"))
