"""An interleaving as a table: a column for each agent that matters, a line for each step, the rest folded.

A text may run on to the right, for only one agent takes a step: so columns stand closer than their texts are long.
"""

import textwrap
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import PurePosixPath

import attrs

from emu.analysis.relevant import Interleaving, most_relevant, relevant
from emu.analysis.source_lines import line_of_change
from emu.checks.findings import Finding
from emu.engine import Agent
from emu.errors import printable
from emu.machine.machine import Machine
from emu.machine.role import WITNESS
from emu.reports.counts import count
from emu.reports.step_texts import StepTexts

LINES_MAX = 40
WIDTH = 80
WIDTH_WITH_SOURCES = 120
"""From this width on, the line of source of each step is shown."""

CANDIDATES_MAX = 60
"""How many steps are considered for the lines: the most relevant ones."""

LINES_OF_STEP = 3
"""About how many lines a table loses at most with a step: the step's own, one that was wrapped, and a fold."""

STRIDE_MAX = 28
"""The most characters from one column to the next."""

TEXT_LEAST = 18
"""How many characters a text of the last column has at least, before it is wrapped."""

OTHERS = "others"


@attrs.frozen
class Row:
    """A step as it is shown.

    Attributes:
        agent: the name of the agent.
        head: the words above the agent's column.
        place: sorts the columns: CPUs first, then devices, then units, each in order of creation.
    """

    step: int
    agent: str
    head: tuple[str, ...]
    place: tuple[int, int]
    text: str
    rank: int
    is_marked: bool
    source: str | None


def rows(finding: Finding, machine: Machine, shown: Interleaving, marked: Collection[int]) -> list[Row]:
    """Return the steps that matter to a finding, the most relevant first.

    Args:
        marked: the finding's own steps.
    """
    texts, found = StepTexts.of(machine, shown), []
    for one in islice(most_relevant(relevant(finding, shown, marked)), CANDIDATES_MAX):
        text = "; ".join(texts.text(event) for event in one.events)
        source = line_of_change(shown.trace, one.step) if one.step else None
        head = tuple(one.agent.name.replace(WITNESS, " (by emu)").split(" ", 1))
        found.append(Row(one.step, one.agent.name, head, place(one.agent), text, one.rank, one.is_marked, source))
    return found


def place(agent: Agent) -> tuple[int, int]:
    """Return a key that sorts the columns."""
    kinds = ("cpu", "device", "iommu")
    return next((number for number, kind in enumerate(kinds) if kind in agent.labels), len(kinds)), agent.number


