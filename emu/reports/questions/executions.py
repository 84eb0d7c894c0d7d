"""The records of a log, one execution after the other, and what is in records; a user's file may lack anything."""

from collections.abc import Iterable, Iterator

from emu.reports.log import Record

RECORDS_MAX = 4_000_000
"""The most records of one execution that are kept together; longer ones are taken in parts."""


def executions(records: Iterable[Record], *events: str) -> Iterator[list[Record]]:
    """Yield the records of each execution: those whose event has one of these beginnings."""
    kept: list[Record] = []
    execution = None
    for record in records:
        begins = record["event"] == "execution.begin" or record.get("execution") != execution
        if begins or len(kept) >= RECORDS_MAX:
            execution = record.get("execution")
            if kept:
                yield kept
            kept = []
        if record["event"].startswith(events):
            kept.append(record)
    if kept:
        yield kept


def plain_in(record: Record, key: str) -> str | int | None:
    """Return a text or a number of a record; None if it has neither."""
    value = record.get(key)
    return value if isinstance(value, str | int) else None


def number_in(record: Record, key: str, default: int = 0) -> int:
    """Return a number of a record; the default if it has none."""
    value = record.get(key)
    return value if isinstance(value, int) else default
