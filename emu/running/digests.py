"""The code that a saved schedule needs: a scenario and a revision, by name and by a digest of their files."""

import hashlib
from collections.abc import Collection
from pathlib import Path

import attrs

from emu.bundled import folder
from emu.hypervisor.revisions.loader import is_bundled
from emu.platforms import Platform


@attrs.frozen
class Code:
    """A scenario or a revision: its name, and a digest of its files."""

    name: str
    digest: str
    is_bundled: bool

    @classmethod
    def of_scenario(cls, named: str, name: str) -> "Code":
        """Identify a scenario by its file.

        Args:
            named: the scenario as the user named it.
        """
        is_bundled = not named.endswith(".py")
        path = folder("scenarios") / f"{named}.py" if is_bundled else Path(named)
        return cls(name, digest([path]), is_bundled)

    @classmethod
    def of_revision(cls, named: str, platform: Platform) -> "Code":
        """Identify a revision by those of its files that a vendor's machine loads."""
        revision = platform.load_revision(named)
        return cls(revision.folder.name, digest(list(revision.files)), is_bundled(named))

    def comes_with(self, bundled: Collection[str]) -> bool:
        """Whether the code comes with emu: it says so, and its name is among the bundled names."""
        return self.is_bundled and self.name in bundled


def digest(paths: list[Path]) -> str:
    """Return a digest of files, in order."""
    return hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in paths)).hexdigest()[:16]
