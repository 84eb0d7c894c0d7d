"""Where two executions part, in words and as data."""

import textwrap
from collections.abc import Iterator
from typing import Any

import attrs

from emu.reports.counts import count
from emu.reports.parting import Difference
from emu.reports.steps import WORD_MAX, Entry, shortened

WIDTH = 80


@attrs.frozen
class DiffReport:
    """What is said of two executions, A and B."""

    found: Difference

    def remarks(self) -> Iterator[str]:
        """Yield a sentence for each way in which A and B are of something else."""
        one, other = (side.origin for side in self.found.sides)
        if one is None or other is None:
            return
        if attrs.evolve(one, digests=None) != attrs.evolve(other, digests=None):
            yield f"A is of {one}, and B of {other}"
        elif one.digests and other.digests and one.digests != other.digests:
            yield f"A and B are of {one}, and of different states of its code"

    def title(self) -> str:
        """Say where A and B part."""
        found = self.found
        if found.parted is not None:
            return f"A and B part {self.at_pair(*found.parted)}{self.earlier_choice()}"
        if found.choices is not None:
            return f"A and B part at a step that tokens do not name: {self.chosen()}"
        if found.other_witness:
            return "A and B have equal steps, and the accesses that a replay adds to them are different ones"
        rest = ", to which the replay of the schedule has added others" if found.steps[0] != found.steps[1] else ""
        return f"equal: {count(min(found.steps), 'step')}{rest}"

    def chosen(self) -> str:
        """Say what was chosen; empty where there is no choice."""
        return "" if self.found.choices is None else "{} is chosen in A, and {} in B".format(*self.found.choices)

    def earlier_choice(self) -> str:
        """Return a remark about choices that may be made earlier; empty where it is known when they are made."""
        if self.found.choices is None or any(side.places_choices for side in self.found.sides):
            return ""
        return f"; perhaps they part earlier, at a step that tokens do not name: {self.chosen()}"

    def at_pair(self, one: Entry | None, other: Entry | None) -> str:
        """Say at which step A and B part, and how; None stands for one that has ended."""
        ended = "A" if one is None else "B"
        goes_on = "B" if one is None else "A"
        last = min(self.found.steps)
        if self.found.step is None:
            return f"behind step {last}, the last one" if one and other else f"behind step {last}: {ended} ends there"
        if one is None or other is None:
            return f"behind step {last}: {ended} ends there, and {goes_on} goes on"
        at = f"at step {self.found.step}"
        if one.agent != other.agent:
            return f"{at}: {one.agent} goes on in A, and {other.agent} in B"
        if self.found.choices is not None:
            return f"{at}: by {one.agent} {self.chosen()}"
        event = one.data.get("event")
        if event is None or event != other.data.get("event"):
            return f"{at}: {one.agent} does something else"
        keys = [key for key in {**one.facts, **other.facts} if one.facts.get(key) != other.facts.get(key)]
        return f"{at}: {one.agent}'s {event} differs in {', '.join(keys)}"

    def lines(self) -> Iterator[str]:
        """Yield the lines about the last equal steps, the first that are not, and what each agent does next."""
        found = self.found
        if found.is_equal or found.parted is None:
            return
        if found.before:
            yield "\nequal in both"
            yield from columns([(shown(entry.step), entry.agent, entry.what) for entry in found.before])
        yield "\nnot equal"
        pairs = zip("AB", found.parted, strict=True)
        yield from columns([(side, "", "ended") if one is None else (side, one.agent, one.what) for side, one in pairs])
        if found.following:
            yield "\nwhat each agent does next, and at which step"
        yield from columns(
            [row for name, nexts in found.following.items() for row in next_rows(shortened(name, WORD_MAX), nexts)]
        )

    def data(self) -> dict[str, Any]:
        """Return all that as data."""
        found = self.found
        return {
            "equal": found.is_equal,
            "said": [*self.remarks(), self.title()],
            "step": found.step,
            "choices": found.choices,
            "steps": found.steps,
            "before": [one.data for one in found.before] if not found.is_equal else [],
            "parted": [one and one.data for one in found.parted or ()],
            "next": [
                {"agent": name, "A": nexts[0] and nexts[0].data, "B": nexts[1] and nexts[1].data}
                for name, nexts in found.following.items()
            ],
        }


def shown(step: int | None) -> str:
    """Return the number of a step; empty for what tells of the whole execution."""
    return "" if step is None else str(step)


def next_rows(name: str, nexts: list[Entry | None]) -> list[tuple[str, str, str]]:
    """Return the rows that say what an agent does next: one where it is the same in A and B."""
    places = [f"{side} {shown(entry.step)}" if entry else f"{side} -" for side, entry in zip("AB", nexts, strict=True)]
    said = [entry.what for entry in nexts if entry is not None]
    if len(set(said)) == 1:
        return [(name, ", ".join(places), said[0])]
    return [(name, places[0], said[0]), ("", places[1], said[1])]


def columns(rows: list[tuple[str, str, str]]) -> Iterator[str]:
    """Yield the lines of a table; the last column is filled to the width of a terminal."""
    first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
    for name, place, text in rows:
        head = f"  {name:<{first}}  {place:<{second}}"
        yield textwrap.fill(f"{head}  {text}", WIDTH, subsequent_indent=" " * (first + second + 6)).rstrip()
