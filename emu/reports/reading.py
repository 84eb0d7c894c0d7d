"""Reading logs back: records from lines, line by line and bounded, and filters over them."""

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
    """Yield the records of a log. Lines that are none are left out, and counted.

    Raises:
        ScenarioError: after the last line, naming the first one that is no record, and how many are none; at once for a
            line without end, and for the log of another version.
    """
    number, foreign, first = 0, 0, ""
    while line := file.readline(LINE_BYTES_MAX + 1):
        number += 1
        if len(line) > LINE_BYTES_MAX:
            raise ScenarioError(f"line {number} of {name!r} is longer than {size(LINE_BYTES_MAX)}: it is no log of emu")
        try:
            record = parse_record(line, f"line {number} of {name!r}")
        except ScenarioError as error:
            foreign, first = foreign + 1, first or str(error)
            continue
        refuse_other_version(record, name)
        yield record
    if foreign:
        raise ScenarioError(f"{first}; left out: {foreign} of {number} lines")


def refuse_other_version(record: Record, name: str) -> None:
    """Refuse a log whose first record names a format that is not read here.

    Raises:
        ScenarioError: naming the format.
    """
    named = record.get("format", LOG_FORMAT)
    if record["event"] == "execution.begin" and named != LOG_FORMAT:
        raise ScenarioError(f"{name!r} has the format {str(named)[:40]!r}, not {LOG_FORMAT!r}: make it anew")


def parse_record(line: bytes, where: str) -> Record:
    """Return the record of a line.

    Raises:
        ScenarioError: if it is none.
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
            and (self.domain is None or record.get("domain") == self.domain)
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


@attrs.frozen
class Names:
    """Which agents and events a log has, as far as it has been read: to say what a filter has mistyped."""

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
        """Yield a sentence for each name that a filter asks for and no record has."""
        for agent in wanted.agents:
            if agent not in self.agents:
                yield f"no agent of the log is {agent!r}{did_you_mean(agent, sorted(self.agents))}"
        for event in wanted.events:
            if not any(is_named(one, event) for one in self.events):
                yield f"no event of the log is {event!r}{did_you_mean(event, sorted(self.events))}"


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
