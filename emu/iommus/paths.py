"""Paths: the reads by which a walk may have found a translation, computed by descending the histories of words.

`lifetimes` says how long a word had each of its values, `Descent` finds the values that one walk could read one after
another, and `NotedReads` notes the shared objects on which the answer depends.
"""

from collections.abc import Iterable, Iterator
from math import inf
from typing import NamedTuple

import attrs

from emu.engine.execution import ReadRecorder
from emu.iommus.completed_invalidations import CompletedInvalidations
from emu.iommus.formats import FAULT, Entry, TableFormat, Translation
from emu.iommus.objects import object_number, table_space
from emu.memory import WORDS, Memory, Version, word_number
from emu.units import Dfn, Maddr

UNTRANSLATED = 1 << 16
"""The tag of requests that pass through untranslated: no domain's, and no invalidation names it."""


class Tables(NamedTuple):
    """The tables that translate for a domain tag.

    Attributes:
        levels: how many levels they have; 0 where requests pass through untranslated.
        read, write: the permissions that the device's own entry grants.
        since: the first step at which a device's own entry led a walk to the root table.
        until: the step from which no walk may use the root table any more.
    """

    tag: int
    root: Maddr
    levels: int
    since: int = 0
    until: float = inf
    read: bool = True
    write: bool = True


class PathEntry(NamedTuple):
    """A value of a word that a path reads, and when it was replaced.

    Attributes:
        overwritten: the step of the store that replaced the value; None if none did.
        outdated: the step from which every walker reads a newer value; infinite while a walker may still read this one.
    """

    level: int
    address: Maddr
    version: Version
    overwritten: int | None
    outdated: float


class Path(NamedTuple):
    """A legal sequence of reads from the root table down to a leaf, or to a word that is not present: a fault."""

    translation: Translation
    entries: tuple[PathEntry, ...]

    def overwritten_by(self, step: int) -> PathEntry | None:
        """Return the first entry that the CPUs replaced at or before a step; None if there is none."""
        return first_replaced(entry for entry in self.entries if entry.overwritten and entry.overwritten <= step)

    def outdated_by(self, step: int) -> PathEntry | None:
        """Return the first replaced entry of which walkers read only newer values at a step; None if there is none.

        A store that waits in a cache or a buffer counts for `overwritten_by` only.
        """
        return first_replaced(entry for entry in self.entries if entry.outdated <= step)


def first_replaced(entries: Iterable[PathEntry]) -> PathEntry | None:
    """Return the entry that was overwritten first."""
    return min(entries, key=lambda entry: (entry.overwritten, -entry.level), default=None)


Lifetime = tuple[Version, float, int | None, float]
"""A value of a word; the step from which no walker reads it any more; its `overwritten` and `outdated` (`PathEntry`)
by the first later value that counts as a replacement."""


def lifetimes(
    memory: Memory, format_: TableFormat, address: int, level: int, *, counts_widening: bool
) -> Iterator[Lifetime]:
    """Yield the values of a table's word with their lifetimes, the newest first."""
    until, overwritten, outdated, newer = inf, None, inf, None
    for version in reversed(memory.history(address)):
        if newer is not None and (counts_widening or not is_widened(format_, version, newer, level)):
            overwritten, outdated = newer.stored, until
        yield version, until, overwritten, outdated
        until, newer = min(until, version.visible), version


def is_widened(format_: TableFormat, old: Version, new: Version, level: int) -> bool:
    """Whether a table entry was only given more permissions, so that a cached copy of it still leads to the same table.

    A driver that enters a new table in several stores changes the entry like this.
    """
    if level not in format_.table_levels:
        return False
    before, after = format_.decode(old.value, level), format_.decode(new.value, level)
    if before is None or after is None or before.is_leaf or after.is_leaf:
        return False
    leads_there = before.address == after.address and before.next_level == after.next_level
    return leads_there and before.read <= after.read and before.write <= after.write


