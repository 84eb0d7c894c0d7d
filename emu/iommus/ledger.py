"""The ledger: which translations a unit may legally use, whatever its caches really hold.

A translation of a dfn is legal if some sequence of reads could have put it into a cache and no invalidation since has
dropped it. Such a *path* reads one word at each level, top down, at steps t_L <= ... <= t_1, each value visible to the
walker at its step, so that

* t_1 is not before the start of the last completed invalidation that covers the leaf, and
* between t_k and t_(k-1) no invalidation dropped the cached entry of level k (the paging-structure caches).

The ledger keeps no set of legal translations. It answers each question by descending the histories of the words
(memory.py), so a wide invalidation costs no more than a narrow one. Once an invalidation has completed it counts from
its start: an entry read before the start is dropped, and an entry read while it executed may stay cached.

Sources: VT-d 6.2.4, 6.2.5, 6.5.3. The RISC-V IOMMU's note on IOTINVAL states the rule most clearly.
"""

from collections.abc import Iterator, Sequence
from math import inf

import attrs

from emu.engine import Access, Kind, Space
from emu.engine.execution import ReadRecorder
from emu.iommus.completed_invalidations import DFN_BITS, CompletedInvalidations
from emu.iommus.formats import TableFormat, Translation
from emu.iommus.objects import leaf_space, object_number, object_range, table_space
from emu.iommus.paths import Descent, NotedReads, Path, Tables, is_widened
from emu.memory import Memory, Version
from emu.units import Dfn, Maddr


@attrs.define(eq=False)
class Ledger:
    """The completed invalidations of one unit, and the translations that are still legal.

    Attributes:
        unit: name of the unit.
        caches_non_present: the unit may cache that a page has no translation (VT-d: caching mode).
        counts_widening: a table entry that was only given more permissions counts as replaced: a copy cached before
            may refuse an access.
        recorder: records the shared objects on which an answer depends.
    """

    unit: str
    memory: Memory
    format: TableFormat
    caches_non_present: bool = False
    recorder: ReadRecorder = attrs.field(factory=ReadRecorder)
    counts_widening: bool = False
    completed: CompletedInvalidations = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.completed = CompletedInvalidations(self.format)

    @property
    def space(self) -> Space:
        """The ledger's shared objects for leaves: one for each tag and dfn."""
        return leaf_space(self.unit)

    def access(self, tag: int | None, first: int, last: int, kind: Kind) -> Access:
        """Return the access to the objects of a range of dfns under a tag; under every tag if it is None."""
        return object_range(self.space, tag, first, last, kind)

    def drop_accesses(self, tag: int | None, first: Dfn, last: Dfn) -> Iterator[Access]:
        """Yield the accesses of an invalidation that drops the cached table entries of dfns first..last."""
        for level in self.format.table_levels:
            order = self.format.orders[level]
            yield object_range(table_space(self.unit, level), tag, first >> order, last >> order, Kind.COMMUTE)

    def complete(self, start: int, tag: int | None, dfn: Dfn, order: int | None, *, leaf_only: bool = False) -> None:
        """Note that an invalidation has completed.

        Args:
            start: the step at which it began.
            tag: the domain tag that it names; None for every tag.
            dfn: the first of its dfns.
            order: it covers 2^order dfns; None for every dfn of the tag.
            leaf_only: cached table entries were allowed to stay.
        """
        self.completed.add(start, tag, dfn, order, leaf_only=leaf_only)

    def paths(self, tables: Tables, dfn: Dfn, changed: float = -1) -> Iterator[Path]:
        """Yield every legal path of a dfn, newest values first.

        A path to a fault is legal if the walker can read the non-present word now, or if the unit caches non-present
        entries and no invalidation has dropped the cached word.

        Args:
            changed: only reads that depend on an entry replaced at or before this step are recorded: whether the entry
                was dropped, and the words to which it leads. If `changed` is infinite, all reads are recorded.
        """
        return self.descend(tables, dfn, NotedReads(self.recorder, self.unit, changed) if self.recorder.is_on else None)

    def descend(self, tables: Tables, dfn: Dfn, notes: NotedReads | None) -> Iterator[Path]:
        """Yield every legal path of a dfn, and note the objects on which the paths depend."""
        if not tables.levels:
            return iter([Path(Translation(0, DFN_BITS, tables.read, tables.write, Maddr(0)), ())])
        since = self.completed.since(tables.tag, dfn)
        descent = Descent(
            self.memory,
            self.format,
            self.completed,
            tables,
            dfn,
            since,
            self.caches_non_present,
            self.counts_widening,
            notes,
        )
        return descent.below(tables.levels, tables.root, tables.since, tables.until, ())

    def newer(self, address: int, level: int, step: int) -> Sequence[Version]:
        """Return the values of a word newer than the value that a walker read at a step, the oldest first.

        A value that only gives a table entry more permissions does not count as a replacement.
        """
        history = self.memory.history(address)
        read = max(index for index, version in enumerate(history) if version.visible <= step)
        if self.counts_widening:
            return history[read + 1 :]
        while read + 1 < len(history) and is_widened(self.format, history[read], history[read + 1], level):
            read += 1
        return history[read + 1 :]

    def legal(self, tables: Tables, dfn: Dfn) -> set[Translation]:
        """Return the translations that the unit may use for a dfn now, with `FAULT` if it may refuse an access."""
        return {path.translation for path in self.paths(tables, dfn)}

    def old_paths(self, tables: Tables, dfn: Dfn, changed: int) -> Iterator[Path]:
        """Yield the legal paths through a word that the CPUs had replaced at or before step `changed`.

        Records as read the ledger's object of the tag and dfn, and for each replaced table entry the object that says
        whether it was dropped, and the words to which it leads. The rest of the history up to `changed` is fixed.
        """
        self.recorder.read(self.space, object_number(tables.tag, dfn))
        for path in self.paths(tables, dfn, changed):
            if path.overwritten_by(changed) is not None:
                yield path

    def all_paths(self, tables: Tables, dfn: Dfn) -> Iterator[Path]:
        """Yield the legal paths. Records as read all objects on which they depend: words, leaves, table entries."""
        self.recorder.read(self.space, object_number(tables.tag, dfn))
        return self.paths(tables, dfn, inf)

    def objects_read(self, tables: Tables, dfn: Dfn, changed: float) -> list[tuple[Space, int]]:
        """Return the objects that `old_paths` reads, or `all_paths` if `changed` is infinite."""
        probe = ReadRecorder()
        probe.is_on = True
        probe.read(self.space, object_number(tables.tag, dfn))
        for _ in self.descend(tables, dfn, NotedReads(probe, self.unit, changed)):
            pass
        return probe.reads

    def leaf_at(self, tables: Tables, dfn: Dfn, step: int) -> int:
        """Return the leaf of a dfn in the tables as the CPUs had stored them at a step; 0 if there is none."""
        table, level = tables.root, tables.levels
        while level:
            history = self.memory.history(self.format.entry_address(table, dfn, level))
            word = next((version.value for version in reversed(history) if version.stored <= step), 0)
            entry = self.format.read(word, level, dfn)
            if entry is None:
                return 0
            if entry.is_leaf:
                return word
            table, level = entry.address, entry.next_level
        return 0
