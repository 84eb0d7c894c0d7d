"""Critical reversals: the pairs of steps of which one order makes a finding vanish.

Two steps that depend on each other could have come in the other order if nothing between them depends on both. Each
such pair around a finding is reversed, and so is each later step that depends on the judgement or the use, whatever
lies between: first come the steps that the second one needs, without the first one, then the second one. If the cause
shows in none of the ways in which the execution is then continued, the finding needs the first step before the second
one.
"""

from collections.abc import Iterator

import attrs

from emu.analysis.needs import needs
from emu.engine.happens_before import HappensBefore
from emu.engine.strategies.along import AlongStrategy, turns
from emu.running.shrink import Shortened, Shown, Shrinker, Shrunk, choices_of

Pair = tuple[int, int]
"""Two steps, the first of which has to come before the second."""


@attrs.frozen
class Reversals:
    """The reversals of one execution.

    Attributes:
        shown: the execution, which shows the cause.
    """

    shrinker: Shrinker
    shown: Shown

    @property
    def order(self) -> HappensBefore:
        """Which steps come before which."""
        return self.shown.recorded.order

    def critical(self) -> tuple[Pair, ...]:
        """Return the pairs that the finding needs in this order, without those that follow from others.

        What was not tried when the budget was spent is left out.
        """
        needed: list[Pair] = []
        for pair in self.pairs():
            if self.shrinker.budget.spent():
                break
            if not any(self.implies(one, pair) for one in needed) and self.is_critical(pair):
                needed.append(pair)
        implied = {one for one in needed if any(self.implies(other, one) for other in needed if other != one)}
        return tuple(sorted(one for one in needed if one not in implied))

    def pairs(self) -> Iterator[Pair]:
        """Yield the pairs that could be reversed; those first that imply others."""
        order, goal, ends = self.order, self.shown.goal, self.shown.ends
        around = [goal, *reversed(list(order.past(goal)))] if goal else []
        for first in around:
            for later in range(first + 1, len(order.agents) + 1):
                is_direct = first in order.direct[later - 1]
                is_late = first in ends and later > goal and self.conflict(first, later)
                if (is_direct or is_late) and self.shown.recorded.awaited[later - 1] != first:
                    yield first, later

    def conflict(self, one: int, other: int) -> bool:
        """Whether two steps of different agents depend on each other."""
        order = self.order
        is_apart = order.agents[one - 1] != order.agents[other - 1]
        return is_apart and order.footprints[one - 1].conflicts(order.footprints[other - 1])

    def implies(self, one: Pair, other: Pair) -> bool:
        """Whether a pair can only be in its order if another one is."""
        starts = one[0] == other[0] or self.order.precedes(other[0], one[0])
        return starts and (one[1] == other[1] or self.order.precedes(one[1], other[1]))

    def is_critical(self, pair: Pair) -> bool:
        """Whether the cause does not show with the two steps in the other order."""
        begin = self.needed_by(pair[1], without=pair[0])
        rest = [step for step in range(1, len(self.order.agents) + 1) if step not in set(begin)]
        return not any(
            self.shrinker.execute(self.strategy(begin, tail, is_eager=is_eager))
            for tail, is_eager in ((rest, False), ([], False), ([], True))
        )

    def needed_by(self, step: int, *, without: int) -> list[int]:
        """Return a step with all that it needs, but for a step of another agent and what only that one needs."""
        order, needed = self.order, {step}
        to_do, barred = [step], order.agents[without - 1]
        while to_do:
            one = to_do.pop()
            own = [earlier for earlier in order.steps[order.agents[one - 1]] if earlier < one][-1:]
            before = {*own, *order.direct[one - 1]} - needed
            found = {other for other in before if other < without or order.agents[other - 1] != barred}
            needed |= found
            to_do += sorted(found)
        return sorted(needed)

    def strategy(self, begin: list[int], tail: list[int], *, is_eager: bool) -> AlongStrategy:
        """Return the strategy that begins with these steps, and then goes along others."""
        names = self.shown.schedule.agents
        plan = turns(names[step - 1] for step in (*begin, *tail))
        return AlongStrategy(plan, choices_of(self.shown, [*begin, *tail]), is_eager=is_eager)


def shortened(shrinker: Shrinker, shrunk: Shrunk) -> Shortened:
    """Return what is known of the shortest schedule, with the orders of steps that the finding needs."""
    orders = needs(shrunk.shown.trace, Reversals(shrinker, shrunk.shown).critical())
    cut_by = shrunk.cut_by or shrinker.budget.spent()
    return Shortened(shrunk.preemptions, shrunk.found_with, shrunk.is_minimal, cut_by, orders)
