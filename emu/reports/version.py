"""Which emu has made a report: its version, and the commit of the checkout that it runs from."""

import os
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from emu.engine.sources import PACKAGE

SECONDS_MAX = 10


def made_by() -> dict[str, Any]:
    """Return emu's version and commit as JSON data; the commit is None where emu does not run from a checkout."""
    commit = git("rev-parse", "HEAD")
    changed = None if commit is None else git("status", "--porcelain", "--untracked-files=no")
    return {"version": installed(), "commit": commit, "is_changed": None if changed is None else bool(changed)}


def installed() -> str | None:
    """Return the version that is installed; None if emu runs without having been installed."""
    try:
        return version("emu-iommu")
    except PackageNotFoundError:
        return None


def git(*words: str) -> str | None:
    """Return what git says of emu's own checkout; None without a checkout, or without git."""
    checkout = PACKAGE.parent
    if not (checkout / ".git").exists():
        return None
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(checkout), *words]
    try:
        done = subprocess.run(  # noqa: S603 - the words are emu's own
            command, capture_output=True, text=True, check=False, timeout=SECONDS_MAX, env=environment
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
