"""The command buffer (section 2.4), with its base, head and tail registers."""

from typing import Any, ClassVar

import attrs

from emu.iommus.amd.formats import (
    Command,
    CompletionWait,
    InvalidateAll,
    InvalidateDeviceEntry,
    InvalidateDeviceTlb,
    InvalidatePages,
    decode_command,
)
from emu.iommus.ring import Ring
from emu.units import Maddr

ENTRIES = 256
"""Commands in a ring of one page: the smallest that the base register can say (ComLen)."""


@attrs.define(eq=False)
class CommandBuffer(Ring[Command]):
    """The ring. Not architectural: with fewer slots than `ENTRIES` it is soon full.

    Attributes:
        status: the address of the status register, whose bit 2, ComWaitInt, waits with I set.
    """

    status: Maddr = Maddr(0)

    name = "command buffer"
    translations: ClassVar = ("pages", "all")
    tail_is_register = False

    def decode(self, bits: int) -> Command | None:
        """Decode 128 bits; None if they are no command of the model."""
        return decode_command(bits)

    def status_address(self, command: Command) -> Maddr | None:
        """Return the address that a COMPLETION_WAIT stores to, or that of the status register."""
        if not isinstance(command, CompletionWait) or not (command.store or command.interrupt):
            return None
        return command.store_address if command.store else self.status

    def about(self, command: Command) -> dict[str, Any]:
        """Return a command as keys of an event."""
        match command:
            case CompletionWait():
                return {"descriptor": "wait", "address": self.status_address(command)}
            case InvalidateDeviceEntry(device_id):
                return {"descriptor": "device", "source_id": device_id}
            case InvalidatePages(domain_id, dfn, order, directory):
                return {"descriptor": "pages", "tag": domain_id, **pages(dfn, order), "leaf_only": not directory}
            case InvalidateDeviceTlb(device_id, dfn, order):
                return {"descriptor": "device_tlb", "source_id": device_id, **pages(dfn, order)}
            case InvalidateAll():
                return {"descriptor": "all"}


def pages(dfn: int, order: int | None) -> dict[str, Any]:
    """Return a range of pages as keys of an event."""
    return {"granularity": "domain"} if order is None else {"granularity": "page", "dfn": dfn, "page_order": order}
