"""The table of defects, as docs/defects.md has it."""

import textwrap
from collections.abc import Iterator

from emu.hypervisor.revisions.loader import BUNDLED
from emu.scenarios.defects import DEFECTS, Cell, Defect

WIDTH = 120

HEAD = """\
# Defects

The defects and hazards of the seed patch, D1 to D24, and of its merged form, C1 to C6: what shows each, what is
declared of each revision, and for those that nothing shows, why. `emu explore SCENARIO -p PARAMETER -p iommu=VENDOR
-p revision=NAME` shows a cell, and the tests execute every one: the first kind of finding shows, those after it may
come with it. *Mended by* names the commit of Xen. R1 to R6 are saved as schedules in `tests/unchanged/`, too, and
replayed by each run of the tests.

This page is generated from `emu/scenarios/defects.py` and the scenarios: `python -m tests.test_defects` renews it.
"""


def page() -> str:
    """Return the page."""
    return "\n".join((HEAD, *(section for defect in DEFECTS for section in about(defect))))


def about(defect: Defect) -> Iterator[str]:
    """Yield the lines about a defect."""
    mended = f" Mended by {defect.mended}." if defect.mended else " No commit is known that mends it."
    yield f"## {defect.name}\n"
    yield f"{textwrap.fill(f'{defect.says[0].upper()}{defect.says[1:]}.{mended}', WIDTH)}\n"
    if defect.unseen:
        yield f"{textwrap.fill(f'No scenario shows it: {defect.unseen}.', WIDTH)}\n"
        return
    rows = [(named(cell), vendor, *verdicts) for cell, vendor, verdicts in defect.verdicts()]
    yield from table([("scenario", "vendor", *BUNDLED), *rows])
    yield ""


def named(cell: Cell) -> str:
    """Return a cell as a user writes it, as code."""
    return f"`{cell.scenario} {cell.parameters}`".replace(" `", "`")


def table(rows: list[tuple[str, ...]]) -> Iterator[str]:
    """Yield the lines of a table; the first row is its head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    head, *rest = (f"| {line} |" for line in lines)
    yield head
    yield "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    yield from rest
