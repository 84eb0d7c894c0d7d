"""Sections: what an agent does under a lock, which an exploration may take in one step.

A lock orders its sections even where they have nothing to do with each other, and every order is a trace of its own.
A section that is known beforehand to touch little may be taken *short*: from the lock to its release in one step,
which touches the lock in a way that commutes with other short sections. What happens stays the same, step by step in
the trace; only fewer orders are explored.

A section that leaves what it declared, does anything after its first store, waits or chooses cannot be taken so. Its
lock is then *long* for the rest of the exploration, which starts again: so whether a section is short never depends on
the state. What a section reads must be written under its lock only; that is the declarer's promise.

A section that may change what a claim reads is not taken so either: the claim is asked inside it.
"""

from collections.abc import Iterable
from typing import Any

import attrs

from emu.engine.accesses import Access, Kind, Section, Space
from emu.engine.claims import Claims
from emu.engine.operations import Choose, Operation

ALL = 1 << 64
"""No object of a lock has a greater number."""


@attrs.define
class Sections:
    """Which sections an exploration takes short, and the one that is being taken.

    Attributes:
        long: the locks whose sections are taken step by step.
        short: the locks of which a section was taken in one step.
        open: the short section that an agent is in.
        has_stored: the agent has changed something in that section.
        has_left: a section was not as declared; the execution is void, and the section's lock is now long.
        claims: what is claimed of the execution; None if nothing is.
    """

    long: set[Space] = attrs.field(factory=set)
    short: set[Space] = attrs.field(factory=set)
    open: Section | None = None
    has_stored: bool = False
    has_left: bool = False
    claims: Claims | None = None

    def begin(self, claims: Claims | None = None) -> None:
        """Prepare for another execution."""
        self.open = None
        self.has_left = False
        self.claims = claims

    def is_long(self, section: Section) -> bool:
        """Whether a section is to be taken step by step, as far as that is known beforehand."""
        if section.accesses is None or section.lock in self.long:
            return True
        return self.claims is not None and self.claims.are_met_by((whole(section.lock), *section.accesses))

    def accesses(self, operation: Operation[Any]) -> Iterable[Access]:
        """Return what an agent may touch in its next step, which may be a section."""
        section = operation.opens
        if section is None or section.accesses is None or self.is_long(section):
            return operation.accesses()
        return (Access.to(section.lock, 0, Kind.COMMUTE), *section.accesses)

    def watch(self, operation: Operation[Any]) -> None:
        """Look at an operation before it is performed."""
        if self.open is None:
            if operation.opens is not None and operation.opens.lock not in self.long:
                self.enter(operation.opens)
        elif operation.closes == self.open.lock:
            self.open = None
        elif isinstance(operation, Choose) or not self.is_as_declared(self.open, tuple(operation.accesses())):
            self.leave()

    def enter(self, section: Section) -> None:
        """Begin a short section, or make its lock long; that voids the execution if another section of it was short."""
        if self.is_long(section):
            self.long.add(section.lock)
            self.has_left = section.lock in self.short
        else:
            self.short.add(section.lock)
            self.open = section
            self.has_stored = False

    def is_as_declared(self, section: Section, accesses: Iterable[Access]) -> bool:
        """Whether a section may make these accesses. The section keeps a store in mind: nothing may come after it."""
        outside = [access for access in accesses if access.space != section.lock]
        if outside and self.has_stored:
            return False
        self.has_stored = self.has_stored or any(access.kind is not Kind.READ for access in outside)
        return all(map(section.permits, outside))

    def leave(self) -> None:
        """Give the execution up, and take the sections of this lock step by step from now on."""
        if self.open is not None:
            self.long.add(self.open.lock)
        self.open = None
        self.has_left = True


def whole(lock: Space) -> Access:
    """Return the access to all that a lock is made of."""
    return Access(lock, 0, ALL, Kind.WRITE)
