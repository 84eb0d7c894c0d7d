"""Breaks: at which steps a replay that is stepped through stops. A break is written `iotlb.fill dfn=0x40`."""

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from emu.engine import Trace
from emu.errors import ScenarioError, did_you_mean
from emu.reports.filters import Filter, is_named, number, range_of
from emu.reports.log import Record, agent_name
from emu.reports.vocabulary import EVENTS, HEXADECIMAL, KEYS

FINDING = "finding"
"""The event of a step after which a check reports something."""

COUNTED = frozenset({"domain", "step", *HEXADECIMAL}) - {"old", "value"}
"""Keys that take numbers from 0 on. What a variable holds may be anything."""

OF_FILTER = frozenset({"agent", "domain", "dfn", "step"})
"""Keys that are filtered as `emu log` filters them."""


@attrs.frozen
class Names:
    """What a break may name: the events, keys and agents of the vocabulary and of a replay."""

    events: tuple[str, ...]
    keys: tuple[str, ...]
    agents: tuple[str, ...]

    @classmethod
    def of(cls, trace: Trace) -> "Names":
        """Return the names for the replay that has left a trace; a scenario's own events and keys are among them."""
        events, keys, agents = dict.fromkeys(EVENTS), dict.fromkeys([*KEYS, "agent"]), dict[str, None]()
        for event in trace.events():
            events[event.name] = None
            keys |= dict.fromkeys(event.fields)
            agents[agent_name({"step": event.step, **event.agent.labels})] = None
        return cls(tuple(events), tuple(keys), tuple(agents))


@attrs.frozen
class Break:
    """Where to stop.

    Attributes:
        text: as the user has written it.
        wanted: what the filter of a log can express.
        others: the values of all other keys.
    """

    text: str
    wanted: Filter
    others: Mapping[str, str]

    @classmethod
    def parse(cls, text: str, names: Names) -> "Break":
        """Return the break that a user has written: the name of an event or its beginning, and values of keys.

        Raises:
            ScenarioError: for a name that there is not, or a value that the key cannot have.
        """
        event, *pairs = text.split() or [""]
        if not event or "=" in event:
            raise ScenarioError("a break is an event, or the beginning of its name, and values: iotlb.fill dfn=0x40")
        if not any(is_named(one, event) for one in names.events):
            raise ScenarioError(f"no event is named {event!r}{did_you_mean(event, names.events)}")
        values: dict[str, str] = {}
        for pair in pairs:
            key, equals, value = pair.partition("=")
            if not (equals and value):
                raise ScenarioError(f"behind the event a break has KEY=VALUE, not {pair!r}")
            if key not in names.keys:
                raise ScenarioError(f"no key of an event is named {key!r}{did_you_mean(key, names.keys)}")
            values[key] = value
        others = {key: value for key, value in values.items() if key not in OF_FILTER}
        return cls(text, filter_of(event, values, names), others)

    def is_hit(self, records: Iterable[Record]) -> bool:
        """Whether one of the records of a step is one to stop at."""
        return any(
            self.wanted.passes(record) and all(is_value(record.get(key), self.others[key]) for key in self.others)
            for record in records
        )


def filter_of(event: str, values: Mapping[str, str], names: Names) -> Filter:
    """Return the filter for an event and for those values that `emu log` can filter by.

    Raises:
        ScenarioError: for a value that the key cannot have.
    """
    for key in values:
        bounds = values[key].split(":") if key in {"dfn", "step"} else [values[key]]
        if key in COUNTED and any(number(one, key) < 0 for one in bounds if one):
            raise ScenarioError(f"{key} takes numbers from 0 on, not {values[key]!r}")
    agent = values.get("agent")
    if agent is not None and agent not in names.agents:
        raise ScenarioError(f"no agent of the replay is {agent!r}{did_you_mean(agent, names.agents)}")
    return Filter(
        agents=() if agent is None else (agent,),
        domains=(number(values["domain"], "domain"),) if "domain" in values else (),
        dfns=(range_of(values["dfn"], "dfn"),) if "dfn" in values else (),
        events=(event,),
        steps=(range_of(values["step"], "step"),) if "step" in values else (),
    )


def is_value(value: Any, text: str) -> bool:
    """Whether a text writes a value of a record: a number in decimal or hexadecimal, anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, int):
        return value is not None and str(value).lower() == text.lower()
    try:
        return value == int(text, 0)
    except ValueError:
        return False
