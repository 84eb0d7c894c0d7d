"""What a wheel carries."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder

from emu.reports.timeline.page import SCRIPTS

ROOT = Path(__file__).parent.parent


def test_a_wheel_carries_the_scenarios_and_the_parts_of_the_timeline_as_data_of_the_package(tmp_path: Path) -> None:
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"emu/bundled/scenarios/{path.name}" for path in (ROOT / "scenarios").glob("*.py")} <= names
    assert {
        "emu/bundled/scenarios/new/race.py",
        "emu/cli/run.py",
        "emu/py.typed",
        "emu/reports/occurrences.json",
    } <= names
    parts = ("page.html", "page.css", *SCRIPTS)
    assert {f"emu/reports/timeline/{part}" for part in parts} <= names
    assert not [name for name in names if name.startswith(("benchmarks/", "scenarios/", "tests/"))]


def test_the_benchmarks_run_from_a_wheel(tmp_path: Path) -> None:
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    zipfile.ZipFile(wheel).extractall(tmp_path / "unpacked")
    done = subprocess.run(
        [sys.executable, "-m", "emu", "bench", "sb-2", "flush_all_locked.word-1"],
        capture_output=True,
        check=False,
        cwd=tmp_path / "unpacked",
        env={**os.environ, "PYTHONPATH": str(tmp_path / "unpacked")},
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "sb-2                            19       19     19" in done.stdout
