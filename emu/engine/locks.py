"""Ticket locks: the agent that asks first is served first.

Taking a ticket and being served are two steps. Every wait is for "ticket n is served", which becomes true once.
"""

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

import attrs

from emu.engine.accesses import Access, Kind, Section, Space
from emu.engine.latches import Latch
from emu.engine.operations import Operation, Wait


class TicketLock:
    """A ticket lock.

    Attributes:
        name: unique in its program.
        tickets: how many were taken.
        queue: the agent that holds the lock, then the agents that wait for it.
        holder: the agent whose ticket is served, since step `held_since`, whether or not it has taken a step since.
        latches: "ticket n is served", for each ticket that an agent has asked about.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.tickets = 0
        self.holder: str | None = None
        self.held_since = 0
        self.queue: list[str] = []
        self.latches: dict[int, Latch] = {}
        self.latch(0).set(0)

    @property
    def space(self) -> Space:
        """Objects: 0 is the tail, from which tickets are drawn; n + 1 is "ticket n is served"."""
        return ("lock", self.name)

    def held_by(self, who: str, around: Iterable[Access] | None = None) -> "Held":
        """Return a context in which an agent holds the lock: `async with lock.held_by("reader"):`.

        Args:
            who: the agent, as events name it.
            around: every access that it may make meanwhile; an exploration may then take the section in one step.
        """
        return Held(self, who, Section(self.space, None if around is None else tuple(around)))

    def latch(self, ticket: int) -> Latch:
        """Return the latch "ticket n is served"; the release of the ticket before it sets the latch."""
        if ticket not in self.latches:
            touch = Access.to(self.space, ticket + 1, Kind.READ)
            self.latches[ticket] = Latch(f"the lock {self.name}", touch, self.describe_holder)
        return self.latches[ticket]

    def serve(self, step: int) -> None:
        """Let the first agent in the queue hold the lock from this step on."""
        self.holder = self.queue[0] if self.queue else None
        self.held_since = step

    def describe_holder(self) -> tuple[str, int] | None:
        """Return who holds the lock and since which step."""
        return None if self.holder is None else (self.holder, self.held_since)

    def __repr__(self) -> str:
        state = "free" if self.holder is None else f"held by {self.holder}, {len(self.queue) - 1} waiting"
        return f"<TicketLock {self.name}: {state}>"


class TakeTicket(Operation[Latch]):
    """Draw the next ticket, and return the latch that is set when this ticket is served."""

    __slots__ = ("contended", "lock", "opens", "step", "ticket", "who")

    def __init__(self, lock: TicketLock, who: str, section: Section) -> None:
        self.lock = lock
        self.who = who
        self.opens = section
        self.ticket = self.step = 0
        self.contended: tuple[str, int] | None = None

    def accesses(self) -> Iterable[Access]:
        return (Access.to(self.lock.space, 0, Kind.WRITE),)

    def perform(self, step: int) -> Latch:
        lock = self.lock
        self.ticket, lock.tickets = lock.tickets, lock.tickets + 1
        self.step = step
        lock.queue.append(self.who)
        self.contended = lock.describe_holder()
        if self.contended is None:
            lock.serve(step)
        return lock.latch(self.ticket)

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        if self.contended is None:
            return "lock.ticket", {"lock": self.lock.name, "ticket": self.ticket}
        holder, since = self.contended
        keys = {"lock": self.lock.name, "ticket": self.ticket, "holder": holder, "held_since": since}
        return "lock.contend", keys


class Acquire(Wait):
    """Go on once the agent's ticket is served."""

    __slots__ = ("step", "ticket")

    event = "lock.acquire"

    def __init__(self, latch: Latch, ticket: TakeTicket) -> None:
        super().__init__(latch)
        self.ticket = ticket
        self.step = 0

    def perform(self, step: int) -> None:
        self.step = step

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        if self.ticket.contended is None:
            return self.event, {"lock": self.ticket.lock.name}
        waited = {"waited_for": self.ticket.contended[0], "waited": self.step - self.ticket.step}
        return self.event, {"lock": self.ticket.lock.name, **waited}


class Release(Operation[None]):
    """Serve the next ticket."""

    __slots__ = ("closes", "held", "lock", "ticket")

    event = "lock.release"

    def __init__(self, lock: TicketLock, ticket: int) -> None:
        self.lock = lock
        self.closes = lock.space
        self.ticket = ticket
        self.held = 0

    def accesses(self) -> Iterable[Access]:
        return (Access.to(self.lock.space, self.ticket + 2, Kind.WRITE),)

    def perform(self, step: int) -> None:
        lock = self.lock
        self.held = step - lock.held_since
        lock.queue.pop(0)
        lock.serve(step)
        lock.latch(self.ticket + 1).set(step)

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"lock": self.lock.name, "held": self.held}


@attrs.define
class Held:
    """A context in which an agent holds a lock."""

    lock: TicketLock
    who: str
    section: Section
    ticket: int = 0

    async def __aenter__(self) -> None:
        ticket = TakeTicket(self.lock, self.who, self.section)
        latch = await ticket
        self.ticket = ticket.ticket
        await Acquire(latch, ticket)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await Release(self.lock, self.ticket)
