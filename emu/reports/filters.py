"""Filters over the records of a log, and the names in it."""

from collections.abc import Iterable, Iterator
from typing import Any

import attrs
import orjson

from emu.errors import ScenarioError, did_you_mean
from emu.reports.log import Record, agent_name
from emu.reports.reading import Needles

NAMES_MAX = 10_000

FRAME_SHIFT, FRAME_MASK = 12, (1 << 40) - 1
"""Where the entries of each vendor's tables hold the number of a frame."""

ENTRY_EVENTS = ("pte.", "walk.read")
"""Events whose `old` and `value` are page-table entries."""

Range = tuple[int | None, int | None]
"""The first and the last number of a range; None where it has no such end."""


@attrs.frozen
class Filter:
    """What a user looks for in a log: a record passes if it has one of each attribute that is not empty."""

    executions: tuple[int, ...] = ()
    agents: tuple[str, ...] = ()
    domains: tuple[int, ...] = ()
    dfns: tuple[Range, ...] = ()
    frames: tuple[int, ...] = ()
    locks: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    steps: tuple[Range, ...] = ()

    @classmethod
    def parse(cls, *, dfns: Iterable[str], frames: Iterable[str], steps: Iterable[str], **others: Any) -> "Filter":
        """Return the filter that a user has written.

        Raises:
            ScenarioError: for a text that is no number.
        """
        return cls(
            dfns=tuple(range_of(text, "--dfn") for text in dfns),
            frames=tuple(number(text, "--frame") for text in frames),
            steps=tuple(range_of(text, "--steps") for text in steps),
            **others,
        )

    def passes(self, record: Record) -> bool:
        """Whether a record passes the filter."""
        return (
            (not self.events or any(is_named(record.get("event"), event) for event in self.events))
            and (not self.agents or any(agent in self.agents for agent in agents_of(record)))
            and (not self.executions or record.get("execution") in self.executions)
            and (not self.domains or record.get("domain") in self.domains)
            and (not self.locks or any(is_named(record.get("lock"), lock) for lock in self.locks))
            and (not self.steps or any(within(record.get("step"), *ends) for ends in self.steps))
            and (not self.dfns or any(covers(record, *ends) for ends in self.dfns))
            and (not self.frames or any(concerns_frame(record, frame) for frame in self.frames))
        )

    def needles(self) -> Needles:
        """Return what a line must hold to pass: for each attribute that is not empty, one of several texts."""
        groups = [
            [b'"event":' + beginning(event.rstrip(".")) for event in self.events],
            [needle for agent in self.agents for needle in agent_needles(agent)],
            [b'"execution":%d' % execution for execution in self.executions],
            [b'"domain":%d' % domain for domain in self.domains],
            [b'"lock":' + beginning(lock.rstrip(".")) for lock in self.locks],
            [b'"step":'] if self.steps else [],
            [b'"dfn":'] if self.dfns else [],
        ]
        return [group for group in groups if group]


def beginning(text: str) -> bytes:
    """Return how the JSON of a text, and of all that begin with it, begins."""
    return orjson.dumps(text)[:-1]


def agent_needles(agent: str) -> Iterator[bytes]:
    """Yield what a line of an agent holds: its name; in format 1, the number of a CPU."""
    yield orjson.dumps(agent)
    if agent.startswith("cpu"):
        yield b'"cpu":' + agent.removeprefix("cpu").encode()


def agents_of(record: Record) -> Iterator[str]:
    """Yield the agent that acted; of a finding, the agents that it names."""
    yield agent_name(record)
    if record.get("event") == "finding":
        named = record.get("agents")
        yield from (str(one) for one in (named if isinstance(named, list) else ()))
        yield from (str(record[key]) for key in ("device", "iommu") if key in record)


def covers(record: Record, first: int | None, last: int | None) -> bool:
    """Whether a page of a range is the record's, or lies in the record's range."""
    pages = pages_of(record)
    return pages is not None and (last is None or pages[0] <= last) and (first is None or first < sum(pages))


