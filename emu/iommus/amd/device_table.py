"""The device table, its cache, and the entries that a unit may legally use (sections 2.2.2 and 2.4.2)."""

from collections.abc import Iterator
from math import inf

import attrs

from emu.iommus.amd.formats import DeviceTableEntry, decode_device_entry
from emu.iommus.device_entries import EntryTable
from emu.iommus.paths import UNTRANSLATED, Tables
from emu.units import WORD_BYTES, Maddr

ENTRY_BYTES = 32
ENTRY_WORDS = ENTRY_BYTES // WORD_BYTES
TABLE_FRAMES = (1 << 16) * ENTRY_BYTES >> 12
"""Frames of a table with an entry for each of 2^16 device ids."""

ABORT = DeviceTableEntry(translates=False)
"""What an entry that is not legal comes to: requests are aborted."""


@attrs.define(eq=False)
class DeviceTable(EntryTable[DeviceTableEntry]):
    """The table, with an entry for each device id."""

    def address(self, source_id: int) -> Maddr:
        """Return where the entry of a device lies."""
        return Maddr(self.base + ENTRY_BYTES * source_id)

    def words(self, source_id: int) -> range:
        """Return the addresses of the words of a device's entry."""
        first = self.address(source_id)
        return range(first, first + ENTRY_BYTES, WORD_BYTES)

    def seen(self, source_id: int) -> int:
        """Return the 256 bits of a device's entry as a walker reads them now."""
        return joined(self.memory.seen(word) for word in self.words(source_id))

    def entry_seen(self, source_id: int) -> DeviceTableEntry:
        """Return a device's entry as a walker reads it now; what is not legal aborts requests."""
        return decode_device_entry(self.seen(source_id)) or ABORT

    def lifetimes(self, source_id: int) -> Iterator[tuple[DeviceTableEntry, int, float]]:
        """Yield every entry that a device has ever had, with the steps from and until which it may be used.

        The newest is first.
        """
        histories = [self.memory.history(word) for word in self.words(source_id)]
        until = inf
        for step in sorted({version.stored for history in histories for version in history}, reverse=True):
            values = (next(v.value for v in reversed(history) if v.stored <= step) for history in histories)
            entry = decode_device_entry(joined(values)) or ABORT
            yield entry, step, inf if until == inf else self.dropped(source_id, until)
            until = step

    def tables_of(self, entry: DeviceTableEntry) -> Tables | None:
        """Return the tables that an entry names; none of a level where requests pass through, None for an abort."""
        if not entry.is_valid:
            return Tables(UNTRANSLATED, Maddr(0), 0)
        if not entry.translates:
            return None
        tag, root = (entry.domain_id, entry.root) if entry.mode else (UNTRANSLATED, Maddr(0))
        return Tables(tag, root, entry.mode, read=entry.read, write=entry.write)


def joined(words: Iterator[int]) -> int:
    """Return the bits of words that follow one another, the lowest first."""
    return sum(word << 64 * index for index, word in enumerate(words))
