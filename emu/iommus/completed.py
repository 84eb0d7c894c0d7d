"""The invalidations of a unit that have completed, and what each of them has dropped from its start on."""

from bisect import bisect_left
from math import inf

import attrs

from emu.iommus.formats import TableFormat
from emu.units import Dfn

DFN_BITS = 52

EVERYTHING = (Dfn(0), Dfn(1 << DFN_BITS))
"""The first and the last dfn of what an invalidation of a whole tag drops."""


@attrs.define(eq=False)
class CompletedInvalidations:
    """What counts, for the ledger, of the invalidations that have completed: from when on which of them counts.

    Attributes:
        all_since: the latest start of those of every tag; `tag_since` of those of one tag, `range_since` of those of
            2^order dfns of one tag, by (tag, order, number of the range).
        orders: the orders of ranges that were ever named, by tag.
        drops: what was dropped of cached table entries, by tag, None for every tag: (start, first dfn, last dfn), in
            the order of the starts.
    """

    format: TableFormat
    all_since: int = 0
    tag_since: dict[int, int] = attrs.field(factory=dict)
    range_since: dict[tuple[int, int, int], int] = attrs.field(factory=dict)
    orders: dict[int, list[int]] = attrs.field(factory=dict)
    drops: dict[int | None, list[tuple[int, Dfn, Dfn]]] = attrs.field(factory=dict)

    def add(self, start: int, tag: int | None, dfn: Dfn, order: int | None, *, leaf_only: bool) -> None:
        """Note that an invalidation has completed; `Ledger.complete` says what these are."""
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
            first, last = EVERYTHING if order is None else (dfn, Dfn(dfn + (1 << order) - 1))
            drops = self.drops.setdefault(tag, [])
            drops.insert(bisect_left(drops, (start, first, last)), (start, first, last))

    def since(self, tag: int, dfn: Dfn) -> int:
        """Return the start of the last one that covers a leaf; 0 if there was none."""
        latest = max(self.all_since, self.tag_since.get(tag, 0))
        for order in self.orders.get(tag, ()):
            latest = max(latest, self.range_since.get((tag, order, dfn >> order), 0))
        return latest

    def next_drop(self, tag: int, dfn: Dfn, level: int, step: float) -> float:
        """Return the first step at or after `step` from which the cached entry of a level is gone."""
        first = self.format.base(dfn, level)
        last = first + self.format.span(level) - 1
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
        drops = (*self.drops.get(tag, ()), *self.drops.get(None, ()))
        return min((start for start, *covered in drops if start >= step and (*covered,) == EVERYTHING), default=inf)
