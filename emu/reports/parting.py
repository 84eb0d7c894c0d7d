"""Where two executions part that were written down as logs or as schedules."""

from collections import deque
from collections.abc import Iterable
from itertools import zip_longest

import attrs

from emu.reports.steps import Entry, Written

AGENTS_MAX = 100
"""Of how many agents it is kept what they do next."""

Pair = tuple[Entry | None, Entry | None]
"""An entry of each of the two; None where one has ended."""


@attrs.define
class Difference:
    """Where two executions part.

    Attributes:
        before: the last equal entries.
        parted: the first pair that is not equal; None where there is none.
        choices: the choices at that pair, or at a step that neither names; None where they are equal.
        following: what each agent does from there on, first of all.
        steps: how many steps each has.
        other_witness: all that is written down is equal, but not the accesses that replays add to the schedules.
    """

    sides: tuple[Written, Written]
    before: deque[Entry]
    parted: Pair | None = None
    choices: tuple[int, int] | None = None
    following: dict[str, list[Entry | None]] = attrs.field(factory=dict)
    steps: list[int] = attrs.field(factory=lambda: [0, 0])
    other_witness: bool = False

    @classmethod
    def of(cls, first: Written, second: Written, context: int) -> "Difference":
        """Compare two executions; each is read to its end, and few of its entries are kept.

        Args:
            context: how many of the last equal entries are kept.

        Raises:
            ScenarioError: if a log holds lines that are no records.
        """
        found = cls((first, second), deque(maxlen=context))
        found.compare()
        return found

    @property
    def is_equal(self) -> bool:
        """Whether they do not part."""
        return self.parted is None and self.choices is None and not self.other_witness

    @property
    def has_logs(self) -> bool:
        """Whether both are logs, whose lines are compared; else their steps are."""
        return all(side.is_log for side in self.sides)

    @property
    def has_log(self) -> bool:
        """Whether one is a log."""
        return any(side.is_log for side in self.sides)

    @property
    def step(self) -> int | None:
        """The step at which they part; None where that is not written, or behind the last one."""
        return next((one.step for one in self.parted or () if one is not None), None)

    def compare(self) -> None:
        """Find where they part, and what each agent does from there on."""
        made = 0
        first, second = (side.entries(of_steps=not self.has_logs) for side in self.sides)
        for pair in zip_longest(first, second):
            if self.parted is None:
                is_choice = any(one is not None and one.is_choice for one in pair)
                if self.parts(pair, made if is_choice else None):
                    self.parted = pair
                else:
                    self.before.extend(one for one in pair[:1] if one is not None)
                made += is_choice
            self.note(pair)
        if not any(side.places_choices for side in self.sides):
            self.choices = differing(*(side.choices for side in self.sides))
        if not self.has_log:
            self.other_witness = self.parted is None and self.sides[0].witness != self.sides[1].witness

    def parts(self, pair: Pair, choice: int | None) -> bool:
        """Whether a pair is not equal; the choice of this number is made there, if it is not None."""
        one, other = pair
        if one is None or other is None:
            return not self.is_added(pair)
        if choice is not None and not self.has_logs:
            self.choices = differing(self.sides[0].chosen(one, choice), self.sides[1].chosen(other, choice))
        return self.choices is not None or self.has_other_facts(one, other)

    def has_other_facts(self, one: Entry, other: Entry) -> bool:
        """Whether two entries tell of different events; of a schedule and a log only the agents can be compared."""
        if self.has_logs:
            return one.facts != other.facts
        if self.has_log:
            return label(one) != label(other)
        return any(one.data[key] != other.data[key] for key in one.data.keys() & other.data.keys())

    def is_added(self, pair: Pair) -> bool:
        """Whether an entry is of a log, of an access that a replay has added to the steps of the schedule."""
        return self.has_log and any(
            side.witness is not None for side, one in zip(self.sides, pair, strict=True) if one is None
        )

    def note(self, pair: Pair) -> None:
        """Count the steps of a pair; once they have parted, keep what an agent does next."""
        for side, entry in enumerate(pair):
            if entry is None or entry.step is None:
                continue
            self.steps[side] = entry.step
            name = label(entry) if self.has_log and not self.has_logs else entry.name
            if self.parted is not None and name and (name in self.following or len(self.following) < AGENTS_MAX):
                nexts = self.following.setdefault(name, [None, None])
                nexts[side] = nexts[side] or entry


def label(entry: Entry) -> str:
    """Return the name of an agent as any log has it: the device, also where its root complex acts for it."""
    return entry.name.partition(" (")[0]


def differing(first: Iterable[int], second: Iterable[int]) -> tuple[int, int] | None:
    """Return the first two numbers in the same place that are not equal; None where there are none."""
    return next(((one, other) for one, other in zip(first, second, strict=False) if one != other), None)
