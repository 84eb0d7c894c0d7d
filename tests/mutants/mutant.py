"""Mutants: wrong patches, each as data, and how to see whether anything tells one from the code that it changes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import attrs

from emu.reports.findings import sentence
from emu.running.cells import Cell
from emu.running.check import Check
from tests.revisions import copy_of, replaced

ROOT = Path(__file__).parents[2]
REVISIONS = "emu/hypervisor/revisions/"
COPIED = ("emu", "scenarios", "benchmarks")


@attrs.frozen
class Mutant:
    """A wrong patch.

    Attributes:
        name: what it breaks.
        file: the file that it changes, from the root of the repository.
        old: the text that it changes; it occurs exactly once.
        scenario, parameters: what tells it, as a user writes them; or the name of a test that does, for what no
            scenario can tell.
        equivalent: why nothing can tell it; empty for those that something must tell.
    """

    name: str
    file: str
    old: str
    new: str
    scenario: str
    parameters: str = ""
    equivalent: str = ""

    @property
    def is_of_a_revision(self) -> bool:
        """Whether it changes wrappers or hooks, and not the driver, the hardware or a check."""
        return self.file.startswith(REVISIONS)

    @property
    def is_told_by_a_test(self) -> bool:
        """Whether a test tells it, and no scenario."""
        return "::" in self.scenario

    def chosen(self) -> tuple[str, ...]:
        """Return the parameters without the revision."""
        return tuple(pair for pair in self.parameters.split() if not pair.startswith("revision="))

    def changed(self) -> str:
        """Return the changed file."""
        return replaced(ROOT / self.file, self.old, self.new)

    def differs(self, folder: Path) -> bool:
        """Whether what tells it shows anything else than with the code that it changes; a folder is for the copy."""
        if self.is_told_by_a_test:
            return self.is_red(folder)
        return self.is_new(folder) if self.is_of_a_revision else self.is_another(folder)

    def is_new(self, folder: Path) -> bool:
        """Whether a revision with the patch shows anything new, or breaks."""
        path = Path(self.file)
        base = path.parent.name
        copy = copy_of(base, folder / base, path.name, self.old, self.new)
        check = Check(copy, base, [Cell(self.scenario, self.chosen())], sentence)
        check.on(0)
        return check.is_worse

    def is_another(self, folder: Path) -> bool:
        """Whether emu with the patch shows other findings than emu without it."""
        chosen = [word for pair in self.chosen() for word in ("-p", pair)]
        check = ("merged", self.scenario, *chosen, "--json", "-j", "1", "--against")
        before = folder / "before.json"
        before.write_text(run_emu(ROOT, *check, "merged"))
        self.copy_to(folder)
        changes = {one["change"] for one in json.loads(run_emu(folder, *check, str(before)))["differences"]}
        return bool(changes & {"new", "gone", "breaks"})

    def is_red(self, folder: Path) -> bool:
        """Whether the named test fails with the patch."""
        self.copy_to(folder)
        shutil.copytree(ROOT / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        command = [sys.executable, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", self.scenario]
        return subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 1

    def copy_to(self, folder: Path) -> None:
        """Copy emu, with the patch."""
        for part in COPIED:
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / self.file).write_text(self.changed())


def run_emu(root: Path, *arguments: str) -> str:
    """Return what `emu check` prints, in a process of its own, with the package in a folder."""
    command = [sys.executable, "-m", "emu", "check", *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False).stdout
