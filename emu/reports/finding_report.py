"""The report of a finding: a headline, its facts, and the interleaving in columns; as text and as data."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import attrs

from emu.analysis.relevant import Interleaving
from emu.checks.findings import Finding
from emu.errors import printable
from emu.machine.machine import Machine
from emu.reports.columns import Row, fitted, rows
from emu.reports.fact import Fact
from emu.reports.facts import facts
from emu.reports.findings import data
from emu.reports.headlines import headline
from emu.reports.schedule_facts import schedule_facts
from emu.reports.whole_words import in_whole_words
from emu.running.shrink import Shortened

LABEL_LEAST = 9
"""The least width of the labels of facts, so that reports look alike."""


@attrs.frozen(slots=False)
class FindingReport:
    """A finding, ready to be shown.

    Attributes:
        shown: the execution, as all its findings see it.
        schedule: what is told of the schedule; None if nothing is.
        likewise: how many more findings of the same call or step are left out.
    """

    finding: Finding
    machine: Machine
    shown: Interleaving
    schedule: Shortened | None = None
    likewise: int = 0

    def headline(self) -> str:
        """Return the first line."""
        more = f" (and likewise {self.likewise} more)" if self.likewise else ""
        return headline(self.finding, self.machine.trace) + more

    @cached_property
    def facts(self) -> list[Fact]:
        """The facts, those about the schedule last."""
        return [*facts(self.finding, self.machine), *self.schedule_facts()]

    def schedule_facts(self) -> Iterator[Fact]:
        """Yield the facts about the schedule."""
        if self.schedule is not None:
            yield from schedule_facts(self.schedule, self.machine.trace)

    @cached_property
    def rows(self) -> list[Row]:
        """The steps that matter, the most relevant first."""
        return rows(self.finding, self.machine, self.shown, {step for fact in self.facts for step in fact.steps})

    def fact_lines(self, width: int) -> list[str]:
        """Return the facts, each in lines of its own."""
        indent = 4 + max([LABEL_LEAST, *(len(fact.label) for fact in self.facts)])
        return [
            line
            for fact in self.facts
            for number, text in enumerate(printable(fact.text).split("\n"))
            for line in in_whole_words(
                text, width, f"{f'  {fact.label if not number else str()}':<{indent}}", " " * indent
            )
        ]

    def columns(self, width: int) -> list[str]:
        """Return the interleaving in columns."""
        return fitted(self.rows, self.machine.trace.step, width)[1]

    def data(self) -> dict[str, Any]:
        """Return the report as JSON data: the finding, its facts, and the steps of its columns at 80 characters."""
        trace = self.machine.trace
        return {
            **data(self.finding, trace),
            "headline": self.headline(),
            "facts": {one.label: {**one.values, "text": one.text, "steps": list(one.steps)} for one in self.facts},
            "schedule": None if self.schedule is None else attrs.asdict(self.schedule),
            "steps": [
                {
                    "step": row.step,
                    "agent": row.agent,
                    "text": row.text,
                    "is_marked": row.is_marked,
                    "source": row.source,
                }
                for row in fitted(self.rows, trace.step)[0]
            ],
        }
