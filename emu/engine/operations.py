"""Operations: what an agent awaits. Between two of them its code is atomic.

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

    Subclasses are small slotted records. `perform` may change shared state and keeps what the trace shows of it in
    the operation itself: a trace holds operations, and renders them only when it is read.
    """

    __slots__ = ()

    event: ClassVar[str] = "operation"

    saved_as: ClassVar[str] = ""
    """The name under which schedules know the operation, where that is not the one of its class."""

    stores: ClassVar[bool] = True
    """Whether what it changes can change what an agent reads in a section of a lock (see sections.py).

    False for an operation that only shows to others what was stored before, such as a write-back: who holds a lock
    reads the same before it and after it. So what comes before the store in a section can still be moved past it, to
    the store; the order of the store itself and of the operation is explored either way, as both say what they touch.
    """

    waits_for: Latch | None = None
    """The latch that must be set before the operation can be performed; None if it always can."""

    opens: Section | None = None
    """The section that the agent begins with it."""

    closes: Space | None = None
    """The lock whose section the agent ends with it."""

    def accesses(self) -> Iterable[Access]:
        """Return every shared object that performing the operation may read or change.

        The answer must not depend on what other agents may change meanwhile without touching one of these objects.
        """
        return ()

    def touched(self) -> Iterable[Access] | None:
        """Return what the operation has touched, once it was performed; None if that is all it announced.

        An operation such as compare-and-swap may touch less than it had announced: it writes only if it succeeds.
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

    A choice touches the same objects in each case: an agent chooses in one operation, and acts in the next.
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