def pages_of(record: Record) -> tuple[int, int] | None:
    """Return the first dfn of a record and the number of pages; None if it is about no page."""
    first, count = record.get("dfn", ""), record.get("page_count", 1)
    order = record.get("page_order", 0)
    if not all(isinstance(one, int) and one >= 0 for one in (first, count, order)) or order > 64:
        return None
    return first, max(count, 1 << order)


def concerns_frame(record: Record, frame: int) -> bool:
    """Whether a record is about a frame: it names it, an entry of it leads to it, or it accesses memory there."""
    if record.get("mfn") == frame or frame_in(record.get("address")) == frame:
        return True
    keys = ("leaf", "old", "value") if str(record.get("event")).startswith(ENTRY_EVENTS) else ("leaf",)
    return any(frame_in(record.get(key)) == frame for key in keys)


def frame_in(word: Any) -> int | None:
    """Return the frame in an address or an entry; None for anything else, and for 0, which leads nowhere."""
    return (word >> FRAME_SHIFT) & FRAME_MASK if isinstance(word, int) and word > 0 else None


@attrs.frozen
class Names:
    """The names of agents, events and locks read so far, to suggest one for a name that a filter mistypes."""

    agents: set[str] = attrs.field(factory=set)
    events: set[str] = attrs.field(factory=set)
    locks: set[str] = attrs.field(factory=set)

    def noting(self, records: Iterable[Record]) -> Iterator[Record]:
        """Yield records, and note the names in them."""
        for record in records:
            self.note(record)
            yield record

    def note(self, record: Record) -> None:
        """Note the names in a record, while there are not too many."""
        if len(self.events) < NAMES_MAX:
            self.events.add(record["event"])
        if len(self.agents) < NAMES_MAX:
            self.agents.update(agents_of(record))
        if "lock" in record and len(self.locks) < NAMES_MAX:
            self.locks.add(str(record["lock"]))

    def missing(self, wanted: Filter) -> Iterator[str]:
        """Yield a sentence for each name of a filter that no record has."""
        for agent in wanted.agents:
            if agent not in self.agents:
                yield f"no agent of the log is {agent!r}{did_you_mean(agent, sorted(self.agents))}"
        for what, asked, names in (("event", wanted.events, self.events), ("lock", wanted.locks, self.locks)):
            for name in asked:
                if not any(is_named(one, name) for one in names):
                    yield f"no {what} of the log is {name!r}{did_you_mean(name, sorted(names))}"


def is_named(name: Any, asked: str) -> bool:
    """Whether a text is a name or begins it: "pte.write" or "pte" for "pte.write"."""
    return isinstance(name, str) and (name == asked or name.startswith(f"{asked.rstrip('.')}."))


def within(step: Any, first: int | None, last: int | None) -> bool:
    """Whether a step lies in a range; a record without a step lies only in the range without ends."""
    if first is None and last is None:
        return True
    if not isinstance(step, int):
        return False
    return (first is None or first <= step) and (last is None or step <= last)


def range_of(text: str, option: str) -> Range:
    """Return the ends of a range, FIRST:LAST; a number alone is both of them.

    Raises:
        ScenarioError: naming the option, for a text that is no range.
    """
    first, colon, last = text.partition(":")
    least, most = (number(one, option) if one else None for one in (first, last if colon else first))
    if least is not None and most is not None and least > most:
        raise ScenarioError(f"{option} {text} ends before it begins: write {last}:{first}")
    return least, most


def number(text: str, option: str) -> int:
    """Return the number that a text writes in decimal or hexadecimal.

    Raises:
        ScenarioError: naming the option.
    """
    try:
        return int(text, 0)
    except ValueError:
        raise ScenarioError(f"{option} takes numbers such as 12 or 0x1000, not {text!r}") from None
