"""Status words: a unit writes one to memory when a wait completes, at the address that software has named."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from emu.engine import Access
from emu.memory import Memory, Store
from emu.units import Maddr


class StatusWatcher(Protocol):
    """A check of the status words that a unit writes."""

    def reads(self, address: Maddr) -> Iterable[Access]:
        """Return the reads of `written`. Both software's request for the word and the unit's write declare them."""

    def written(self, unit: str, address: Maddr, asked: int, step: int) -> None:
        """Judge a status word at the step at which a unit has written it; software asked for it at step `asked`."""


class Unwatched:
    """Watches nothing."""

    def reads(self, address: Maddr) -> Iterable[Access]:
        """Return nothing."""
        return ()

    def written(self, unit: str, address: Maddr, asked: int, step: int) -> None:
        """Do nothing."""


class WriteStatus(Store):
    """A unit writes a status word.

    Args:
        bits: the width of the word, 32 or 64.
        asked: the step at which software asked for it.
    """

    __slots__ = ("asked", "unit", "watcher")

    event = "queue.status"
    saved_as = Store.__name__  # the name that saved schedules have for it

    def __init__(
        self, unit: str, memory: Memory, address: Maddr, value: int, bits: int, asked: int, watcher: StatusWatcher
    ) -> None:
        keys: Mapping[str, Any] = {"iommu": unit}
        super().__init__(memory, address, value, bits, self.event, keys)
        self.unit = unit
        self.asked = asked
        self.watcher = watcher

    def accesses(self) -> Iterable[Access]:
        yield from super().accesses()
        yield from self.watcher.reads(Maddr(self.address))

    def perform(self, step: int) -> int:
        old = super().perform(step)
        self.watcher.written(self.unit, Maddr(self.address), self.asked, step)
        return old
