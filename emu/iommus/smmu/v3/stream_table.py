"""The stream table, its cache, and the entries that a unit may legally use (chapters 3.3 and 3.21.3).

The table has two levels: a stream id's high bits, the bus, select a level-1 descriptor, and the low bits an entry. No
descriptor changes after the first step, so reading one is no step.

A unit may cache any entry, also one that is not valid, until CMD_CFGI_STE and a CMD_SYNC have completed. It reads an
entry in pieces of 64 bits, so it may find one that was never stored: some words as they stood before a change, and some
as they stood after it.

Not architectural: the pieces are read from the lowest on. Hardware may read them in any order.
"""

from collections.abc import Iterator
from itertools import product
from math import inf

import attrs

from emu.iommus.device_entries import EntryTable
from emu.iommus.paths import UNTRANSLATED, Tables
from emu.iommus.smmu.formats import encode_control, levels_of
from emu.iommus.smmu.v3.formats import (
    ABORT,
    ENTRY_BYTES,
    ENTRY_WORDS_USED,
    SPLIT,
    Config,
    StreamTableEntry,
    decode_entry,
    decode_l1_descriptor,
)
from emu.units import WORD_BYTES, Maddr

L2_BYTES = ENTRY_BYTES << SPLIT
"""The size of the entries of one bus."""

WORDS_READ = (0, 2, 3)
"""The numbers of the words on which translation depends, in the order in which they are read."""

Piece = tuple[int, int, float]
"""A value of a word: the step of its store, and the step from which every walker reads a newer one."""


@attrs.define(eq=False)
class StreamTable(EntryTable[StreamTableEntry]):
    """The table. The base is that of the level-1 descriptors.

    Attributes:
        ipa_bits: how wide the addresses are that tables translate.
        aarch32: the unit walks tables of AArch32, too.
    """

    ipa_bits: int = attrs.field(kw_only=True)
    aarch32: bool = attrs.field(default=False, kw_only=True)

    def l1_address(self, source_id: int) -> Maddr:
        """Return the address of the level-1 descriptor of a stream."""
        return Maddr(self.base + WORD_BYTES * (source_id >> SPLIT))

    def address(self, source_id: int) -> Maddr | None:
        """Return where the entry of a stream lies; None if no level-1 descriptor leads to it."""
        table = decode_l1_descriptor(self.memory.peek(self.l1_address(source_id)))
        return None if table is None else Maddr(table + ENTRY_BYTES * (source_id & (1 << SPLIT) - 1))

    def words(self, source_id: int) -> range:
        """Return the addresses of the words of a stream's entry on which stage-2 translation depends."""
        first = self.address(source_id)
        return range(0) if first is None else range(first, first + WORD_BYTES * ENTRY_WORDS_USED, WORD_BYTES)

    def entry_seen(self, source_id: int) -> StreamTableEntry:
        """Return a stream's entry as a walker reads it now, in one step."""
        words = self.words(source_id)
        return decode_entry(*(self.memory.seen(words[number]) for number in WORDS_READ)) if words else ABORT

    def lifetimes(self, source_id: int) -> Iterator[tuple[StreamTableEntry, int, float]]:
        """Yield every entry that a walker may ever have found, with the steps from and until which it may be used.

        The newest is first. A torn one is among them: its words were read one after another, each when it had its
        value. It may be used until an invalidation completes that began after the first of its words was replaced.
        """
        words = self.words(source_id)
        if not words:
            yield ABORT, 0, inf
            return
        found: list[tuple[tuple[int, tuple[int, ...]], StreamTableEntry, float]] = []
        versions = [list(enumerate(self.pieces(words[number]))) for number in WORDS_READ]
        for chosen in product(*versions):
            numbers, pieces = zip(*chosen, strict=True)
            if not decode_entry(pieces[0][0], 0, 0).translates:
                if numbers[1:] != (0, 0):
                    continue
                pieces = pieces[:1]
            since = read_by(pieces)
            replaced = min(until for *_, until in pieces)
            until = inf if replaced == inf else self.dropped(source_id, replaced)
            if since is not None and since < until:
                values = (*(value for value, *_ in pieces), 0, 0)[:3]
                found.append(((since, numbers), decode_entry(*values), until))
        found.sort(key=lambda one: one[0], reverse=True)
        yield from ((entry, since, until) for (since, _), entry, until in found)

    def pieces(self, address: int) -> Iterator[tuple[int, int, float]]:
        """Yield the values of a word, the oldest first: the value, the step of its store, and the step of its end."""
        history = self.memory.history(address)
        for number, version in enumerate(history):
            until = min((later.visible for later in history[number + 1 :]), default=inf)
            yield version.value, version.stored, until

    def tables_of(self, entry: StreamTableEntry) -> Tables | None:
        """Return the tables that an entry names; none of a level where requests pass through, None for an abort."""
        if entry.is_valid and entry.config == Config.BYPASS:
            return Tables(UNTRANSLATED, Maddr(0), 0)
        if not entry.translates or not self.can_walk(entry):
            return None
        return Tables(entry.vmid, entry.root, levels_of(entry.control))

    def can_walk(self, entry: StreamTableEntry) -> bool:
        """Whether the unit can walk the tables that an entry names; else the entry is not legal, and aborts.

        Not modelled: tables of AArch64 for addresses of another width than the unit's format has, and of AArch32 the
        tables that stand beside the first one at the top.
        """
        if entry.is_aarch64:
            return entry.control == encode_control(self.ipa_bits)
        return self.aarch32 and levels_of(entry.control) in AARCH32_LEVELS


AARCH32_LEVELS = (2, 3)
"""Tables of AArch32 begin at the architecture's level 2 or 1."""


def read_by(pieces: tuple[tuple[int, int, float], ...]) -> int | None:
    """Return the first step at which a walker may have read these values one after another; None if none can."""
    step = 0
    for _, stored, until in pieces:
        step = max(step, stored)
        if step >= until:
            return None
    return step
