"""Looking for events in what was executed."""

from collections.abc import Iterable

from emu.engine import Event


def steps(events: Iterable[Event], *names: str, agent: str | None = None, **fields: object) -> list[int]:
    """Return the steps of the events that have one of these names, these fields, and this agent if one is named."""
    return [
        event.step
        for event in events
        if event.name in names and fields.items() <= event.fields.items() and agent in {None, event.agent.name}
    ]
