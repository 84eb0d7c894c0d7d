"""Reading an AMD-Vi device table entry. The rest of the walk is that of every unit with such a table.

Cached translations are found by domain id and address, so the device's entry comes first (sections 2.2.2 and 2.2.3).
"""

from collections.abc import Iterable, Mapping
from typing import Any

from emu.engine import Access, Kind, Operation
from emu.iommus.amd.device_table import ABORT, ENTRY_WORDS
from emu.iommus.amd.formats import DeviceTableEntry, decode_device_entry
from emu.iommus.amd.state import AmdState
from emu.iommus.device_entries import CachedEntry
from emu.iommus.requests import TableRead
from emu.memory import WORDS, word_number


class ReadDeviceEntry(Operation[int]):
    """Read the 256 bits of a device's entry.

    Translation depends on the first 128 bits only, so a unit that reads the entry in two halves shows the same.
    """

    __slots__ = ("source_id", "unit", "value")

    event = "walk.device_entry"

    def __init__(self, unit: AmdState, source_id: int) -> None:
        self.unit = unit
        self.source_id = source_id
        self.value = 0

    def accesses(self) -> Iterable[Access]:
        first = word_number(self.unit.device_table.address(self.source_id))
        return (Access(WORDS, first, first + ENTRY_WORDS - 1, Kind.READ),)

    def perform(self, step: int) -> int:
        self.value = self.unit.device_table.seen(self.source_id)
        return self.value

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        address = self.unit.device_table.address(self.source_id)
        return self.event, {"source_id": self.source_id, "address": address, "value": f"{self.value:#066x}"}


async def read_device_entry(unit: AmdState, source_id: int) -> CachedEntry[DeviceTableEntry]:
    """Read a device's entry, which is read whole; what is not legal aborts requests."""
    level = unit.format.device_level
    entry = decode_device_entry(await ReadDeviceEntry(unit, source_id)) or ABORT
    order, step = unit.format.orders[level], unit.trace.step
    words = unit.device_table.words(source_id)
    return entry, tuple(TableRead(level, order, word, step, is_leaf=False) for word in words)
