"""`emu list` and what comes before any verb."""

import json
import subprocess
import sys
from collections.abc import Callable

Emu = Callable[..., tuple[int, str, str]]


def test_the_list_tells_each_story_with_its_parameters_within_80_columns(emu: Emu) -> None:
    status, out, _ = emu("list")
    assert status == 0
    assert "CPU 1 maps a page whose old entry CPU 0 has cleared" in out
    assert "-p outer_lock=none           one of none, per-call, across-flush" in out
    assert all(len(line) <= 80 for line in out.splitlines())


def test_the_list_as_json_names_every_scenario(emu: Emu) -> None:
    _, out, _ = emu("list", "--json")
    names = [scenario["name"] for scenario in json.loads(out)["scenarios"]]
    assert names == sorted(names)
    assert "remap_before_flush" in names


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
