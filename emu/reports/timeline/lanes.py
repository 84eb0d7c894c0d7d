"""The lanes of a timeline: one for each CPU, device and engine, and one for the windows of each unit."""

import re
from collections.abc import Iterable, Iterator

import attrs

from emu.reports.recorded import Recorded
from emu.reports.spans import Span

KINDS = ("cpu", "device", "engine", "windows")
"""The order of lanes."""

ROWS_APART = {"hypercall": 0, "call": 0, "held": 1, "waiting": 1, "flag": 2, "window": 3}
"""Spans of different groups share no row: calls nest, and the locks that they hold need not nest with them."""

ROWS_MAX = 60
"""How many rows a group has at most; spans for which there is no room share the last one."""


@attrs.frozen
class Lane:
    """A lane.

    Attributes:
        name: of the agent; of windows, of their unit.
        spans: with the row of each.
        rows: how many rows they take.
    """

    kind: str
    name: str
    spans: list[tuple[int, Span]]
    rows: int


def lanes(recorded: Recorded, spans: Iterable[Span]) -> list[Lane]:
    """Return the lanes from top to bottom."""
    mine: dict[tuple[str, str], list[Span]] = {(event.kind, event.agent): [] for event in recorded.events}
    kinds = {agent: kind for kind, agent in mine}
    for span in spans:
        kind = "windows" if span.sort == "window" else kinds[span.agent]
        mine.setdefault((kind, span.agent), []).append(span)
    return [
        Lane(kind, name, placed := list(in_rows(mine[kind, name])), 1 + max((row for row, _ in placed), default=-1))
        for kind, name in sorted(mine, key=lambda one: (KINDS.index(one[0]), in_words(one[1])))
    ]


def in_rows(spans: Iterable[Span]) -> Iterator[tuple[int, Span]]:
    """Yield spans with a row each; spans of one row do not overlap."""
    groups: dict[int, list[Span]] = {}
    for span in spans:
        groups.setdefault(ROWS_APART[span.sort], []).append(span)
    below = 0
    for group in sorted(groups):
        ends: list[int] = []
        for span in groups[group]:
            free = (row for row, end in enumerate(ends) if end <= span.first and row >= span.depth)
            row = min(next(free, max(len(ends), span.depth)), ROWS_MAX - 1)
            ends.extend([0] * (row + 1 - len(ends)))
            ends[row] = span.last
            yield below + row, span
        below += len(ends)


def in_words(name: str) -> tuple[tuple[int, str], ...]:
    """Return a key by which cpu2 comes before cpu10."""
    return tuple((len(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", name))
