"""Signals: one CPU tells others something once, such as that a call has returned."""

from collections.abc import Iterable, Mapping
from typing import Any

from emu.engine import Access, Kind, Latch, Operation, Wait


class Signal:
    """A signal that is sent once; the bodies that wait for it go on after that."""

    def __init__(self, name: str) -> None:
        self.latch = Latch(f"the signal {name!r}", Access.to(("signal", name), 0, Kind.WRITE))
        self.name = name

    async def send(self) -> None:
        """Let all that wait for the signal go on."""
        await Send(self)

    async def wait(self) -> None:
        """Wait until the signal is sent."""
        await Wait(self.latch)


class Send(Operation[None]):
    """Set the signal's latch."""

    __slots__ = ("signal",)

    event = "signal.send"

    def __init__(self, signal: Signal) -> None:
        self.signal = signal

    def accesses(self) -> Iterable[Access]:
        return (self.signal.latch.touch,)

    def perform(self, step: int) -> None:
        self.signal.latch.set(step)

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"signal": self.signal.name}
