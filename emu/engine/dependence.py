"""Two steps depend on one another if one agent takes both, or if they touch a common object and do not commute.

Two interleavings that differ only in the order of independent steps are the same *trace* (Mazurkiewicz). A trace has
a normal form (Foata): each step stands one level above the highest of those before it that it depends on.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from emu.engine.accesses import Access, Space
from emu.engine.operations import Operation


class Footprint:
    """What a step touches. There is one footprint for each distinct set of accesses.

    Attributes:
        conflicting: the footprints that conflict with it, perhaps itself among them, in the order in which they came
            up: the order of two such steps can matter.
    """

    __slots__ = ("accesses", "conflicting")

    def __init__(self, accesses: tuple[Access, ...]) -> None:
        self.accesses = accesses
        self.conflicting: dict[Footprint, None] = {}

    def conflicts(self, other: "Footprint") -> bool:
        """Whether the order of two steps with these footprints can matter."""
        return other in self.conflicting

    def __repr__(self) -> str:
        return f"<Footprint {self.accesses!r}>"


class Footprints:
    """The footprints of one exploration.

    Args:
        view: returns the access that stands for another one, where an exploration has coarser objects.
    """

    def __init__(self, view: Callable[[Access], Access] | None = None) -> None:
        self.view = view
        self.by_accesses: dict[tuple[Access, ...], Footprint] = {}
        self.single: dict[tuple[Space, int], list[Footprint]] = {}
        self.wide: dict[Space, list[Footprint]] = {}
        self.in_space: dict[Space, list[Footprint]] = {}

    def of(self, accesses: Iterable[Access]) -> Footprint:
        """Return the footprint of these accesses."""
        key = accesses if isinstance(accesses, tuple) else tuple(accesses)
        footprint = self.by_accesses.get(key)
        if footprint is None:
            seen = key if self.view is None else tuple(map(self.view, key))
            footprint = self.by_accesses[key] = Footprint(seen)
            self.enter(footprint)
        return footprint

    def enter(self, footprint: Footprint) -> None:
        """Find the footprints that conflict with a new one among those that share a space with it."""
        for access in footprint.accesses:
            self.in_space.setdefault(access.space, []).append(footprint)
            if access.first == access.last:
                self.single.setdefault((access.space, access.first), []).append(footprint)
            else:
                self.wide.setdefault(access.space, []).append(footprint)
        for access in footprint.accesses:
            if access.first == access.last:
                near = [*self.single[access.space, access.first], *self.wide.get(access.space, ())]
            else:
                near = self.in_space[access.space]
            for other in near:
                if other not in footprint.conflicting and any(access.conflicts(theirs) for theirs in other.accesses):
                    footprint.conflicting[other] = other.conflicting[footprint] = None


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
    """Yield what an operation has touched when it was performed."""
    touched = operation.touched()
    yield from operation.accesses() if touched is None else touched
