"""Which steps depend on one another: those of one agent, and those that touch a common object and do not commute.

Two interleavings that differ only in the order of independent steps are the same *trace* (Mazurkiewicz). A trace has
a normal form (Foata): each step stands one level above the highest of those before it that it depends on.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from emu.engine.operations import Access, Operation


class Footprint:
    """What a step touches; one object for each distinct set of accesses, which remembers the answers that it gave."""

    __slots__ = ("accesses", "known")

    def __init__(self, accesses: tuple[Access, ...]) -> None:
        self.accesses = accesses
        self.known: dict[Footprint, bool] = {}

    def conflicts(self, other: "Footprint") -> bool:
        """Whether the order of two steps with these footprints can matter."""
        answer = self.known.get(other)
        if answer is None:
            answer = any(mine.conflicts(theirs) for mine in self.accesses for theirs in other.accesses)
            self.known[other] = other.known[self] = answer
        return answer

    def __repr__(self) -> str:
        return f"<Footprint {self.accesses!r}>"


class Footprints:
    """The footprints of one exploration."""

    def __init__(self) -> None:
        self.by_accesses: dict[tuple[Access, ...], Footprint] = {}

    def of(self, accesses: Iterable[Access]) -> Footprint:
        """Return the footprint of these accesses."""
        key = accesses if isinstance(accesses, tuple) else tuple(accesses)
        footprint = self.by_accesses.get(key)
        if footprint is None:
            footprint = self.by_accesses[key] = Footprint(key)
        return footprint


Step = tuple[int, int, Footprint]
"""An agent by number, what it chose (0 if nothing), and what it touched."""

NormalForm = tuple[tuple[tuple[int, int], ...], ...]
"""For each agent the levels of its steps, with what they chose."""


def normal_form(agents: int, steps: Sequence[Step]) -> NormalForm:
    """Return the normal form of the trace that an interleaving belongs to."""
    levels: list[list[tuple[int, int]]] = [[] for _ in range(agents)]
    placed: list[tuple[int, Footprint, int]] = []
    for agent, chosen, footprint in steps:
        below = [level for other, theirs, level in placed if other == agent or footprint.conflicts(theirs)]
        level = 1 + max(below, default=0)
        placed.append((agent, footprint, level))
        levels[agent].append((level, chosen))
    return tuple(map(tuple, levels))


def accesses_of(operation: Operation[Any]) -> Iterator[Access]:
    """Yield what an operation that was performed has touched."""
    touched = operation.touched()
    yield from operation.accesses() if touched is None else touched
