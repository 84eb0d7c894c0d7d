"""One execution as its log tells it: events, findings and windows, of which timelines and exports are made.

A log may come from anywhere, so that every value that is computed with is checked here.
"""

import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import groupby
from typing import Any, TypeGuard

import attrs
import orjson

from emu.errors import ScenarioError, printable
from emu.reports.log import Record, agent_name
from emu.reports.vocabulary import is_in_hexadecimal

EVENTS_MAX = 100_000
STEPS_MAX = 1_000_000
NUMBER_MAX = (1 << 53) - 1
"""The largest number that every reader of JSON keeps exactly."""
TEXT_MAX = 2_000
"""How many characters of a value are shown."""

BESIDES_EVENTS = frozenset({"execution.begin", "execution.end", "finding", "window"})
STEPS_IN_WORDS = re.compile(r"\bsteps? (\d+)(?: and (\d+))?")
"""How a finding's sentence names steps; "10 steps past the return" names none."""


@attrs.frozen
class Event:
    """A record of a step.

    Attributes:
        kind: the kind of the agent: cpu, device or engine.
        after: steps of other agents on which the step directly depends.
    """

    step: int
    agent: str
    kind: str
    name: str
    record: Record
    after: tuple[int, ...]

    @classmethod
    def of(cls, record: Record, log: str) -> "Event":
        """Return the event of a record.

        Raises:
            ScenarioError: if its step is no number of a step.
        """
        step = record["step"]
        if not is_number(step, STEPS_MAX):
            shown = text_of(step)[:40]
            raise ScenarioError(f"{log!r} has an event at step {shown}, which is no number from 0 to {STEPS_MAX}")
        after = record.get("after", ())
        steps = after if isinstance(after, list | tuple) else ()
        kind = "cpu" if "cpu" in record else "device" if "device" in record else "engine"
        known = tuple(sorted({one for one in steps if is_number(one, STEPS_MAX)}))
        return cls(step, text_of(agent_name(record)) or "nobody", kind, text_of(record["event"]), record, known)


@attrs.frozen
class Recorded:
    """One execution.

    Attributes:
        header: its record `execution.begin`; empty if the log lacks that.
        events: in the order of their steps.
        findings, windows: their records.
    """

    header: Record
    events: list[Event]
    findings: list[Record]
    windows: list[Record]

    @classmethod
    def of(cls, records: Iterable[Record], log: str) -> "Recorded":
        """Sort the records of one execution.

        Raises:
            ScenarioError: if the log has no event of a step, too many, or one at no step.
        """
        found = cls({}, [], [], [])
        for record in records:
            if record["event"] == "execution.begin":
                found.header.update(record)
            elif record["event"] == "finding":
                found.findings.append(record)
            elif record["event"] == "window":
                found.windows.append(record)
            elif "step" in record and record["event"] not in BESIDES_EVENTS:
                found.events.append(Event.of(record, log))
        if not found.events:
            raise ScenarioError(f"{log!r} has no event of a step: there is nothing to show")
        if len(found.events) > EVENTS_MAX:
            raise ScenarioError(f"the execution has more than {EVENTS_MAX} events, the most that can be shown")
        found.events.sort(key=lambda event: event.step)
        return found

    @property
    def last(self) -> int:
        """Its last step."""
        return self.events[-1].step

    def steps_of(self, finding: Record) -> list[int]:
        """Return the steps that a finding is about: its own, and those that its sentence names."""
        named = STEPS_IN_WORDS.findall(message_of(finding))
        steps = {int(one) for pair in named for one in pair if one and len(one) <= len(str(STEPS_MAX))}
        own = finding.get("step")
        return sorted((steps | ({own} if is_number(own, STEPS_MAX) else set())) & self.steps)

    @cached_property
    def steps(self) -> frozenset[int]:
        """The steps that have events."""
        return frozenset(event.step for event in self.events)


def one_execution(records: Iterable[Record], number: int | None, log: str) -> list[Record]:
    """Return the records of one execution of a log: the first with this number, or with a finding, or the first.

    Raises:
        ScenarioError: if no execution has the number, or the execution has too many records.
    """
    first: list[Record] = []
    numbers: list[int] = []
    for execution in executions(records):
        found = execution[0].get("execution")
        if found == number or (number is None and any(record["event"] == "finding" for record in execution)):
            return execution
        first = first or execution
        if is_number(found, NUMBER_MAX) and len(numbers) < 5:
            numbers.append(found)
    if number is None:
        return first
    known = f"; it has {', '.join(map(str, numbers))}{' and so on' if len(numbers) == 5 else ''}" if numbers else ""
    raise ScenarioError(f"{log!r} has no execution {number}{known}")


def executions(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Yield the records of each execution; those before the first beginning are one, too.

    Raises:
        ScenarioError: if one has too many.
    """
    count, execution = 0, list[Record]()

    def place(record: Record) -> int:
        nonlocal count
        count += int(record["event"] == "execution.begin")
        return count

    for _, group in groupby(records, place):
        execution = []
        for record in group:
            if len(execution) > 2 * EVENTS_MAX:
                raise ScenarioError(f"an execution has more than {2 * EVENTS_MAX} records, the most that can be shown")
            execution.append(record)
        yield execution


def is_number(value: Any, most: int) -> TypeGuard[int]:
    """Whether a value of a log is a number from 0 to `most`."""
    return type(value) is int and 0 <= value <= most


def number_of(record: Record, key: str) -> int | None:
    """Return the number that a record has under a key; None if it has none."""
    value = record.get(key)
    return value if is_number(value, NUMBER_MAX) else None


def message_of(finding: Record) -> str:
    """Return the sentence of a finding's record."""
    return text_of(finding.get("message", finding.get("kind", "finding")))


def text_of(value: Any, key: str = "") -> str:
    """Return a value of a log as a text that can be shown, of a limited length."""
    if is_in_hexadecimal(key, value):
        return f"{value:#x}"
    text = printable(value if isinstance(value, str) else orjson.dumps(value, default=str).decode())
    return text if len(text) <= TEXT_MAX else f"{text[:TEXT_MAX]}..."
