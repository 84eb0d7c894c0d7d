"""Reading logs back: records from lines, line by line and bounded, and filters over them."""

from collections.abc import Iterator
from typing import Any, BinaryIO

import attrs
import orjson

from emu.errors import ScenarioError
from emu.reports.log import Record, agent_name

LINE_BYTES_MAX = 1 << 20


def read_records(file: BinaryIO, name: str) -> Iterator[Record]:
    """Yield the records of a log.

    Raises:
        ScenarioError: naming the first line that is no record.
    """
    number = 0
    while line := file.readline(LINE_BYTES_MAX + 1):
        number += 1
        yield parse_record(line, f"line {number} of {name!r}")


def parse_record(line: bytes, where: str) -> Record:
    """Return the record of a line.

    Raises:
        ScenarioError: if it is none.
    """
    if len(line) > LINE_BYTES_MAX:
        raise ScenarioError(f"{where} is longer than {LINE_BYTES_MAX >> 20} MiB: it is no log of emu")
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise ScenarioError(f"{where} is not JSON: it is no log of emu, or was cut off") from None
    is_record = isinstance(record, dict) and isinstance(record.get("event"), str)
    if not is_record or record.get("level") not in {"info", "warning"}:
        raise ScenarioError(f"{where} has no event and level: it is no log of emu")
    found: Record = record
    return found


@attrs.frozen
class Filter:
    """What a record must be about; None and empty ask for nothing."""

    agents: tuple[str, ...] = ()
    domain: int | None = None
    dfn: int | None = None
    events: tuple[str, ...] = ()
    first: int | None = None
    last: int | None = None

    @classmethod
    def parse(
        cls, *, agents: tuple[str, ...], domain: int | None, dfn: str | None, events: tuple[str, ...], steps: str | None
    ) -> "Filter":
        """Return the filter that a user has written.

        Raises:
            ScenarioError: for a number that is none.
        """
        first, colon, last = (steps or ":").partition(":")
        if not colon:
            last = first
        bounds = (number(first, "--steps"), number(last, "--steps"))
        return cls(agents, domain, number(dfn or "", "--dfn"), events, *bounds)

    def passes(self, record: Record) -> bool:
        """Whether a record is asked for."""
        return (
            (not self.agents or agent_name(record) in self.agents)
            and self.domain in {None, record.get("domain")}
            and self.covers(record)
            and (not self.events or any(is_named(record["event"], event) for event in self.events))
            and within(record.get("step"), self.first, self.last)
        )

    def covers(self, record: Record) -> bool:
        """Whether a record is about the dfn, be it within a range."""
        first, count = record.get("dfn"), record.get("page_count", 1)
        order = record.get("page_order", 0)
        if self.dfn is None:
            return True
        if not all(isinstance(one, int) and one >= 0 for one in (first, count, order)) or order > 64:
            return False
        return first is not None and first <= self.dfn < first + max(count, 1 << order)


def is_named(event: str, asked: str) -> bool:
    """Whether an event has a name, or one that begins with it: "pte" for "pte.write"."""
    return event == asked or event.startswith(f"{asked.rstrip('.')}.")


def within(step: Any, first: int | None, last: int | None) -> bool:
    """Whether a step lies in a range; a record without a step only in the open one."""
    if first is None and last is None:
        return True
    if not isinstance(step, int):
        return False
    return (first is None or first <= step) and (last is None or step <= last)


def number(text: str, option: str) -> int | None:
    """Return a number in decimal or hexadecimal, None for nothing.

    Raises:
        ScenarioError: naming the option.
    """
    if not text:
        return None
    try:
        return int(text, 0)
    except ValueError:
        raise ScenarioError(f"{option} takes numbers such as 12 or 0x1000, not {text!r}") from None
