"""Wakeup trees: the sequences of steps that are left to explore from one point.

From Abdulla, Aronis, Jonsson and Sagonas, "Optimal dynamic partial order reduction", POPL 2014.

An edge is a step: an agent and its choice. The last step of a sequence, the reversed step of a race, is *open*: its
choice is not known before it is taken, and every alternative is explored then.
"""

from collections.abc import Sequence

from emu.engine.dependence import Footprint


class Edge:
    """A step in a wakeup tree, and the steps that follow it.

    Attributes:
        footprint: what the step might touch, as far as that is known.
        edges: the steps that follow, in order; if there are none, any step may follow.
    """

    __slots__ = ("agent", "chosen", "edges", "footprint", "is_open")

    def __init__(self, agent: int, chosen: int, footprint: Footprint, *, is_open: bool) -> None:
        self.agent = agent
        self.chosen = chosen
        self.footprint = footprint
        self.is_open = is_open
        self.edges: list[Edge] = []


WakeupSequence = Sequence[Edge]
"""Steps, in the order in which an execution takes them."""


def can_begin(
    agent: int, chosen: int, footprint: Footprint, sequence: WakeupSequence, *, is_open: bool = False
) -> bool:
    """Whether a step could come first in an execution that takes the steps of a sequence ("weak initial").

    It could if no step before it in the sequence conflicts with it. Where its agent takes no step in the sequence, all
    steps of the sequence count as before it.
    """
    conflicting = footprint.conflicting
    for step in sequence:
        if step.agent == agent:
            return step.is_open or is_open or step.chosen == chosen
        if step.footprint in conflicting:
            return False
    return True


def insert(edges: list[Edge], sequence: list[Edge]) -> None:
    """Add a sequence to a tree, unless the tree already leads to an execution that begins equivalently."""
    rest = sequence
    while True:
        for edge in edges:
            if can_begin(edge.agent, edge.chosen, edge.footprint, rest, is_open=edge.is_open):
                first = next((index for index, step in enumerate(rest) if step.agent == edge.agent), None)
                rest = rest if first is None else rest[:first] + rest[first + 1 :]
                if not edge.edges or not rest:
                    return
                edges = edge.edges
                break
        else:
            for step in rest:
                edge = Edge(step.agent, step.chosen, step.footprint, is_open=step.is_open)
                edges.append(edge)
                edges = edge.edges
            return