def fitted(found: Sequence[Row], last_step: int, width: int = WIDTH) -> tuple[list[Row], list[str]]:
    """Return the rows of the longest table that has no more than `LINES_MAX` lines, in order, and its lines.

    Args:
        found: the rows, the most relevant first.
    """
    number = len(found)
    while number > 0:
        shown = sorted(found[:number], key=lambda row: (row.step, row.place))
        lines = Table.of(shown, last_step, width).lines()
        if len(lines) <= LINES_MAX:
            return shown, lines
        number -= max(1, (len(lines) - LINES_MAX) // LINES_OF_STEP)
    return [], []


@attrs.frozen
class Table:
    """A table of steps.

    Attributes:
        shown: the rows, in order.
        starts: where the column of each agent begins; an agent that has none shares the last one.
        heads: the words above each column, by the place where it begins.
        digits: the width of a step's number.
        width: of the texts, and of the sources right of them.
    """

    shown: Sequence[Row]
    last_step: int
    starts: dict[str, int]
    heads: dict[int, tuple[str, ...]]
    digits: int
    width: int
    source_width: int

    @classmethod
    def of(cls, shown: Sequence[Row], last_step: int, width: int) -> "Table":
        """Return the table of these rows for a width."""
        digits = max(4, len(str(last_step)))
        sources = max((len(short(row.source)) for row in shown), default=0) if width >= WIDTH_WITH_SOURCES else 0
        width -= sources + 2 if sources else 0
        names = columns(shown, (width - digits - 4 - TEXT_LEAST) // least_stride(shown) + 1)
        margin, owners = digits + 4, [name for name in names if name != OTHERS]
        room = {name: widest(shown, owners, name) for name in names}
        strides = [(width - margin - room[name]) // number for number, name in enumerate(names) if number]
        widest_head = least_stride(shown)
        stride = max(widest_head, min([STRIDE_MAX, *strides]))
        begins = {name: margin + stride * number for number, name in enumerate(names)}
        starts = {row.agent: begins.get(row.agent, begins.get(OTHERS, margin)) for row in shown}
        heads = {begins[row.agent]: row.head for row in shown if row.agent in begins}
        if OTHERS in begins:
            heads[begins[OTHERS]] = (OTHERS,)
        return cls(shown, last_step, starts, heads, digits, width, sources)

    def lines(self) -> list[str]:
        """Return the lines of the table."""
        return [*self.header(), *self.body()]

    def header(self) -> Iterator[str]:
        """Yield the names of the agents, each above its column."""
        for number in range(max(map(len, self.heads.values()), default=0)):
            line = f"  {'step':>{self.digits}}" if not number else ""
            for start, head in sorted(self.heads.items()):
                if number < len(head):
                    line = f"{line:<{start}}{head[number]}"
            yield line

    def body(self) -> Iterator[str]:
        """Yield the steps, and a line for those between them that are left out."""
        before = 0
        for row in self.shown:
            yield from self.folded(row.step - before - 1)
            yield from self.row(row)
            before = row.step
        yield from self.folded(self.last_step - before)

    def folded(self, steps: int) -> Iterator[str]:
        """Yield a line for steps that are left out, if there are any."""
        if steps > 0:
            yield f"  {'...':>{self.digits}}  {count(steps, 'step')}"

    def row(self, row: Row) -> Iterator[str]:
        """Yield the lines of a step."""
        start = self.starts[row.agent]
        is_other = self.heads[start] == (OTHERS,)
        text = f"{row.agent}: {row.text}" if is_other else row.text
        mark, step = ">" if row.is_marked else " ", row.step
        first, *rest = textwrap.wrap(text, max(self.width - start, TEXT_LEAST), subsequent_indent="  ") or [""]
        line = f"{f'{mark} {step:>{self.digits}}':<{start}}{first}"
        if self.source_width and row.source:
            line = f"{line:<{self.width + 2}}{short(row.source)}"
        yield line
        for more in rest:
            yield f"{'':<{start}}{more}"


def least_stride(shown: Iterable[Row]) -> int:
    """Return the least distance of columns whose heads must not touch."""
    return 2 + max((len(word) for row in shown for word in row.head), default=0)


def widest(shown: Iterable[Row], owners: Sequence[str], name: str) -> int:
    """Return the width of the widest text in a column."""
    of_it = (row for row in shown if (row.agent == name if name != OTHERS else row.agent not in owners))
    return max((len(row.text) + (len(row.agent) + 2 if name == OTHERS else 0) for row in of_it), default=0)


def columns(shown: Sequence[Row], fit: int) -> list[str]:
    """Return the agents that have a column, in order; where they do not fit, the least relevant share the last."""
    places = {row.agent: row.place for row in sorted(shown, key=lambda row: row.place)}
    if len(places) <= fit:
        return list(places)
    weights = {name: [row.rank for row in shown if row.agent == name] for name in places}
    kept = sorted(places, key=lambda name: (min(weights[name]), -len(weights[name])))[: max(1, fit - 1)]
    return [*(name for name in places if name in kept), OTHERS]


def short(source: str | None) -> str:
    """Return a line of source with no more than the last folder of its path."""
    return "" if source is None else printable("/".join(PurePosixPath(source).parts[-2:]))
