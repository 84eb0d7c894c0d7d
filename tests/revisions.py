"""Copies of bundled revisions in which one text is another."""

from pathlib import Path

from emu.hypervisor.revisions.loader import BUNDLED, FOLDER
from emu.platforms import PLATFORMS

OF_THE_PATCH = [name for name, platform in PLATFORMS.items() if platform.revisions == BUNDLED]
"""The vendors whose machines run the revisions that the seed patch is about."""


def replaced(path: Path, old: str, new: str) -> str:
    """Return the text of a file with another in the place of one that occurs exactly once."""
    text = path.read_text()
    assert text.count(old) == 1, f"{old!r} occurs {text.count(old)} times in {path}"
    return text.replace(old, new)


def change(path: Path, old: str, new: str) -> None:
    """Replace a text in a file; it must occur exactly once."""
    path.write_text(replaced(path, old, new))


def copy_of(name: str, folder: Path, file: str = "", old: str = "", new: str = "") -> str:
    """Copy a bundled revision, with one text replaced; return its path."""
    folder.mkdir()
    for path in (FOLDER / name).glob("*.py"):
        (folder / path.name).write_text(path.read_text())
    if file:
        change(folder / file, old, new)
    return str(folder)
