"""The line of source that is named for a step."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from emu.engine import Trace
from emu.engine.sources import PACKAGE, Location, file_and_line, is_users
from emu.hypervisor.revisions.loader import WRAPPERS_FILE
from emu.platforms import PLATFORMS

LINES_KEPT = 1 << 12
"""Of how many lines it is remembered whether they belong to a revision: an execution comes by few lines, often."""

REVISIONS = PACKAGE / "hypervisor" / "revisions"


@lru_cache(maxsize=LINES_KEPT)
def is_in_revision(location: Location) -> bool:
    """Whether a line belongs to a revision of the wrappers, bundled or the user's."""
    path = Path(location.file)
    if path.is_relative_to(PACKAGE):
        return path.parent.parent == REVISIONS
    return path.name == WRAPPERS_FILE or path.stem in PLATFORMS


def line_of_change(trace: Trace, step: int) -> str | None:
    """Return the innermost line of the revision that took a step; else the scenario's line."""
    return line_in_revision(trace.lines.get(step, ()), innermost=True)


def line_of_call(trace: Trace, step: int) -> str | None:
    """Return the outermost line of the revision in which a step was taken, a wrapper's; else the scenario's line."""
    return line_in_revision(trace.lines.get(step, ()), innermost=False)


def line_of_caller(trace: Trace, step: int) -> str | None:
    """Return the line of the scenario in which a step was taken."""
    return line_in_scenario(trace.lines.get(step, ()))


def line_in_scenario(lines: Sequence[Location]) -> str | None:
    """Return the innermost of these lines that is the scenario's."""
    outside = [line for line in lines if is_users(line)]
    return file_and_line(outside[-1]) if outside else None


def line_in_revision(lines: Sequence[Location], *, innermost: bool) -> str | None:
    """Return the innermost or outermost of these lines that is the revision's; else the scenario's."""
    inside = [line for line in lines if is_in_revision(line)]
    if not inside:
        return line_in_scenario(lines)
    return file_and_line(inside[-1] if innermost else inside[0])
