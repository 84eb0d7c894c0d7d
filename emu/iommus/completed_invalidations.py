"""The completed invalidations of a unit: the step at which each began, and the entries that it dropped."""

from bisect import bisect_left
from math import inf

import attrs

from emu.iommus.formats import TableFormat, base_of_order
from emu.units import Dfn

DFN_BITS = 52

EVERYTHING = (Dfn(0), Dfn(1 << DFN_BITS))
"""The first and last dfn that an invalidation of a whole tag drops; the last is one that no narrower range reaches."""


@attrs.define(eq=False)
class CompletedInvalidations:
    """The completed invalidations of a unit, as far as the ledger needs them.

    Attributes:
        all_since: the latest start of an invalidation of all tags.
        tag_since: the latest start of an invalidation of a whole tag, by tag.
        range_since: the latest start of an invalidation of 2^order dfns of a tag, by (tag, order, number of the range).
        orders: the orders of all ranges of a tag that were ever invalidated.
        drops: the ranges of cached table entries that were dropped, by tag, None for all tags: (start, first dfn, last
            dfn), sorted by start.
    """

    format: TableFormat
    all_since: int = 0
    tag_since: dict[int, int] = attrs.field(factory=dict)
    range_since: dict[tuple[int, int, int], int] = attrs.field(factory=dict)
    orders: dict[int, list[int]] = attrs.field(factory=dict)
    drops: dict[int | None, list[tuple[int, Dfn, Dfn]]] = attrs.field(factory=dict)

    def add(self, start: int, tag: int | None, dfn: Dfn, order: int | None, *, leaf_only: bool) -> None:
        """Note that an invalidation has completed; `Ledger.complete` describes the arguments."""
        if tag is None:
            self.all_since = max(self.all_since, start)
        elif order is None:
            self.tag_since[tag] = max(self.tag_since.get(tag, 0), start)
        else:
            dfn = base_of_order(dfn, order)
            key = (tag, order, dfn >> order)
            self.range_since[key] = max(self.range_since.get(key, 0), start)
            if order not in self.orders.setdefault(tag, []):
                self.orders[tag].append(order)
        if not leaf_only:
            first, last = EVERYTHING if order is None else (dfn, Dfn(dfn + (1 << order) - 1))
            drops = self.drops.setdefault(tag, [])
            drops.insert(bisect_left(drops, (start, first, last)), (start, first, last))

    def since(self, tag: int, dfn: Dfn) -> int:
        """Return the latest start of an invalidation that covers a leaf; 0 if there was none."""
        latest = max(self.all_since, self.tag_since.get(tag, 0))
        for order in self.orders.get(tag, ()):
            latest = max(latest, self.range_since.get((tag, order, dfn >> order), 0))
        return latest

    def next_drop(self, tag: int, dfn: Dfn, level: int, step: float) -> float:
        """Return the first start, at or after `step`, of an invalidation that drops a cached table entry of a level."""
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
        """Return the first start, at or after `step`, of an invalidation that drops everything of a tag."""
        drops = (*self.drops.get(tag, ()), *self.drops.get(None, ()))
        return min((start for start, *covered in drops if start >= step and (*covered,) == EVERYTHING), default=inf)
