"""Repeating an execution, and comparing the events of the two."""

import itertools
from collections.abc import Iterator, Sequence

from emu.engine import Agent, Trace
from emu.engine.operations import Choose
from emu.engine.strategies import KEEPS_STATE
from emu.engine.strategies.replay import ReplayStrategy, ScheduleDoesNotFitError
from emu.errors import ModelError

EventShown = tuple[str, int, str, dict[str, object]]
"""An event as plain data, comparable between executions: agent, step, name and fields."""


class RepeatStrategy(ReplayStrategy):
    """Follows a schedule as far as it fits, and then takes the first enabled agent."""

    def pick(self, enabled: Sequence[Agent]) -> Agent | None:
        try:
            return super().pick(enabled) or enabled[0]
        except ScheduleDoesNotFitError:
            return None

    def choose(self, choice: Choose) -> int:
        try:
            return super().choose(choice)
        except ScheduleDoesNotFitError:
            return 0


def events(trace: Trace) -> Iterator[EventShown]:
    """Yield the events of a trace as plain data."""
    for event in trace.events():
        yield event.agent.name, event.step, event.name, dict(event.fields)


def refuse_difference(first: Trace, second: Trace) -> None:
    """Refuse a scenario whose schedule did not repeat its execution.

    Raises:
        ModelError: naming the first agent that did something else the second time.
    """
    for then, now in itertools.zip_longest(events(first), events(second)):
        if then != now:
            agent, step = (then or now or ("", 0))[:2]
            raise ModelError(
                f"{agent}, at step {step}, did {tell(then)}, and when the same schedule was repeated {tell(now)}: "
                f"{KEEPS_STATE}"
            )


def tell(event: EventShown | None) -> str:
    """Return an event as words of a sentence."""
    if event is None:
        return "nothing more"
    return " ".join([event[2], *(f"{key}={value}" for key, value in event[3].items())])
