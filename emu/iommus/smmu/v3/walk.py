"""Reading a stream table entry, a word at a time. The rest of the walk is that of every unit with such a table.

Cached translations are found by VMID and address, so the stream's entry comes first (chapter 3.3).
"""

from collections.abc import Iterable, Mapping
from typing import Any

from emu.engine import Access, Kind, Operation
from emu.iommus.device_entries import CachedEntry
from emu.iommus.requests import TableRead
from emu.iommus.smmu.v3.formats import ABORT, StreamTableEntry, decode_entry
from emu.iommus.smmu.v3.state import Smmuv3State
from emu.iommus.smmu.v3.stream_table import WORDS_READ
from emu.memory import WORDS, word_number


class ReadEntryWord(Operation[int]):
    """Read one word of a stream's entry."""

    __slots__ = ("address", "source_id", "unit", "value")

    event = "walk.stream_entry"

    def __init__(self, unit: Smmuv3State, source_id: int, address: int) -> None:
        self.unit = unit
        self.source_id = source_id
        self.address = address
        self.value = 0

    def accesses(self) -> Iterable[Access]:
        return (Access.to(WORDS, word_number(self.address), Kind.READ),)

    def perform(self, step: int) -> int:
        self.value = self.unit.memory.seen(self.address)
        return self.value

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"source_id": self.source_id, "address": self.address, "value": self.value}


async def read_stream_entry(unit: Smmuv3State, source_id: int) -> CachedEntry[StreamTableEntry]:
    """Read a stream's entry, a word at a time; of one that does not translate only the first.

    A stream to whose entry no level-1 descriptor leads is aborted (C_BAD_STREAMID).
    """
    level, words = unit.format.device_level, unit.device_table.words(source_id)
    order = unit.format.orders[level]
    entry, values, reads = ABORT, [], []
    for number in WORDS_READ if words else ():
        values.append(await ReadEntryWord(unit, source_id, words[number]))
        reads.append(TableRead(level, order, words[number], unit.trace.step, is_leaf=False))
        first, third, fourth = (*values, 0, 0)[: len(WORDS_READ)]
        entry = decode_entry(first, third, fourth)
        if not entry.translates:
            break
    return entry, tuple(reads)
