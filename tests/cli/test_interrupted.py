"""Ctrl-C at any moment: no traceback, no crash, and no half file."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

RUNS = 300
SECONDS_MAX = 1.5

COMMANDS = (
    ("explore", "remap_before_flush", "-p", "order=1"),
    ("explore", "remap_before_flush", "-p", "order=1", "--host", "trio"),
    ("run", "remap_before_flush", "-p", "dma=8", "--seed", "23", "--log", "run.log"),
    ("check", "v1", "--against", "merged", "flag_left_set", "-j", "2", "--junit", "out.xml"),
    ("list",),
)

ENDED = {0, 1, 3, 130, -signal.SIGINT}
"""As it would have, with the report so far, stopped, or before Python could run a line of emu's."""


def interrupted(command: tuple[str, ...], seconds: float, here: Path) -> tuple[int, str]:
    """Run a command and interrupt it after a while; return its exit status and its output."""
    words = [sys.executable, "-X", "faulthandler", "-m", "emu", *command]
    with subprocess.Popen(words, cwd=here, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=100)
    return process.returncode, err


@pytest.mark.long
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_an_interrupted_command_ends_without_a_crash_and_leaves_no_half_file(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    draw = random.Random(" ".join(command))
    for number in range(RUNS // len(COMMANDS)):
        here = tmp_path / str(number)
        here.mkdir()
        status, err = interrupted(command, draw.uniform(0.05, SECONDS_MAX), here)
        before_emu = "emu/" not in err  # Python itself was still starting
        assert "Fatal Python error" not in err
        assert "Traceback" not in err or before_emu, (number, err)
        assert status in ENDED or before_emu, (number, status, err)
        for file in here.rglob("*"):
            assert not file.name.endswith(".part"), (number, file.name)
            if file.suffix == ".json":
                assert json.loads(file.read_bytes())
            if file.suffix == ".log":
                assert b'"event":"execution.end"' in file.read_bytes().splitlines()[-1]
            if file.suffix == ".xml":
                assert ET.parse(file).getroot().tag == "testsuites"  # noqa: S314 - emu has just written it
