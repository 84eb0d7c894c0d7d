"""Running the command line inside the test's process."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from emu.cli import run_cli


class Outcome(NamedTuple):
    """What a command left."""

    status: int
    out: str
    err: str


@pytest.fixture(autouse=True, scope="session")
def hears_ctrl_c() -> None:
    """Let commands that a test starts hear Ctrl-C, even if the suite is a background job, which ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def emu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Outcome]:
    """Run `emu` with arguments, in a folder of its own."""
    monkeypatch.setenv("COLUMNS", "80")
    for verb in ("RUN", "EXPLORE"):
        monkeypatch.setenv(f"EMU_{verb}_SHRINK_TIME", "1000000")  # however busy the machine is
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def run(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["emu", *arguments])
        status = run_cli()
        return Outcome(status, *capsys.readouterr())

    return run
