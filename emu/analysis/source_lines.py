"""Which line of source to name for a step, and how."""

from pathlib import Path

from emu.engine import Trace
from emu.engine.sources import PACKAGE, Location, file_and_line, is_users
from emu.hypervisor.revisions.loader import WRAPPERS_FILE
from emu.platforms import PLATFORMS

REVISIONS = PACKAGE / "hypervisor" / "revisions"


def is_in_revision(location: Location) -> bool:
    """Whether a line belongs to a revision of the wrappers, a bundled one or a folder of the user's."""
    path = Path(location.file)
    if path.is_relative_to(PACKAGE):
        return path.parent.parent == REVISIONS
    return path.name == WRAPPERS_FILE or path.stem in PLATFORMS


def line_of_change(trace: Trace, step: int) -> str | None:
    """Return the line of the revision that took a step, the innermost one; else the scenario's."""
    return line_in_revision(trace, step, innermost=True)


def line_of_call(trace: Trace, step: int) -> str | None:
    """Return the line of the revision's wrapper in which a step was taken, the outermost one; else the scenario's."""
    return line_in_revision(trace, step, innermost=False)


def line_of_caller(trace: Trace, step: int) -> str | None:
    """Return the line of the scenario in which a step was taken."""
    outside = [line for line in trace.lines.get(step, ()) if is_users(line)]
    return file_and_line(outside[-1]) if outside else None


def line_in_revision(trace: Trace, step: int, *, innermost: bool) -> str | None:
    """Return a line of the revision, from inside or from outside; else the scenario's."""
    lines = [line for line in trace.lines.get(step, ()) if is_in_revision(line)]
    if not lines:
        return line_of_caller(trace, step)
    return file_and_line(lines[-1] if innermost else lines[0])
