"""Reading a log: its records, line by line and bounded, and filters over them."""

from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import attrs
import orjson

from emu.errors import ScenarioError, did_you_mean
from emu.files.bounded import size
from emu.reports.log import LOG_FORMAT, Record, agent_name

LINE_BYTES_MAX = 1 << 20
NAMES_MAX = 10_000


def read_records(file: BinaryIO, name: str) -> Iterator[Record]:
    """Yield the records of a log. Lines that hold no record are left out and counted.

    Raises:
        ScenarioError: after the last line, if some held no record, naming the first and their number; at once for a
            line that is too long, and for a log of another version.
    """
    number, left_out, first = 0, 0, ""
    while line := file.readline(LINE_BYTES_MAX + 1):
        number += 1
        if len(line) > LINE_BYTES_MAX:
            raise ScenarioError(f"line {number} of {name!r} is longer than {size(LINE_BYTES_MAX)}: it is no log of emu")
        try:
            record = parse_record(line, f"line {number} of {name!r}")
        except ScenarioError as error:
            left_out, first = left_out + 1, first or str(error)
            continue
        refuse_other_version(record, name)
        yield record
    if left_out:
        raise ScenarioError(f"{first}; left out: {left_out} of {number} lines")


def refuse_other_version(record: Record, name: str) -> None:
    """Refuse a log whose first record names another format.

    Raises:
        ScenarioError: naming the format.
    """
    named = record.get("format", LOG_FORMAT)
    if record["event"] == "execution.begin" and named != LOG_FORMAT:
        raise ScenarioError(f"{name!r} has the format {str(named)[:40]!r}, not {LOG_FORMAT!r}: make it anew")


def parse_record(line: bytes, where: str) -> Record:
    """Return the record of a line.

    Raises:
        ScenarioError: if the line holds no record.
    """
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise ScenarioError(f"{where} is not JSON: it is no log of emu, or was cut off") from None
    is_record = isinstance(record, dict) and isinstance(record.get("event"), str)
    if not is_record or record.get("level") not in ("info", "warning"):
        raise ScenarioError(f"{where} has no event and level: it is no log of emu")
    found: Record = record
    return found


@attrs.frozen
class Filter:
    """What a user looks for in a log; None and an empty tuple let every record pass."""

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
            ScenarioError: for a text that is no number.
        """
        first, colon, last = (steps or ":").partition(":")
        if not colon:
            last = first
        bounds = (number(first, "--steps"), number(last, "--steps"))
        return cls(agents, domain, number(dfn or "", "--dfn"), events, *bounds)

    def passes(self, record: Record) -> bool:
        """Whether a record passes the filter."""
        return (
            (not self.agents or agent_name(record) in self.agents)
            and (self.domain is None or record.get("domain") == self.domain)
            and self.covers(record)
            and (not self.events or any(is_named(record["event"], event) for event in self.events))
            and within(record.get("step"), self.first, self.last)
        )

    def covers(self, record: Record) -> bool:
        """Whether the dfn is the record's, or lies in the record's range."""
        if self.dfn is None:
            return True
        pages = pages_of(record)
        return pages is not None and pages[0] <= self.dfn < sum(pages)


def pages_of(record: Record) -> tuple[int, int] | None:
    """Return the first dfn of a record and the number of pages; None if it is about no page."""
    first, count = record.get("dfn", ""), record.get("page_count", 1)
    order = record.get("page_order", 0)
    if not all(isinstance(one, int) and one >= 0 for one in (first, count, order)) or order > 64:
        return None
    return first, max(count, 1 << order)


@attrs.frozen
class Names:
    """The names of agents and events read so far, to suggest one for a name that a filter mistypes."""

    agents: set[str] = attrs.field(factory=set)
    events: set[str] = attrs.field(factory=set)

    def noting(self, records: Iterable[Record]) -> Iterator[Record]:
        """Yield records, and note the names in them."""
        for record in records:
            for names, name in ((self.agents, agent_name(record)), (self.events, record["event"])):
                if len(names) < NAMES_MAX:
                    names.add(name)
            yield record

    def missing(self, wanted: Filter) -> Iterator[str]:
        """Yield a sentence for each name of a filter that no record has."""
        for agent in wanted.agents:
            if agent not in self.agents:
                yield f"no agent of the log is {agent!r}{did_you_mean(agent, sorted(self.agents))}"
        for event in wanted.events:
            if not any(is_named(one, event) for one in self.events):
                yield f"no event of the log is {event!r}{did_you_mean(event, sorted(self.events))}"


def is_named(event: str, asked: str) -> bool:
    """Whether a text names an event or begins its name: "pte.write" or "pte" for "pte.write"."""
    return event == asked or event.startswith(f"{asked.rstrip('.')}.")


def within(step: Any, first: int | None, last: int | None) -> bool:
    """Whether a step lies in a range; a record without a step lies only in the range without ends."""
    if first is None and last is None:
        return True
    if not isinstance(step, int):
        return False
    return (first is None or first <= step) and (last is None or step <= last)


def number(text: str, option: str) -> int | None:
    """Return the number that a text writes in decimal or hexadecimal; None for an empty text.

    Raises:
        ScenarioError: naming the option.
    """
    if not text:
        return None
    try:
        return int(text, 0)
    except ValueError:
        raise ScenarioError(f"{option} takes numbers such as 12 or 0x1000, not {text!r}") from None
