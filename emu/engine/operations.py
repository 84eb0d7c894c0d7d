"""Operations: what an agent awaits. Between two of them its code is atomic.

An operation is announced (the agent awaits it, the scheduler sees it) before it is performed. It says which shared
objects it touches and how, so that an exploration can tell which orders matter. An object is a number in a *space*;
an access names one object or a range of them, so that an invalidation of a whole domain is one access.
"""

from collections.abc import Generator, Iterable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from emu.engine.latches import Latch
    from emu.engine.sections import Section

Result = TypeVar("Result")

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


class Operation(Generic[Result]):
    """One access of one agent to shared state: awaited once, performed in one step.

    Subclasses are small slotted records. `perform` may change shared state and keeps what the trace shows of it in
    the operation itself: a trace holds operations, and renders them only when it is read.
    """

    __slots__ = ()

    event: ClassVar[str] = "operation"

    waits_for: "Latch | None" = None
    """What must be set before the operation can be performed; None if it always can."""

    opens: "Section | None" = None
    """The section that the agent begins with it."""

    closes: Space | None = None
    """The lock whose section the agent ends with it."""

    def accesses(self) -> Iterable[Access]:
        """Return every shared object that performing the operation may read or change.

        It must not depend on what other agents may change meanwhile without touching one of these objects.
        """
        return ()

    def touched(self) -> Iterable[Access] | None:
        """Return what it did touch, once performed, where that is less than announced; None if it is the same.

        For an operation such as compare-and-swap, that writes only if it succeeds.
        """
        return None

    def perform(self, step: int) -> Result:
        """Do it, as step number `step` of the execution, and return what the agent receives."""
        raise NotImplementedError

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        """Return the name of the event that this operation was, and its keys."""
        return self.event, {}

    def __await__(self) -> "Generator[Operation[Any], Any, Result]":
        """Announce the operation; resumes with its result once it has been performed."""
        result: Result = yield self
        return result


class Choose(Operation[int]):
    """Choose one of `count` possibilities, numbered from 0.

    A choice touches the same objects whatever it chooses: choose in one operation, act in the next.
    """

    __slots__ = ("about", "chosen", "count", "touches")

    event = "choice"

    def __init__(self, about: str, count: int, touches: tuple[Access, ...] = ()) -> None:
        self.about = about
        self.count = count
        self.touches = touches
        self.chosen = 0

    def accesses(self) -> Iterable[Access]:
        return self.touches

    def perform(self, step: int) -> int:
        return self.chosen

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"about": self.about, "chosen": self.chosen, "of": self.count}
