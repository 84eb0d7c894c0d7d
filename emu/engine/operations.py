"""Operations: the steps that an agent awaits. Between two operations its code is atomic.

An operation is announced (the agent awaits it, the scheduler sees it) before it is performed. It says which shared
objects it touches and how, so that an exploration can tell which orders matter.
"""

from collections.abc import Generator, Iterable, Mapping
from typing import Any, ClassVar, Generic, TypeVar

from emu.engine.accesses import Access, Kind, Section, Space
from emu.engine.latches import Latch

Result = TypeVar("Result")


class Operation(Generic[Result]):
    """One access of one agent to shared state: awaited once, performed in one step.

    Subclasses are small slotted records. `perform` may change shared state, and keeps in the operation all that the
    trace shows of the step: a trace holds operations, and renders them only when it is read.
    """

    __slots__ = ()

    event: ClassVar[str] = "operation"

    saved_as: ClassVar[str] = ""
    """The operation's name in schedules, where that is not the name of its class."""

    saved_accesses: ClassVar[int | None] = None
    """How many of its accesses schedules name, where it has got more since schedules were saved; None for all."""

    stores: ClassVar[bool] = True
    """Whether performing it can change a value that an agent reads in a section of a lock (see sections.py).

    False for an operation that only makes earlier stores visible, such as a write-back: the holder of a lock reads the
    same values before and after it. So the reads of a section can still be moved past it, up to the section's store.
    The order of that store and this operation is explored either way, because both declare what they touch.
    """

    waits_for: Latch | None = None
    """The latch that must be set before the operation can be performed; None if it always can."""

    opens: Section | None = None
    """The section that begins with this operation."""

    closes: Space | None = None
    """The lock whose section ends with this operation."""

    def accesses(self) -> Iterable[Access]:
        """Return every shared object that performing the operation may read or change.

        The answer must not depend on what other agents may change meanwhile without touching one of these objects.
        """
        return ()

    def touched(self) -> Iterable[Access] | None:
        """Return the accesses that the performed operation has made; None if it made all that it announced.

        An operation such as compare-and-swap may make fewer than it announced: it writes only if it succeeds.
        """
        return None

    def perform(self, step: int) -> Result:
        """Perform the operation as step number `step` of the execution, and return what the agent receives.

        Raises:
            NotImplementedError: if a subclass leaves it out.
        """
        raise NotImplementedError

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        """Return the name of the event that this operation was, and its keys."""
        return self.event, {}

    def __await__(self) -> "Generator[Operation[Any], Any, Result]":
        """Announce the operation; the agent resumes with the result once the operation was performed."""
        result: Result = yield self
        return result


class Choose(Operation[int]):
    """Choose one of `count` possibilities, numbered from 0.

    A choice touches the same objects whatever it chooses: an agent chooses in one operation, and acts in the next.
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


class Wait(Operation[None]):
    """Wait for a latch. The operation is disabled until the latch is set, and no agent spins."""

    __slots__ = ("waits_for",)

    event = "wait"

    waits_for: Latch

    def __init__(self, latch: Latch) -> None:
        self.waits_for = latch

    def accesses(self) -> Iterable[Access]:
        return (self.waits_for.touch._replace(kind=Kind.READ),)

    def perform(self, step: int) -> None:
        return None

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"for": self.waits_for.name}
