"""Executions as they were written down, for a comparison: the lines of a log, or the steps of a saved schedule."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import attrs

from emu.errors import ScenarioError
from emu.hypervisor.revisions.loader import BUNDLED, bundled_name
from emu.reports.log import Record, agent_name, for_people, in_order, shown_on_terminal
from emu.running.save import SavedSchedule
from emu.running.witness import Witness

NOT_COMPARED = frozenset({"execution", "source", "message"})
"""Keys in which logs of one schedule may differ: the seed, and lines of code that were moved."""

OF_THE_END = frozenset({"finding", "window", "execution.end"})
"""Events that tell of the whole execution and of no step."""

WORD_MAX = 60
TEXT_MAX = 240
"""How many characters are shown of a name, and of a line, which may be as long as a file's author wants."""


@attrs.frozen
class Entry:
    """What was written down of a step, or a part of it.

    Attributes:
        step: the number of the step; 0 for what stands before the first; None for what tells of the whole execution.
        name: the name of the agent that took it; empty where nobody did.
        data: all that was written down.
        is_choice: the step was a choice.
    """

    step: int | None
    name: str
    data: Mapping[str, Any]
    is_choice: bool = False

    @property
    def agent(self) -> str:
        """The name of the agent, to be shown."""
        return shortened(self.name, WORD_MAX)

    @property
    def facts(self) -> Mapping[str, Any]:
        """What is compared."""
        return {key: value for key, value in self.data.items() if key not in NOT_COMPARED}

    @property
    def what(self) -> str:
        """What was done, as a line of text: of a log the event with its keys, of a schedule the operation."""
        if "event" not in self.data:
            return shortened(self.data.get("operation", ""), TEXT_MAX)
        event, *others = list(for_people(None, "", in_order(None, "", dict(self.data))).items())[2:]
        return shortened(" ".join((str(event[1]), *(f"{key}={value}" for key, value in others))), TEXT_MAX)


def shortened(text: object, characters: int) -> str:
    """Return a text in one line, without control characters, cut where it is longer than some characters."""
    line = shown_on_terminal(text)
    return line if len(line) <= characters else f"{line[:characters]}..."


@attrs.frozen
class Origin:
    """What an execution is of: the scenario and its parameters, and the revision with their digests where known."""

    scenario: str
    parameters: frozenset[str]
    revision: str
    digests: tuple[str, str] | None = None

    def __str__(self) -> str:
        words = (self.scenario, *sorted(self.parameters), "on", self.revision)
        return shortened(" ".join(words), TEXT_MAX)


class Written(Protocol):
    """An execution that was written down.

    Attributes:
        origin: what it is of; None where that is not written.
        is_log: it is a log, and no schedule.
        choices: what was chosen, in order; empty for a log, which has that among its entries.
        places_choices: it says at which steps these were; a token does not.
        witness: the access of a device that a replay adds.
    """

    is_log: bool
    origin: Origin | None
    choices: tuple[int, ...]
    places_choices: bool
    witness: Witness | None

    def entries(self, *, of_steps: bool) -> Iterator[Entry]:
        """Yield what is written of it, in order; with `of_steps` one entry for each step."""

    def chosen(self, entry: Entry, number: int) -> tuple[int, ...]:
        """Return what was chosen at an entry, the choice of this number, from 0; empty if it is unknown."""


class WrittenLog:
    """A log. It is read once, line by line."""

    is_log = True
    choices: tuple[int, ...] = ()
    places_choices = True
    witness: Witness | None = None

    def __init__(self, records: Iterable[Record], name: str) -> None:
        """Begin to read a log.

        Args:
            name: names it in a sentence.

        Raises:
            ScenarioError: if it holds no record.
        """
        self.records = iter(records)
        first = next(self.records, None)
        if first is None:
            raise ScenarioError(f"{name!r} is empty: name a log or a schedule")
        self.first: Record = first
        self.origin = origin_of(first)

    def entries(self, *, of_steps: bool) -> Iterator[Entry]:
        before: int | None = 0
        for record in self.each():
            step = record.get("step")
            is_counted = isinstance(step, int) and record["event"] not in OF_THE_END
            number, name = (step, agent_name(record)) if is_counted else (None, "")
            if not of_steps or number not in (before, 0, None):
                yield Entry(number, name, record, record["event"] == "choice")
            before = number

    def each(self) -> Iterator[Record]:
        """Yield the records after the header."""
        if self.origin is None:
            yield self.first
        yield from self.records

    def chosen(self, entry: Entry, number: int) -> tuple[int, ...]:
        chosen = entry.data.get("chosen")
        return (chosen,) if isinstance(chosen, int) else ()


def origin_of(record: Record) -> Origin | None:
    """Return what a log is of, from its first record; None if that does not say it."""
    parameters = record.get("parameters", [])
    if record["event"] != "execution.begin" or not isinstance(parameters, list):
        return None
    texts = [shortened(one, TEXT_MAX) for one in parameters]
    (revision,) = [one for one in texts if one.startswith("revision=")][:1] or [f"revision={BUNDLED[1]}"]
    name = Path(bundled_name(revision.removeprefix("revision="))).name
    return Origin(shortened(record.get("scenario", ""), WORD_MAX), frozenset(texts) - {revision}, name)


class WrittenSchedule:
    """A saved schedule."""

    is_log = False

    def __init__(self, saved: SavedSchedule) -> None:
        self.schedule = saved.schedule()
        self.choices = self.schedule.choices
        self.places_choices = bool(self.schedule.operations)
        self.witness = saved.witness
        self.origin: Origin | None = Origin(
            shortened(saved.scenario.name, WORD_MAX),
            frozenset(shortened(f"{name}={value}", TEXT_MAX) for name, value in saved.parameters.items()),
            shortened(saved.revision.name, WORD_MAX),
            (saved.scenario.digest, saved.revision.digest),
        )

    def entries(self, *, of_steps: bool) -> Iterator[Entry]:
        for index, agent in enumerate(self.schedule.agents):
            operation = {"operation": self.schedule.operations[index]} if self.schedule.operations else {}
            is_choice = operation.get("operation", "").startswith("Choose")
            yield Entry(index + 1, agent, {"step": index + 1, "agent": agent, **operation}, is_choice)

    def chosen(self, entry: Entry, number: int) -> tuple[int, ...]:
        return self.choices[number : number + 1]
