"""`emu export`."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.running.saved import saved

Emu = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(("format_", "suffix"), [("perfetto", ".perfetto.json"), ("vcd", ".vcd")])
def test_a_log_or_a_token_becomes_a_file_and_its_path_is_printed(emu: Emu, format_: str, suffix: str) -> None:
    emu("run", "remap_before_flush", "--log", "race.jsonl", "--host", "direct")
    assert emu("export", "race.jsonl", "--format", format_) == (0, f"race{suffix}\n", "")
    assert emu("export", saved().token(), "--format", format_, "-o", "x") == (0, "x\n", "")
    first = Path("x").read_bytes()
    emu("export", saved().token(), "--format", format_, "-o", "x")
    assert Path("x").read_bytes() == first


def test_an_export_takes_no_place_of_a_file_that_is_read(emu: Emu) -> None:
    emu("run", "remap_before_flush", "--log", "race.jsonl", "--host", "direct")
    before = Path("race.jsonl").read_bytes()
    status, _, err = emu("export", "race.jsonl", "-o", "race.jsonl")
    assert (status, Path("race.jsonl").read_bytes()) == (2, before)
    assert "would overwrite 'race.jsonl', which is read" in err


def test_an_export_to_standard_output_is_alone_there() -> None:
    command = [sys.executable, "-m", "emu", "export", saved().token(), "-o", "/dev/stdout"]
    done = subprocess.run(command, check=True, capture_output=True)
    assert json.loads(done.stdout)["otherData"]["scenario"] == "remap_before_flush"
