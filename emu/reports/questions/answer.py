"""The answer to what a user asks of a log: the records that pass the filters, or the rows of a question."""

from collections.abc import Iterable, Iterator

import attrs

from emu.reports.filters import Filter, Names
from emu.reports.log import Record
from emu.reports.questions.table import Question, Row
from emu.reports.reading import LeftOutError, Needles


@attrs.define
class Answer:
    """An answer, and what is to be said besides when all of it has been taken.

    Attributes:
        question: None for the records themselves.
        left_out: says which lines held no record; None if all did.
        shown: how many records or rows there were.
    """

    wanted: Filter
    question: Question | None
    names: Names = attrs.field(factory=Names)
    left_out: LeftOutError | None = None
    shown: int = 0

    @property
    def first(self) -> Filter:
        """What records have to pass; for a question that filters its rows, the execution only."""
        if self.question is None or self.question.of_filtered:
            return self.wanted
        return Filter(executions=self.wanted.executions)

    def needles(self) -> Needles:
        """Return what a line must hold to be of use."""
        return self.first.needles()

    def of(self, records: Iterable[Record]) -> Iterator[Record | Row]:
        """Yield the records or the rows to be shown."""
        passed: Iterable[Record] = filter(self.first.passes, self.names.noting(self.read(records)))
        if self.question is not None:
            rows = self.question.rows(passed)
            passed = rows if self.question.of_filtered else filter(self.wanted.passes, rows)
        for one in passed:
            self.shown += 1
            yield one

    def read(self, records: Iterable[Record]) -> Iterator[Record]:
        """Yield the records of a log, and keep what it says at its end of lines that hold none."""
        try:
            yield from records
        except LeftOutError as error:
            self.left_out = error

    def remarks(self) -> list[str]:
        """Return sentences: that nothing is shown, and which names of the filters the log does not have."""
        missing = list(self.names.missing(self.wanted))
        if self.shown:
            return missing
        if self.question is None or self.question.of_filtered:
            return ["no event passes the filters", *missing]
        return [self.question.nothing if self.wanted == Filter() else "no row passes the filters", *missing]
