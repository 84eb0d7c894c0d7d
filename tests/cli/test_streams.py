"""Closed streams, an optimizing Python and Ctrl-C while emu starts: a sentence, and the right exit status."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.revisions import copy_of

EMU = f"{sys.executable} -m emu"


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command line of a shell."""
    return subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


def test_with_standard_output_closed_nothing_runs_and_a_sentence_says_why() -> None:
    done = shell(f"{EMU} list >&-")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("emu: standard output is closed")
    assert done.stderr.count("\n") == 1


def test_with_standard_input_closed_only_a_verb_that_reads_it_says_so() -> None:
    done = shell(f"{EMU} log - <&-; echo $?; {EMU} list <&- >/dev/null; echo $?")
    assert done.stdout == "2\n0\n"
    assert done.stderr == "emu: standard input is closed: name a file\n"


def test_with_standard_error_closed_the_answer_is_the_same() -> None:
    done = shell(f"{EMU} explore flag_left_set 2>&-; echo $?; {EMU} nothing 2>&-; echo $?")
    assert done.stdout.endswith("again: emu explore flag_left_set\n0\n2\n")


@pytest.mark.parametrize("level", ["1", "2"])
def test_a_python_that_leaves_out_assertions_and_texts_is_refused(level: str) -> None:
    done = shell(f"{EMU} --help", PYTHONOPTIMIZE=level)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("emu: Python runs optimized (-O, PYTHONOPTIMIZE)")


INTERRUPTED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
class Interrupts:
    def find_spec(self, name, *_):
        if name == {module!r}:
            sys.meta_path.remove(self)
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Interrupts())
from emu.cli import main
main()
"""


@pytest.mark.parametrize("module", ["click", "emu.cli.verbs", "emu.running.run", "trio", "orjson"])
def test_ctrl_c_during_the_imports_ends_emu_with_a_word(module: str) -> None:
    command = [sys.executable, "-c", INTERRUPTED.format(module=module), "run", "flag_left_set"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.split() == ["emu:", "stopped"]


INTERRUPTED_IN_AN_EXTENSION = """
import importlib.abc, signal, sys
from emu.cli import run_cli

class Interrupt(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "orjson.orjson":
            signal.raise_signal(signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupt())
status = run_cli()
print(status, "orjson" in sys.modules)
"""
"""Interrupts emu in the middle of an import that would crash Python if it were cut short."""


def test_ctrl_c_waits_until_an_extension_module_is_imported() -> None:
    command = [sys.executable, "-c", INTERRUPTED_IN_AN_EXTENSION, "list"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr.strip()) == ("130 True\n", "emu: stopped")


IN_A_WORKER = """
import multiprocessing, os, time
if multiprocessing.parent_process() is not None:
    os.write(os.open({fifo!r}, os.O_WRONLY), b"x")
    time.sleep(600)
"""


def test_a_worker_of_a_check_ends_with_its_parent_process_for_whatever_reason(tmp_path: Path) -> None:
    fifo = tmp_path / "alive"
    os.mkfifo(fifo)
    copy = copy_of("merged", tmp_path / "copy")
    wrappers = Path(copy) / "iommu.py"
    wrappers.write_text(wrappers.read_text() + IN_A_WORKER.format(fifo=str(fifo)))
    command = [sys.executable, "-m", "emu", "check", copy, "--against", "merged", "flag_left_set", "-j", "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with process, fifo.open("rb", buffering=0) as alive:  # opens when the worker opens its end
        assert alive.read(1) == b"x"
        process.send_signal(signal.SIGTERM)
        ended, _, _ = select.select([alive], [], [], 60)
        assert ended  # the worker's end is closed
        assert alive.read(1) == b""
    assert process.returncode == -signal.SIGTERM
