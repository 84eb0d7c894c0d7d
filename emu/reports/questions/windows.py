"""All windows of a log by length, the longest first."""

from collections.abc import Iterable, Iterator

from emu.reports.log import Record
from emu.reports.questions.executions import number_in
from emu.reports.questions.table import Column, Question, Row


def windows(records: Iterable[Record]) -> Iterator[Row]:
    """Yield the windows; those of one length as they stand in the log."""
    found = (record for record in records if record["event"] == "window")
    yield from sorted(found, key=lambda row: number_in(row, "steps"), reverse=True)


def end(row: Row) -> str:
    """Say whether anything closed the window, and whether its flush had been put off."""
    notes = ["open" if row.get("still_open") else "", "deferred" if row.get("deferred") else ""]
    return ", ".join(filter(None, notes))


WINDOWS = Question(
    windows,
    (
        Column("steps", "steps", 6),
        Column("cycles", "cycles", 7),
        Column("uses", "uses", 5),
        Column("execution", "execution", 9),
        Column("opened", "opened", 6),
        Column("closed", "closed", 6),
        Column("iommu", "unit", 6),
        Column("domain", "dom", 4),
        Column("dfn", "dfn", 10),
        Column("still_open", "", 0, end),
    ),
    "the log has no window: no entry that devices could use was replaced",
    by_execution=False,
)
