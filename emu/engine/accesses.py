"""Accesses: which shared objects an operation touches, and how.

An object is a number in a *space*; an access names one object or a range of them, so that an invalidation of a whole
domain is one access.
"""

from enum import Enum
from typing import NamedTuple

import attrs

Space = tuple[str, ...]
"""Names a family of objects, e.g. ("iotlb", "vtd0"); its members are numbers."""


class Kind(Enum):
    """How an access touches its objects."""

    READ = "read"  # commutes with other reads
    COMMUTE = "commute"  # changes the object, in a way that commutes with itself but not with a read
    WRITE = "write"  # commutes with nothing

    __hash__ = object.__hash__  # an Enum's own is ten times slower, and kinds are looked up at every step


class Access(NamedTuple):
    """One object, or the range of objects first..last of a space, and how it is touched."""

    space: Space
    first: int
    last: int
    kind: Kind

    @classmethod
    def to(cls, space: Space, number: int, kind: Kind) -> "Access":
        """Return the access to a single object."""
        return cls(space, number, number, kind)

    def conflicts(self, other: "Access") -> bool:
        """Whether the order of the two accesses can matter."""
        if self.space != other.space or self.last < other.first or other.last < self.first:
            return False
        return self.kind is not other.kind or self.kind is Kind.WRITE

    def covers(self, space: Space, number: int) -> bool:
        """Whether the access names this object."""
        return self.space == space and self.first <= number <= self.last


@attrs.frozen
class Section:
    """What an agent may do from taking a lock to releasing it.

    Attributes:
        lock: the space of the lock's objects.
        accesses: the accesses besides the lock's that it may make, as declared beforehand; None if that is not known.
    """

    lock: Space
    accesses: tuple[Access, ...] | None

    def permits(self, access: Access) -> bool:
        """Whether the section declares this access."""
        return access.space == self.lock or any(
            declared.space == access.space
            and declared.first <= access.first
            and access.last <= declared.last
            and declared.kind in {access.kind, Kind.WRITE}
            for declared in self.accesses or ()
        )
