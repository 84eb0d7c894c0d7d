"""The ledger: which translations a unit may legally use, whatever its caches really hold.

A translation of a dfn is legal if some sequence of reads could have put it into a cache and nothing has had to drop
it since. Such a *path* reads one word at each level, top down, at steps t_L <= ... <= t_1, each value visible to the
walker at its step, so that

* t_1 is not before the start of the last completed invalidation that covers the leaf, and
* between t_k and t_(k-1) no invalidation dropped the cached entry of level k (the paging-structure caches).

The answer is found on question, by descending the histories of the words (memory.py); nothing is kept in sets, and
an invalidation, however wide, costs the same. An invalidation counts from its start, once it completes: what was
read before the start is gone, what was read while it executed may stay.

Sources: VT-d 6.2.4, 6.2.5, 6.5.3; RISC-V IOMMU, note on IOTINVAL, states the rule most clearly.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from math import inf
from typing import NamedTuple

import attrs

from emu.engine import Access, Kind, Space
from emu.engine.execution import ReadRecorder
from emu.iommus.formats import FAULT, TABLE_LEVELS, Decode, Entry, Translation, entry_address, level_base, level_order
from emu.memory import WORDS, Memory, Version, word_number
from emu.units import Dfn, Maddr

TAG_SHIFT = 52
TAG_MAX = 0xFFFF


class Tables(NamedTuple):
    """What a domain tag stands for: the tables that translate for it.

    Attributes:
        since: the first step at which a walk could read the root table, for a context entry leads there.
        until: the step from which no walk may do so any more.
    """

    tag: int
    root: Maddr
    levels: int
    since: int = 0
    until: float = inf


class PathEntry(NamedTuple):
    """One word that a path reads: which value of it, and what has become of that.

    Attributes:
        overwritten: the step of the store that replaced the value; None if none did.
        outdated: the step from which a walker could read a newer value; infinite as long as it cannot.
    """

    level: int
    address: Maddr
    version: Version
    overwritten: int | None
    outdated: float


class Path(NamedTuple):
    """A legal way to a translation, from the root table to the leaf, or to a word that is not present: to a fault."""

    translation: Translation
    entries: tuple[PathEntry, ...]

    def overwritten_by(self, step: int) -> PathEntry | None:
        """Return the entry that the CPUs replaced first, if that was at or before a step."""
        return first_replaced(entry for entry in self.entries if entry.overwritten and entry.overwritten <= step)

    def outdated_by(self, step: int) -> PathEntry | None:
        """Return the entry that the CPUs replaced first of those of which a walker could read a newer value at a step.

        It is less than `overwritten_by` where a store waits in a cache or a buffer.
        """
        return first_replaced(entry for entry in self.entries if entry.outdated <= step)


def first_replaced(entries: Iterable[PathEntry]) -> PathEntry | None:
    """Return the entry that was overwritten first."""
    return min(entries, key=lambda entry: (entry.overwritten, -entry.level), default=None)


@attrs.define(eq=False)
class Ledger:
    """Invalidations of one unit, and the question what is still legal.

    Attributes:
        unit: name of the unit.
        caches_non_present: it may cache that a page has no translation (VT-d: caching mode).
        recorder: told which objects a question depended on.
    """

    unit: str
    memory: Memory
    decode: Decode
    caches_non_present: bool = False
    recorder: ReadRecorder = attrs.field(factory=ReadRecorder)
    all_since: int = 0
    tag_since: dict[int, int] = attrs.field(factory=dict)
    range_since: dict[tuple[int, int, int], int] = attrs.field(factory=dict)
    orders: dict[int, list[int]] = attrs.field(factory=dict)
    drops: dict[int | None, list[tuple[int, Dfn, Dfn]]] = attrs.field(factory=dict)

    @property
    def space(self) -> Space:
        """The ledger's objects for leaves: one for each tag and dfn."""
        return ("ledger", self.unit)

    def drop_space(self, level: int) -> Space:
        """The ledger's objects for cached table entries of a level: one for each tag and number of an entry."""
        return ("ledger", self.unit, f"level {level}")

    def number(self, tag: int, dfn: int) -> int:
        """Return the number of the object of a tag and dfn."""
        return tag << TAG_SHIFT | dfn

    def access(self, tag: int | None, first: int, last: int, kind: Kind) -> Access:
        """Return the access to the objects of a range of dfns under a tag; under every tag if it is None."""
        if tag is None:
            return Access(self.space, 0, self.number(TAG_MAX, (1 << TAG_SHIFT) - 1), kind)
        return Access(self.space, self.number(tag, first), self.number(tag, last), kind)

    def drop_accesses(self, tag: int | None, first: Dfn, last: Dfn) -> Iterator[Access]:
        """Yield the accesses that drop the cached table entries which stand for one of the dfns first..last."""
        for level in TABLE_LEVELS:
            order = level_order(level)
            low = 0 if tag is None else self.number(tag, first >> order)
            high = self.number(TAG_MAX if tag is None else tag, last >> order)
            yield Access(self.drop_space(level), low, high, Kind.COMMUTE)

    def complete(self, start: int, tag: int | None, dfn: Dfn, order: int | None, *, leaf_only: bool = False) -> None:
        """Note that an invalidation has completed.

        Args:
            start: the step at which it began.
            tag: the domain tag that it names; None for every tag.
            dfn: the first of its dfns.
            order: it covers 2^order dfns; None for every dfn of the tag.
            leaf_only: cached table entries were allowed to stay.
        """
        if tag is None:
            self.all_since = max(self.all_since, start)
        elif order is None:
            self.tag_since[tag] = max(self.tag_since.get(tag, 0), start)
        else:
            dfn = Dfn(dfn >> order << order)
            key = (tag, order, dfn >> order)
            self.range_since[key] = max(self.range_since.get(key, 0), start)
            if order not in self.orders.setdefault(tag, []):
                self.orders[tag].append(order)
        if not leaf_only:
            first, last = (dfn, Dfn(dfn + (1 << order) - 1)) if order is not None else (Dfn(0), Dfn(1 << TAG_SHIFT))
            drops = self.drops.setdefault(tag, [])
            drops.insert(bisect_left(drops, (start, first, last)), (start, first, last))

    def since(self, tag: int, dfn: Dfn) -> int:
        """Return the start of the last completed invalidation that covers a leaf; 0 if there was none."""
        latest = max(self.all_since, self.tag_since.get(tag, 0))
        for order in self.orders.get(tag, ()):
            latest = max(latest, self.range_since.get((tag, order, dfn >> order), 0))
        return latest

    def next_drop(self, tag: int, dfn: Dfn, level: int, step: float) -> float:
        """Return the first step at or after `step` from which the cached entry of a level is gone."""
        first = level_base(dfn, level)
        last = first + (1 << level_order(level)) - 1
        earliest = inf
        for drops in (self.drops.get(tag, ()), self.drops.get(None, ())):
            for index in range(bisect_left(drops, (step, 0, 0)), len(drops)):
                start, low, high = drops[index]
                if low <= last and first <= high:
                    earliest = min(earliest, start)
                    break
        return earliest

    def all_dropped(self, tag: int, step: float) -> float:
        """Return the first step at or after `step` from which all that was cached of a tag is gone."""
        everything = (Dfn(0), Dfn(1 << TAG_SHIFT))
        drops = (*self.drops.get(tag, ()), *self.drops.get(None, ()))
        return min((start for start, *covered in drops if start >= step and (*covered,) == everything), default=inf)

    def paths(self, tables: Tables, dfn: Dfn, changed: float = -1) -> Iterator[Path]:
        """Yield every legal path of a dfn, newest values first.

        A path to a fault is legal if the walker can read the word that is not present now, or if the unit caches
        non-present entries and has not had to drop that one.

        Args:
            changed: note as read what depends on an entry that was replaced at or before this step: when it was
                dropped, and the words that it leads to; everything if it is infinite.
        """
        since = self.since(tables.tag, dfn)

        def descend(level: int, table: Maddr, low: float, high: float, above: tuple[PathEntry, ...]) -> Iterator[Path]:
            if level == 1:
                low = max(low, since)
            address = entry_address(table, dfn, level)
            if changed == inf or any(e.overwritten is not None and e.overwritten <= changed for e in above):
                self.recorder.read(WORDS, word_number(address))
            until, overwritten, outdated, newer = inf, None, inf, None
            for version in reversed(self.memory.history(address)):
                if newer is not None and not self.is_widened(version, newer, level):
                    overwritten, outdated = newer.stored, until
                earliest, latest = max(version.visible, low), min(until, high)
                if earliest < latest:
                    entry = self.decode(version.value, level)
                    entries = (*above, PathEntry(level, address, version, overwritten, outdated))
                    if entry is None:
                        if latest == inf or (self.caches_non_present and latest > since):
                            yield Path(FAULT, entries)
                    elif not entry.is_leaf:
                        if changed == inf or (overwritten is not None and overwritten <= changed):
                            number = self.number(tables.tag, dfn >> level_order(level))
                            self.recorder.read(self.drop_space(level), number)
                        limit = inf if latest == inf else self.next_drop(tables.tag, dfn, level, latest)
                        yield from descend(level - 1, entry.address, earliest, limit, entries)
                    elif latest > since:
                        yield Path(self.translation(entry, version.value, level, entries), entries)
                if version.visible <= low:
                    break
                until, newer = min(until, version.visible), version

        yield from descend(tables.levels, tables.root, tables.since, tables.until, ())

    def newer(self, address: int, level: int, step: int) -> Sequence[Version]:
        """Return the values that came after what a walker read of a word at a step; from the first that says more.

        That is one which does not merely widen a table entry.
        """
        history = self.memory.history(address)
        read = max(index for index, version in enumerate(history) if version.visible <= step)
        while read + 1 < len(history) and self.is_widened(history[read], history[read + 1], level):
            read += 1
        return history[read + 1 :]

    def is_widened(self, old: Version, new: Version, level: int) -> bool:
        """Whether a table entry was only given more permissions: what was cached of it still leads where it should.

        A driver that enters a new table in several stores does so.
        """
        if level not in TABLE_LEVELS:
            return False
        before, after = self.decode(old.value, level), self.decode(new.value, level)
        if before is None or after is None or before.is_leaf or after.is_leaf or before.address != after.address:
            return False
        return before.read <= after.read and before.write <= after.write

    def translation(self, leaf: Entry, word: int, level: int, entries: tuple[PathEntry, ...]) -> Translation:
        """Return what a path gives: the permissions are those that all its entries grant."""
        read, write = leaf.read, leaf.write
        for entry in entries[:-1]:
            above = self.decode(entry.version.value, entry.level)
            read, write = read and bool(above and above.read), write and bool(above and above.write)
        return Translation(word, level, read, write)

    def legal(self, tables: Tables, dfn: Dfn) -> set[Translation]:
        """Return what the unit may use for a dfn now: translations, and `FAULT` where it may refuse an access."""
        return {path.translation for path in self.paths(tables, dfn)}

    def old_paths(self, tables: Tables, dfn: Dfn, changed: int) -> Iterator[Path]:
        """Yield the legal paths of which the CPUs had replaced a word at or before step `changed`.

        Reads the ledger's object of the tag and dfn; of each replaced table entry the object of its being dropped,
        and the words that it leads to. What lies before `changed` elsewhere can change no more.
        """
        self.recorder.read(self.space, self.number(tables.tag, dfn))
        for path in self.paths(tables, dfn, changed):
            if path.overwritten_by(changed) is not None:
                yield path

    def all_paths(self, tables: Tables, dfn: Dfn) -> Iterator[Path]:
        """Yield the legal paths. Reads all that these depend on: words, invalidations, cached table entries."""
        self.recorder.read(self.space, self.number(tables.tag, dfn))
        return self.paths(tables, dfn, inf)

    def objects_read(self, tables: Tables, dfn: Dfn, changed: float) -> list[tuple[Space, int]]:
        """Return the objects that `old_paths` reads; those of `all_paths` where `changed` is infinite."""
        probe = ReadRecorder()
        probe.is_on = True
        asked = attrs.evolve(self, recorder=probe)
        for _ in asked.all_paths(tables, dfn) if changed == inf else asked.old_paths(tables, dfn, int(changed)):
            pass
        return probe.reads

    def leaf_at(self, tables: Tables, dfn: Dfn, step: int) -> int:
        """Return the leaf that a walk of the tables as the CPUs had stored them at a step finds; 0 if none."""
        table = tables.root
        for level in range(tables.levels, 0, -1):
            history = self.memory.history(entry_address(table, dfn, level))
            word = next((version.value for version in reversed(history) if version.stored <= step), 0)
            entry = self.decode(word, level)
            if entry is None:
                return 0
            if entry.is_leaf:
                return word
            table = entry.address
        return 0
