"""`emu new scenario`: the file that it writes runs at once, and is as clean as those of emu."""

import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

Emu = Callable[..., tuple[int, str, str]]


def test_each_command_that_is_printed_finds_what_the_file_says(emu: Emu) -> None:
    status, out, _ = emu("new", "scenario", "my_race")
    file, *lines = out.splitlines()
    assert (status, file) == (0, "my_race.py")
    verdicts = []
    for line in lines:
        program, *arguments = shlex.split(line.partition(": ")[2])
        status, out, _ = emu(*arguments)
        assert (program, status) == ("emu", 0)
        verdicts += [line for line in out.splitlines() if line.startswith("my_race declares")]
    shown, by_run, clean, on_amd = verdicts
    assert shown == on_amd == "my_race declares stale: shown"
    assert by_run.startswith("my_race declares stale: shown by execution")
    assert clean.startswith("my_race declares clean: proved")


def test_the_file_is_the_scenario_that_linters_hold_under_another_name(emu: Emu) -> None:
    emu("new", "scenario", "a" * 60)
    written, template = Path(f"{'a' * 60}.py"), (ROOT / "scenarios/new/race.py").read_text()
    assert written.read_text() == template.replace("def race(", f"def {'a' * 60}(")
    for check in (["check"], ["format", "--check"]):
        subprocess.run(
            [
                sys.executable,
                "-m",
                "ruff",
                *check,
                "--no-cache",
                "--config",
                str(ROOT / "pyproject.toml"),
                str(written),
            ],
            check=True,
        )


def test_it_is_no_scenario_that_comes_with_emu(emu: Emu) -> None:
    assert "\nrace\n" not in emu("list")[1]


def test_a_path_names_the_file_and_its_stem_the_scenario(emu: Emu) -> None:
    Path("of mine").mkdir()
    assert emu("new", "scenario", "of mine/two.py")[1].splitlines()[:2] == [
        "of mine/two.py",
        "change it, then: emu explore 'of mine/two.py'",
    ]
    assert "\ndef two(m: Machine" in Path("of mine/two.py").read_text()


def test_no_file_is_overwritten(emu: Emu) -> None:
    Path("mine.py").write_text("mine")
    assert emu("new", "scenario", "mine") == (2, "", "emu: mine.py exists already: name a file that does not\n")
    assert Path("mine.py").read_text() == "mine"


@pytest.mark.parametrize(
    "name", ["My_race", "1st", "a-b", "for", "", ".py", "a b", "ä", "a" * 61, "x\x1b", "scenario", "m"]
)
def test_a_name_that_no_scenario_can_have_is_refused_in_a_sentence(emu: Emu, name: str) -> None:
    status, out, err = emu("new", "scenario", name)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("name", ["nowhere/mine", "x\0/mine", "file/mine"])
def test_a_file_that_cannot_be_written_is_a_sentence(emu: Emu, name: str) -> None:
    Path("file").touch()
    status, _, err = emu("new", "scenario", name)
    assert (status, err.count("\n")) == (2, 1)
    assert "cannot be written: " in err