class NotedReads:
    """Notes the shared objects on which the set of old paths depends.

    An old path has an entry that was replaced at or before step `changed`. It depends on whether that entry was
    dropped, and on the words of the tables to which it leads. The rest of the history up to `changed` is fixed.

    Args:
        changed: infinite if all paths are asked for; then every object on which a path depends is noted.
    """

    __slots__ = ("changed", "recorder", "unit")

    def __init__(self, recorder: ReadRecorder, unit: str, changed: float) -> None:
        self.recorder = recorder
        self.unit = unit
        self.changed = changed

    def is_replaced(self, overwritten: int | None) -> bool:
        """Whether a value counts as replaced; every value does if all paths are asked for."""
        return self.changed == inf or (overwritten is not None and overwritten <= self.changed)

    def word(self, address: int, above: tuple[PathEntry, ...]) -> None:
        """Note that the answer depends on a word to which these entries lead."""
        if self.changed == inf or any(self.is_replaced(entry.overwritten) for entry in above):
            self.recorder.read(WORDS, word_number(address))

    def drop(self, tag: int, number: int, level: int, overwritten: int | None) -> None:
        """Note that the answer depends on whether a cached table entry was dropped."""
        if self.is_replaced(overwritten):
            self.recorder.read(table_space(self.unit, level), object_number(tag, number))


@attrs.frozen
class Descent:
    """Finds all legal paths of one dfn.

    Attributes:
        since: the start of the last completed invalidation that covers the leaf.
        caches_non_present: the unit may cache a path to a fault, which is then legal until an invalidation drops it.
        counts_widening: a table entry that was given more permissions counts as replaced.
        notes: notes the objects on which the answer depends; None if nobody asks for them.
    """

    memory: Memory
    format: TableFormat
    completed: CompletedInvalidations
    tables: Tables
    dfn: Dfn
    since: int
    caches_non_present: bool
    counts_widening: bool
    notes: NotedReads | None

    def below(self, level: int, table: Maddr, low: float, high: float, above: tuple[PathEntry, ...]) -> Iterator[Path]:
        """Yield the paths from a table of a level down, newest values first.

        Args:
            low, high: the word is read at or after `low` and before `high`.
            above: the entries read on the way to the table.
        """
        if level == 1:
            low = max(low, self.since)
        address = self.format.entry_address(table, self.dfn, level)
        if self.notes is not None:
            self.notes.word(address, above)
        known = lifetimes(self.memory, self.format, address, level, counts_widening=self.counts_widening)
        for version, until, overwritten, outdated in known:
            earliest, latest = max(version.stored, low), min(until, high)
            if earliest < latest:
                entries = (*above, PathEntry(level, address, version, overwritten, outdated))
                yield from self.onwards(entries, earliest, latest)
            if version.visible <= low:
                break

    def onwards(self, entries: tuple[PathEntry, ...], earliest: float, latest: float) -> Iterator[Path]:
        """Yield the paths that go on from the last entry, which was read between two steps."""
        level, _, version, overwritten, _ = entries[-1]
        entry = self.format.read(version.value, level, self.dfn)
        if entry is None:
            if latest == inf or (self.caches_non_present and latest > self.since):
                yield Path(FAULT, entries)
        elif entry.next_level:
            if self.notes is not None:
                self.notes.drop(self.tables.tag, self.dfn >> self.format.orders[level], level, overwritten)
            # A unit's cached copy of an entry that skips levels may stand for the dfns of the next table alone.
            reached = entry.next_level + 1
            dropped = inf if latest == inf else self.completed.next_drop(self.tables.tag, self.dfn, reached, latest)
            yield from self.below(entry.next_level, entry.address, earliest, dropped, entries)
        elif latest > self.since:
            yield Path(self.translation(entry, entries), entries)

    def translation(self, leaf: Entry, entries: tuple[PathEntry, ...]) -> Translation:
        """Return the translation of a path, with the permissions that all its entries grant."""
        read, write = leaf.read and self.tables.read, leaf.write and self.tables.write
        for one in entries[:-1]:
            above = self.format.decode(one.version.value, one.level)
            read, write = read and bool(above and above.read), write and bool(above and above.write)
        return Translation(entries[-1].version.value, leaf.order, read, write, leaf.address)
