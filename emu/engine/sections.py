"""Sections: what an agent does under a lock, which an exploration may take in one step.

A lock orders its sections even where they have nothing to do with each other, and every order is a trace of its own.
A section that is known beforehand to touch little may be taken *short*: from the lock to its release in one step,
which touches the lock in a way that commutes with other short sections. What happens stays the same, step by step in
the trace; only fewer orders are explored.

A section that leaves what it declared, does anything after its first store, waits or chooses cannot be taken so. Its
lock is then *long* for the rest of the exploration, which starts again: so whether a section is short never depends on
the state.

What comes before the store in a section only looks, so it could as well happen right before the store, unless somebody
else changes meanwhile what was looked at. So a lock is long, too, if anybody stores to what a short section of it has
declared while not inside a section of it. It does not matter which of the two comes first, nor whether both occur in
one execution: what was declared and what was stored is kept as long as the exploration lasts, and compared whenever
there is something new. Where a store and a section could meet, there is an execution that takes the section in one
step before the store or after it, so both are seen.

A section that may change what a claim reads is not taken so either: the claim is asked inside it.

A section declares what it might touch. What depends on it is decided by what it has touched: one that finds nothing to
change has only read.
"""

from collections.abc import Iterable
from typing import Any, TypeGuard

import attrs

from emu.engine.accesses import Access, Kind, Section, Space
from emu.engine.claims import Claims
from emu.engine.operations import Choose, Operation

ALL = 1 << 64
"""No object of a lock has a greater number."""


@attrs.define
class Promises:
    """What short sections have declared, and what was stored, each with a lock: the promise is that no other stores.

    Attributes:
        sections: those that have declared something.
        declared: by space, what these have declared, and the lock of each.
        stored: by space, what was stored, and the lock in whose short section that was; None outside of any.
    """

    sections: set[Section] = attrs.field(factory=set)
    declared: dict[Space, set[tuple[Access, Space]]] = attrs.field(factory=dict)
    stored: dict[Space, set[tuple[Access, Space | None]]] = attrs.field(factory=dict)

    def declare(self, section: Section) -> set[Space]:
        """Keep what a section declares; return its lock if anybody has stored there outside of such sections."""
        broken: set[Space] = set()
        if section not in self.sections:
            self.sections.add(section)
            for access in section.accesses or ():
                self.declared.setdefault(access.space, set()).add((access, section.lock))
                stored = self.stored.get(access.space, ())
                if any(inside != section.lock and one.conflicts(access) for one, inside in stored):
                    broken.add(section.lock)
        return broken

    def store(self, accesses: Iterable[Access], inside: Space | None) -> set[Space]:
        """Keep what is stored; return the locks of which a section has declared that nobody else stores there."""
        broken: set[Space] = set()
        for access in accesses:
            if access.kind is not Kind.READ:
                stored = self.stored.setdefault(access.space, set())
                if (access, inside) not in stored:
                    stored.add((access, inside))
                    declared = self.declared.get(access.space, ())
                    broken |= {lock for one, lock in declared if lock != inside and access.conflicts(one)}
        return broken


@attrs.define
class Sections:
    """Which sections an exploration takes short, and the one that is being taken.

    Attributes:
        long: the locks whose sections are taken step by step.
        short: the locks of which a section was taken in one step.
        open: the short section that an agent is in.
        touched: what the agent has touched in that section, or in the last one, besides the lock.
        has_stored: the agent has changed something in that section.
        has_left: a section was not as declared; the execution is void, and the section's lock is now long.
        claims: what is claimed of the execution; None if nothing is.
        promises: what was declared and what was stored, in all executions so far.
    """

    long: set[Space] = attrs.field(factory=set)
    short: set[Space] = attrs.field(factory=set)
    open: Section | None = None
    touched: list[Access] = attrs.field(factory=list)
    has_stored: bool = False
    has_left: bool = False
    claims: Claims | None = None
    promises: Promises = attrs.field(factory=Promises)

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

    def announced(self, operation: Operation[Any]) -> tuple[Access, ...]:
        """Return what an agent may touch in a step that is taken for the first time, and which may be a section.

        What it declares or stores is kept.
        """
        if self.is_short(operation.opens):
            self.break_off(self.promises.declare(operation.opens))
            return (Access.to(operation.opens.lock, 0, Kind.COMMUTE), *(operation.opens.accesses or ()))
        accesses = tuple(operation.accesses())
        if operation.stores:
            self.break_off(self.promises.store(accesses, None))
        return accesses

    def touched_by(self, operation: Operation[Any]) -> Iterable[Access] | None:
        """Return what the last step has touched, which began with this operation; None if that is all it announced."""
        if not self.is_short(operation.opens):
            return operation.touched()
        return (Access.to(operation.opens.lock, 0, Kind.COMMUTE), *dict.fromkeys(self.touched))

    def is_short(self, section: Section | None) -> TypeGuard[Section]:
        """Whether this is a section, and is taken in one step."""
        return section is not None and not self.is_long(section)

    def watch(self, operation: Operation[Any]) -> None:
        """Look at an operation before it is performed."""
        if self.open is None and operation.opens is not None and operation.opens.lock not in self.long:
            self.enter(operation.opens)
        section = self.open
        if section is None:
            return
        accesses = tuple(operation.accesses())
        if isinstance(operation, Choose) or not self.is_as_declared(section, accesses):
            self.leave()
        elif operation.closes == section.lock:
            self.open = None
        if self.has_stored and operation.stores:
            self.break_off(self.promises.store(accesses, section.lock))

    def enter(self, section: Section) -> None:
        """Begin a short section, or make its lock long; that voids the execution if another section of it was short."""
        if self.is_long(section):
            self.long.add(section.lock)
            self.has_left |= section.lock in self.short
        else:
            self.short.add(section.lock)
            self.open = section
            self.touched = []
            self.has_stored = False

    def is_as_declared(self, section: Section, accesses: Iterable[Access]) -> bool:
        """Whether a section may make these accesses. The section keeps a store in mind: nothing may come after it."""
        outside = [access for access in accesses if access.space != section.lock]
        if not outside:
            return True
        if self.has_stored:
            return False
        self.has_stored = any(access.kind is not Kind.READ for access in outside)
        self.touched += outside
        return all(map(section.permits, outside))

    def leave(self) -> None:
        """Give the execution up, and take the sections of this lock step by step from now on."""
        if self.open is not None:
            self.long.add(self.open.lock)
        self.open = None
        self.has_left = True

    def break_off(self, broken: set[Space]) -> None:
        """Give the execution up if there is a lock to be taken step by step from now on that was not before."""
        if not broken <= self.long:
            self.long |= broken
            self.has_left = True


def whole(lock: Space) -> Access:
    """Return the access to all that a lock is made of."""
    return Access(lock, 0, ALL, Kind.WRITE)
