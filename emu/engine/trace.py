"""Traces: what happened in one execution, step by step. Logs and explanations are views of a trace."""

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from emu.engine.accesses import Access
from emu.engine.agents import Agent
from emu.engine.operations import Operation
from emu.engine.sources import Location, locations


@attrs.frozen
class Event:
    """Something that happened at a step: the operation performed, or a note about it (`is_note`)."""

    step: int
    agent: Agent
    name: str
    fields: Mapping[str, Any]
    is_note: bool = False


Record = tuple[int, Agent, Operation[Any] | Event]


class Trace:
    """The events of one execution in order, and the number of the current step: the only clock there is.

    Args:
        sources: keep, for every step, the source lines at which its agent was suspended, and the name of the operation
            as it was announced with its accesses. This costs more than the step itself; executions that are shown to
            someone need it.
        keeps_events: keep the events; without them only the number of the step is known.
    """

    __slots__ = ("_records", "agent", "announced", "declared", "lines", "sources", "step")

    def __init__(self, *, sources: bool = False, keeps_events: bool = True) -> None:
        self.step = 0
        self.agent: Agent | None = None
        self.sources = sources
        self.lines: dict[int, tuple[Location, ...]] = {}
        self.announced: list[str] = []
        self.declared: list[tuple[Access, ...]] = []
        self._records: list[Record] | deque[Record] = [] if keeps_events else deque(maxlen=0)

    def begin(self, agent: Agent, operation: Operation[Any]) -> int:
        """Open the next step, in which this agent performs an operation, and return its number."""
        self.step = step = self.step + 1
        self.agent = agent
        self._records.append((step, agent, operation))
        return step

    def keep_source(self, agent: Agent, announced: str, declared: tuple[Access, ...]) -> None:
        """Keep, for the next step, where its agent is suspended, and what it announced: name and accesses."""
        self.announced.append(announced)
        self.declared.append(declared)
        if agent.coroutine is not None:
            self.lines[self.step + 1] = tuple(locations(agent.coroutine))

    def note(self, name: str, **fields: Any) -> None:
        """Keep a note about the present step; a note made while no agent runs is dropped."""
        if self.agent is not None:
            self._records.append((self.step, self.agent, Event(self.step, self.agent, name, fields, is_note=True)))

    def performed(self) -> Iterator[tuple[Agent, Operation[Any]]]:
        """Yield each step's agent and operation, in order."""
        for _, agent, record in self._records:
            if not isinstance(record, Event):
                yield agent, record

    def agent_of(self, step: int) -> Agent:
        """Return the agent that took a step."""
        return next(agent for number, agent, _ in self._records if number == step)

    def events(self) -> Iterator[Event]:
        """Render the events in order."""
        return map(rendered, self._records)

    def events_from(self, step: int) -> Iterator[Event]:
        """Render the events of a step and of all later ones, in order. What comes before costs nothing."""
        records = self._records
        first = next((index for index in range(len(records), 0, -1) if records[index - 1][0] < step), 0)
        return (rendered(records[index]) for index in range(first, len(records)))


def rendered(record: Record) -> Event:
    """Return a record of a trace as an event."""
    step, agent, done = record
    return done if isinstance(done, Event) else Event(step, agent, *done.describe())
