"""Sections: the steps of an agent under a lock, which an exploration may take in one step.

A lock orders its sections even where they are independent, and every order is a trace of its own. A section that
declares beforehand what it may touch can be taken *short*: all in one step, from taking the lock to its release. The
step's access to the lock commutes with other short sections. The trace still holds each operation; only fewer orders
are explored.

A section cannot be taken short if it touches more than it declared, does anything after its first store, waits or
chooses. Its lock is then *long* for the rest of the exploration, which starts again: so whether a section is short
never depends on the state.

Before its store a section only reads. The reads could as well happen right before the store, unless another agent
changes meanwhile what they read. So a lock is long, too, if an agent stores, outside the sections of the lock, to an
object that a short section of the lock has declared. It does not matter which of the two comes first, nor whether both
occur in one execution: declarations and stores are kept as long as the exploration lasts, and compared whenever one is
added. Where a store and a section could meet, there is an execution that takes the section in one step before the
store or after it, so both are seen.

A section that may change an object that a claim reads is not taken short either, because the claim is evaluated inside.

A section declares what it might touch. Which steps depend on it is decided by what it has touched: a section that finds
nothing to change has only read.
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
class Declarations:
    """The accesses that short sections have declared, and all stores, to find stores outside of a section's lock.

    Attributes:
        sections: the short sections that have declared their accesses.
        declared: by space, these accesses, each with the lock of its section.
        stored: by space, the accesses that stored, each with the lock of the short section around it, or None.
    """

    sections: set[Section] = attrs.field(factory=set)
    declared: dict[Space, set[tuple[Access, Space]]] = attrs.field(factory=dict)
    stored: dict[Space, set[tuple[Access, Space | None]]] = attrs.field(factory=dict)

    def declare(self, section: Section) -> set[Space]:
        """Keep a section's declaration; return its lock if an agent has stored there outside the lock's sections."""
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
        """Keep stores made inside a lock's section; return the other locks whose sections declared these objects."""
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
    """The locks whose sections an exploration takes short, and the section that is being taken.

    Attributes:
        long: the locks whose sections are taken step by step.
        short: the locks of which a section was taken in one step.
        open: the short section that an agent is in.
        touched: the accesses made in that section, or in the last one, besides accesses to the lock.
        has_stored: the agent has changed something in that section.
        has_left: a section was not as declared; the execution is void, and the section's lock is now long.
        claims: the claims about the execution; None if there are none.
        declarations: the declarations and stores of all executions so far.
    """

    long: set[Space] = attrs.field(factory=set)
    short: set[Space] = attrs.field(factory=set)
    open: Section | None = None
    touched: list[Access] = attrs.field(factory=list)
    has_stored: bool = False
    has_left: bool = False
    claims: Claims | None = None
    declarations: Declarations = attrs.field(factory=Declarations)

    def begin(self, claims: Claims | None = None) -> None:
        """Prepare for another execution."""
        self.open = None
        self.has_left = False
        self.claims = claims

    def is_long(self, section: Section) -> bool:
        """Whether a section has to be taken step by step, as far as that is known beforehand."""
        if section.accesses is None or section.lock in self.long:
            return True
        return self.claims is not None and self.claims.may_be_broken_by((whole(section.lock), *section.accesses))

    def announced(self, operation: Operation[Any]) -> tuple[Access, ...]:
        """Return the accesses of a step that is taken for the first time: an operation, or the section that it opens.

        The step's declaration, or its stores, are kept.
        """
        if self.is_short(operation.opens):
            self.break_off(self.declarations.declare(operation.opens))
            return (Access.to(operation.opens.lock, 0, Kind.COMMUTE), *(operation.opens.accesses or ()))
        accesses = tuple(operation.accesses())
        if operation.stores:
            self.break_off(self.declarations.store(accesses, None))
        return accesses

    def touched_by(self, operation: Operation[Any]) -> Iterable[Access] | None:
        """Return the accesses of the last step, which began with this operation; None if it made all it announced."""
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
            self.break_off(self.declarations.store(accesses, section.lock))

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
        """Whether a section may make these accesses: it has declared them, and has not stored before."""
        outside = [access for access in accesses if access.space != section.lock]
        if not outside:
            return True
        if self.has_stored:
            return False
        self.has_stored = any(access.kind is not Kind.READ for access in outside)
        self.touched += outside
        return all(map(section.permits, outside))

    def leave(self) -> None:
        """Give the execution up, and take the sections of the open section's lock step by step from now on."""
        if self.open is not None:
            self.long.add(self.open.lock)
        self.open = None
        self.has_left = True

    def break_off(self, broken: set[Space]) -> None:
        """Make these locks long; give the execution up if one of them was not."""
        if not broken <= self.long:
            self.long |= broken
            self.has_left = True


def whole(lock: Space) -> Access:
    """Return the access to all objects of a lock."""
    return Access(lock, 0, ALL, Kind.WRITE)
