"""Critical reversals: the pairs of steps of which one order makes a finding vanish.

Two steps of different agents that depend on each other could have come in the other order. Each such pair around a
finding is reversed: what came before the first step still does, and then the second step comes with what it needs; or,
where it cannot come so, because the first step's agent holds a lock, only with what it needs. If the cause shows in
none of the ways in which the execution is then continued, the finding needs the first step before the second one.

Of the steps of one agent on which a step depends, the last one is tried first, and then the one before, as long as the
cause still shows: so the pair that is told is the nearest one that matters.
"""

from bisect import bisect_right
from collections.abc import Iterator
from itertools import islice

import attrs

from emu.analysis.needs import needs
from emu.engine import Trace
from emu.engine.happens_before import HappensBefore
from emu.engine.strategies.along import AlongStrategy, turns
from emu.running.shrink import Need, Place, Shortened, Shown, Shrinker, Shrunk, choices_of

CHAIN_MAX, LOOKED_AT_MAX = 8, 256
"""How many earlier steps of one agent are tried for a step, and among how many."""

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
        for pairs in self.chains():
            if self.shrinker.budget.spent():
                break
            for pair in pairs:
                if any(self.implies(one, pair) for one in needed):
                    break
                if self.is_critical(pair):
                    needed.append(pair)
                    break
        implied = {one for one in needed if any(self.implies(other, one) for other in needed if other != one)}
        return tuple(sorted(one for one in needed if one not in implied))

    def chains(self) -> Iterator[list[Pair]]:
        """Yield lists of pairs with one later step, and with earlier steps of one agent, the last of them first.

        Steps that do not happen before the finding come first, the nearest first: each with the judgement and the use,
        and with what it directly depends on. Then come those that do, each with what it directly depends on, and with
        the steps of the same agent before that.
        """
        order, goal = self.order, self.shown.goal
        past = set(order.past(goal)) | {goal} if goal else set()
        for later in sorted(range(1, len(order.agents) + 1), key=lambda step: (step in past, abs(step - goal))):
            near = [step for step in order.direct[later - 1] if self.depend(step, later)]
            if later in past:
                for step in near:
                    yield [(one, later) for one in self.before(step, later)]
            else:
                ends = {step for step in self.shown.ends if step < later and self.depend(step, later)}
                for step in sorted(ends | (past & set(near)), reverse=True):
                    yield [(step, later)]

    def before(self, step: int, later: int) -> Iterator[int]:
        """Yield a step and those of its agent before it on which a later step depends, the last one first."""
        own = self.order.steps[self.order.agents[step - 1]]
        earlier = reversed(own[: bisect_right(own, step)][-LOOKED_AT_MAX:])
        return islice((one for one in earlier if self.depend(one, later)), CHAIN_MAX)

    def depend(self, one: int, later: int) -> bool:
        """Whether two steps of different agents depend on each other, and the second has not waited for the first."""
        order = self.order
        if order.agents[one - 1] == order.agents[later - 1] or self.shown.recorded.awaited[later - 1] == one:
            return False
        return order.depend(one, later)

    def implies(self, one: Pair, other: Pair) -> bool:
        """Whether a pair can only be in its order if another one is."""
        starts = one[0] == other[0] or self.order.precedes(other[0], one[0])
        return starts and (one[1] == other[1] or self.order.precedes(one[1], other[1]))

    def is_critical(self, pair: Pair) -> bool:
        """Whether the cause does not show with the two steps in the other order."""
        first, later = pair
        between = [step for step in range(first + 1, later) if not self.order.precedes(first, step)]
        for begin in ([*range(1, first), *between, later], self.needed_by(later, without=first)):
            begun = set(begin)
            rest = [step for step in range(1, len(self.order.agents) + 1) if step not in begun]
            tails: tuple[tuple[list[int], bool], ...] = ((rest, False), ([], False), ([], True))
            has_reversed = False
            for tail, is_eager in tails:
                trace, shown = self.shrinker.run(self.strategy(begin, tail, is_eager=is_eager))
                if self.is_reversed(trace, pair):
                    if shown is not None:
                        return False
                    has_reversed = True
            if has_reversed:
                return True
        return False

    def is_reversed(self, trace: Trace, pair: Pair) -> bool:
        """Whether an execution has taken the second of two steps, and not the first one before it."""
        names, taken = self.shown.schedule.agents, [agent.name for agent, _ in trace.performed()]
        first, later = (nth(taken, names[step - 1], self.order.place(step)) for step in pair)
        return later is not None and (first is None or later < first)

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


def nth(taken: list[str], name: str, place: int) -> int | None:
    """Return the index of an agent's step of this number in an execution; None if it has not taken so many."""
    return next((at for at, _ in islice((one for one in enumerate(taken) if one[1] == name), place - 1, place)), None)


def shortened(shrinker: Shrinker, shrunk: Shrunk) -> Shortened:
    """Return what is known of the shortest schedule, with the orders of steps that the finding needs."""
    shown = shrunk.shown
    pairs = Reversals(shrinker, shown).critical()
    orders = [Need(text, *(place_of(shown, step) for step in pair)) for pair, text in needs(shown.trace, pairs).items()]
    cut_by = shrunk.cut_by or shrinker.budget.spent()
    return Shortened(shrunk.preemptions, shrunk.found_with, shrunk.is_minimal, cut_by, orders)


def place_of(shown: Shown, step: int) -> Place:
    """Return the agent of a step, and the number of the step among the agent's."""
    return shown.schedule.agents[step - 1], shown.recorded.order.place(step)
