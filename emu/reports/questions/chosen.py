"""The records of a log with the columns that a user chooses."""

from collections.abc import Iterable, Iterator

from emu.errors import ScenarioError, did_you_mean
from emu.reports.log import Record, agent_name
from emu.reports.questions.table import Column, Question, Row
from emu.reports.vocabulary import HEXADECIMAL, KEYS, NUMBERS

WIDTHS = {"step": 5, "agent": 8, "event": 19, "device": 8, "iommu": 6, "call": 9, "lock": 20, "after": 8}
WIDTH_OF_ADDRESS, WIDTH_OF_NUMBER, WIDTH_OF_TEXT = 12, 6, 12


def chosen(text: str) -> Question:
    """Return the question for keys that a user has written with commas between them.

    Raises:
        ScenarioError: for a key that no log has.
    """
    keys = [key.strip() for key in text.split(",")]
    for key in keys:
        if key not in KEYS:
            raise ScenarioError(f"--columns: no log has the key {key!r}{did_you_mean(key, KEYS)}")

    def rows(records: Iterable[Record]) -> Iterator[Row]:
        for record in records:
            found = {**record, "agent": agent_name(record)}
            yield {key: found[key] for key in keys if key in found}

    return Question(rows, tuple(map(column, keys)), "the log is empty", by_execution=False, of_filtered=True)


def column(key: str) -> Column:
    """Return the column of a key."""
    sort = WIDTH_OF_ADDRESS if key in HEXADECIMAL else WIDTH_OF_NUMBER if key in NUMBERS else WIDTH_OF_TEXT
    return Column(key, key, max(WIDTHS.get(key, sort), len(key)))
