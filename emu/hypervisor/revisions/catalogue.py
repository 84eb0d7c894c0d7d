"""The revisions that come with emu, as data: each with its story and its commit of Xen."""

from importlib import import_module
from pathlib import Path

import attrs

from emu.hypervisor.revisions.loader import ALL_BUNDLED, FOLDER


@attrs.frozen
class BundledRevision:
    """A revision that comes with emu.

    Attributes:
        story: the first line of its docstring.
        commit: its commit in Xen; None if the code was never committed.
    """

    name: str
    story: str
    commit: str | None
    folder: Path


def bundled_revisions() -> tuple[BundledRevision, ...]:
    """Return the revisions that come with emu, the oldest first. Neither wrappers nor hooks are run."""
    return tuple(describe(name) for name in ALL_BUNDLED)


def describe(name: str) -> BundledRevision:
    """Return a revision as its package describes it."""
    package = import_module(f"{__package__}.{name}")
    story, _, _ = (package.__doc__ or "").partition("\n")
    return BundledRevision(name, story, package.COMMIT, FOLDER / name)
