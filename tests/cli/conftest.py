"""Running the command line inside the test's process."""

import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

from emu.cli import run_cli


class Outcome(NamedTuple):
    """What a command left."""

    status: int
    out: str
    err: str


@pytest.fixture
def emu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run `emu` with arguments."""
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["emu", *arguments])
        status = run_cli()
        return Outcome(status, *capsys.readouterr())

    return run
