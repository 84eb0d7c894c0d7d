"""What is told of the schedule that shows a finding: its preemptions, and the orders of steps that it needs."""

from collections import Counter
from collections.abc import Container, Iterator

import attrs

from emu.engine import Trace
from emu.reports.counts import count
from emu.reports.fact import Fact
from emu.running.shrink import Place, Shortened


def schedule_facts(known: Shortened, trace: Trace) -> Iterator[Fact]:
    """Yield the facts of a schedule, in the order in which they are shown.

    Args:
        trace: of the execution that is shown.
    """
    values = attrs.asdict(known)
    needs = values.pop("needs")
    yield Fact("schedule", said(known), (), values)
    if known.needs:
        steps = tuple(steps_at({place for one in known.needs for place in one.places}, trace))
        yield Fact("it needs", "\n".join(one.text for one in known.needs), steps, {"needs": needs})


def steps_at(places: Container[Place], trace: Trace) -> Iterator[int]:
    """Yield the numbers that steps have in an execution, each given by its agent and its number among the agent's."""
    taken: Counter[str] = Counter()
    for step, (agent, _) in enumerate(trace.performed(), start=1):
        taken[agent.name] += 1
        if (agent.name, taken[agent.name]) in places:
            yield step


def said(known: Shortened) -> str:
    """Say how many preemptions a schedule has."""
    down = "" if known.found_with in {None, known.preemptions} else f", down from {known.found_with}"
    if known.is_minimal is None:
        return count(known.preemptions, "preemption") + down
    found = "minimal: proved" if known.is_minimal else "smallest found"
    cut = f"; cut short: {known.cut_by}" if known.cut_by and not known.is_minimal else ""
    return f"{count(known.preemptions, 'preemption')}{down} ({found}{cut})"
