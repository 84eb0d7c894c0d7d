"""The command queue (chapter 3.5.1), with its base, PROD and CONS registers.

PROD is written by software, CONS by the unit: at a CMD_SYNC it stops until that has completed, so software that finds
the queue empty knows that its last CMD_SYNC has. PROD and CONS have one bit more than an index, so a full queue leaves
no slot empty.

A unit that does not snoop may read what stood in a slot before, until software has written its line back.

Not architectural: with fewer slots than `ENTRIES` the queue is soon full. Not modelled: the interrupt by which software
learns that the unit has stopped at a command (GERROR.CMDQ_ERR).
"""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import attrs

from emu.engine import Access, Kind, Operation
from emu.iommus.ring import Ring
from emu.iommus.smmu.v3.formats import (
    Command,
    InvalidateAll,
    InvalidatePage,
    InvalidateStream,
    InvalidateStreams,
    InvalidateVmid,
    Prefetch,
    Sync,
    decode_command,
)
from emu.units import Maddr

ENTRIES = 256
"""Commands in a queue of one page."""


@attrs.define(eq=False)
class CommandQueue(Ring[Command]):
    """The queue."""

    name = "command queue"
    translations: ClassVar = ("pages", "all")
    tail_is_register = False
    spare: ClassVar = 0

    def decode(self, bits: int) -> Command | None:
        """Decode 128 bits; None if they are no command of the model."""
        return decode_command(bits)

    def status_address(self, command: Command) -> Maddr | None:
        """Return None: software looks at CONS, and lets no CMD_SYNC write a word."""
        return None

    def fetch(self, slot: int, command: Command | None, step: int) -> None:
        """Move CONS past a command, unless it is a CMD_SYNC or none that is valid."""
        self.error = command is None
        if not (command is None or isinstance(command, Sync)):
            self.move_head(slot, step)

    def about(self, command: Command) -> dict[str, Any]:
        """Return a command as keys of an event."""
        match command:
            case InvalidateStream(stream_id) | Prefetch(stream_id):
                name = "prefetch" if isinstance(command, Prefetch) else "device"
                keys: dict[str, Any] = {"descriptor": name, "source_id": stream_id}
            case InvalidateStreams():
                keys = {"descriptor": "device", "source_id": "all"}
            case InvalidateVmid(vmid):
                keys = {"descriptor": "pages", "tag": vmid, "granularity": "domain"}
            case InvalidatePage(vmid, dfn, leaf):
                page = {"granularity": "page", "dfn": dfn, "page_order": 0, "leaf_only": leaf}
                keys = {"descriptor": "pages", "tag": vmid, **page}
            case Sync() | InvalidateAll():
                keys = {"descriptor": "wait" if isinstance(command, Sync) else "all"}
        return keys


class CompleteSync(Operation[None]):
    """Complete a CMD_SYNC: CONS moves past it (chapter 4.7.3)."""

    __slots__ = ("queue", "slot")

    event = "queue.complete"

    def __init__(self, queue: CommandQueue, slot: int) -> None:
        self.queue = queue
        self.slot = slot

    def accesses(self) -> Iterable[Access]:
        return (self.queue.fetch_access(self.slot, Kind.WRITE),)

    def perform(self, step: int) -> None:
        self.queue.move_head(self.slot, step)

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"iommu": self.queue.unit, "slot": self.slot}
