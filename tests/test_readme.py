"""What the README shows is what happens. Where one of these turns red, mend the README with it."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from emu.cli import run_cli
from emu.reports.left_out import LEFT_OUT
from emu.running.run import Run
from emu.running.verdict import Verdict
from emu.scenarios.library import load
from tests.fenced import fenced

README = (Path(__file__).parent.parent / "README.md").read_text()


def blocks(language: str) -> Iterator[str]:
    """Yield the fenced blocks of a language."""
    return (text for found, text in fenced(README) if found == language)


def test_the_first_command_ends_with_the_output_that_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    command = next(blocks("sh")).split("&&")[-1]
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["emu", *shlex.split(command)[1:]])
    assert run_cli() == 0
    shown = next(block for block in blocks("") if "stale translation" in block)
    assert capsys.readouterr().out.endswith(shown)


def test_the_exploration_that_is_shown_ends_as_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    command = next(block for block in blocks("sh") if "emu explore" in block).split("&&")[-1]
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["emu", *shlex.split(command)[1:]])
    assert run_cli() == 0
    assert capsys.readouterr().out == next(block for block in blocks("") if "exhausted" in block)


def test_the_change_that_is_shown_is_checked_as_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    new, check = (block.split()[1:] for block in blocks("sh") if "revision mine" in block or "emu check" in block)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["emu", *new])
    assert run_cli() == 0
    wrappers = tmp_path / "mine" / "iommu.py"
    before, unmap, after = wrappers.read_text().partition("async def iommu_legacy_unmap")
    wrappers.write_text(before + unmap + after.replace("result = result or error", "result = error", 1))
    capsys.readouterr()
    monkeypatch.setattr("sys.argv", ["emu", *check, "-j", "1"])
    assert run_cli() == 1
    out = capsys.readouterr().out
    first, last = (block for block in blocks("") if "new: " in block or "16 new" in block)
    assert out.startswith("\n" + first)
    assert out.endswith(last)


def test_the_search_by_itself_prints_what_is_said_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    program = next(block for block in blocks("python") if "Exploration" in block)
    exec(compile(program, "README.md", "exec"), {})  # noqa: S102 - it is ours
    *traces, count = capsys.readouterr().out.splitlines()
    assert (len(traces), count) == (4, "4 traces")
    assert sum("write 2" not in trace for trace in traces) == 2


def test_the_scenario_that_is_shown_runs_and_gives_what_it_declares(tmp_path: Path) -> None:
    path = tmp_path / "two_owners.py"
    path.write_text(next(blocks("python")))
    run = Run(load(path).bind({}), "random", 0, 1000)
    run.on("direct")
    assert run.verdict is Verdict.SHOWN


def test_what_a_proof_leaves_out_is_explained_item_by_item() -> None:
    section = README.partition("## What is not in it")[2]
    assert re.findall(r"^\* \*(.*?)\*:", section, re.MULTILINE) == list(LEFT_OUT)
