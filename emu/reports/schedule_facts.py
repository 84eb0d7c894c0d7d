"""What is told of the schedule that shows a finding: its preemptions, and the orders of steps that it needs."""

from collections.abc import Iterator

import attrs

from emu.engine import Trace
from emu.reports.counts import count
from emu.reports.fact import Fact
from emu.running.shrink import Shortened


def schedule_facts(known: Shortened, trace: Trace) -> Iterator[Fact]:
    """Yield the facts of a schedule, in the order in which they are shown.

    Args:
        trace: of the execution that is shown.
    """
    values = attrs.asdict(known)
    needs = values.pop("needs")
    yield Fact("schedule", said(known), (), values)
    if known.needs:
        steps = tuple(sorted({step for one in known.needs for step in one.steps(trace)}))
        yield Fact("it needs", "\n".join(one.text for one in known.needs), steps, {"needs": needs})


def said(known: Shortened) -> str:
    """Say how many preemptions a schedule has."""
    down = "" if known.found_with in {None, known.preemptions} else f", down from {known.found_with}"
    if known.is_minimal is None:
        return count(known.preemptions, "preemption") + down
    found = "minimal: proved" if known.is_minimal else "smallest found"
    cut = f"; cut short: {known.cut_by}" if known.cut_by and not known.is_minimal else ""
    return f"{count(known.preemptions, 'preemption')}{down} ({found}{cut})"
