"""Dependence: two steps are dependent if one agent takes both, or if they touch an object and do not commute.

Two interleavings that differ only in the order of independent steps are the same *trace* (Mazurkiewicz). A trace has
a normal form (Foata): each step stands one level above the highest earlier step that it depends on.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from emu.engine.accesses import Access, Space
from emu.engine.operations import Operation


class Footprint:
    """The accesses of a step. There is one footprint for each distinct tuple of accesses.

    Attributes:
        conflicting: the footprints that conflict with this one, perhaps itself among them, in order of creation.
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
        view: maps an access to the one that stands for it in an exploration with coarser objects.
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
        """Find the footprints that conflict with a new footprint, among all that share a space with it."""
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
"""An agent's number, its choice (0 if it made none), and its footprint."""

NormalForm = tuple[tuple[tuple[int, int], ...], ...]
"""For each agent, the level and the choice of each of its steps."""


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
    """Yield the accesses that a performed operation has made."""
    touched = operation.touched()
    yield from operation.accesses() if touched is None else touched
