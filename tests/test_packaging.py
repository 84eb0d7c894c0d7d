"""What a wheel carries."""

import zipfile
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parent.parent


def test_a_wheel_carries_the_scenarios_as_data_of_the_package(tmp_path: Path) -> None:
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"emu/scenarios/{path.name}" for path in (ROOT / "scenarios").glob("*.py")} <= names
    assert {"emu/cli/run.py", "emu/py.typed"} <= names
    assert not [name for name in names if name.startswith(("scenarios/", "tests/"))]
