"""Mutants: wrong patches, each as data, and how to see whether anything tells one from the code that it changes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import attrs

from emu.reports.findings import sentence
from emu.running.cells import Cell
from emu.running.check import Change, Check

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

    def pairs(self) -> dict[str, str]:
        """Return the parameters."""
        return dict(pair.split("=", 1) for pair in self.parameters.split())

    def changed(self) -> str:
        """Return the changed file."""
        text = (ROOT / self.file).read_text()
        assert text.count(self.old) == 1, f"{self.name}: its text occurs {text.count(self.old)} times in {self.file}"
        return text.replace(self.old, self.new)

    def differs(self, folder: Path) -> bool:
        """Whether what tells it shows anything else than with the code that it changes; a folder is for the copy."""
        if "::" in self.scenario:
            return self.is_red(folder)
        return self.is_new(folder) if self.is_of_a_revision else self.is_another(folder)

    def is_new(self, folder: Path) -> bool:
        """Whether a revision with the patch shows anything new, or breaks."""
        path = Path(self.file)
        copy = folder / path.parent.name
        shutil.copytree(ROOT / path.parent, copy)
        (copy / path.name).write_text(self.changed())
        chosen = tuple(f"{name}={value}" for name, value in self.pairs().items() if name != "revision")
        check = Check(str(copy), path.parent.name, [Cell(self.scenario, chosen)], sentence)
        check.on(0)
        return any(one.change in {Change.NEW, Change.BREAKS} for one in check.differences)

    def is_another(self, folder: Path) -> bool:
        """Whether emu with the patch shows other findings than emu without it."""
        values = self.pairs()
        revision = values.pop("revision", "merged")
        chosen = [word for name, value in values.items() for word in ("-p", f"{name}={value}")]
        check = (revision, self.scenario, *chosen, "--json", "-j", "1", "--against")
        before = folder / "before.json"
        before.write_text(run_emu(ROOT, *check, revision))
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
