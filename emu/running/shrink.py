"""Shrinking: the shortest schedule that shows a cause.

An execution that shows a cause is changed, step by step, into one that costs its reader less: fewer preemptions, then
fewer switches, then fewer steps up to the finding. Each change is executed, and kept if the same cause shows:

1. Another interleaving of the same trace: the cheapest there is. Steps that do not lead to the finding come after it.
2. Without one of its preemptions: the agent that was preempted goes on as long as it can.
3. From the start: no preemption at all, then one, at each step.

After each change that helps, the first is tried again. Where preemptions are left, and no exploration has been made,
one is made with half of what the budget has left: each trace that shows the cause is a start, too.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

import attrs

from emu.checks.findings import Asserted, Finding, Stuck
from emu.checks.signatures import Signature, signature
from emu.engine import Agent, Execution, Exploration, Schedule, Space, Strategy, Trace
from emu.engine.claims import When
from emu.engine.hosts import direct
from emu.engine.preemptions import Cost, Recorded, TooManyStatesError
from emu.engine.sections import Sections
from emu.engine.strategies.along import AlongStrategy, Turn, turns
from emu.engine.strategies.optimal import Optimal
from emu.engine.strategies.replay import ReplayStrategy
from emu.errors import LimitReached, ModelError
from emu.machine.machine import Machine
from emu.running.witness import is_used
from emu.scenarios.scenario import BoundScenario

REPLAYS_MAX = 2_000
SECONDS = 10.0


@attrs.frozen
class Shown:
    """An execution that shows a cause.

    Attributes:
        goal: the last step that the finding is about.
        ends: the steps at which the finding was judged, and at which a device used what is stale.
        cost: what the execution costs up to that step.
    """

    trace: Trace
    schedule: Schedule
    recorded: Recorded
    goal: int
    ends: frozenset[int]
    cost: Cost


Place = tuple[str, int]
"""An agent, and the number of a step among its own, from 1."""


@attrs.frozen
class Need:
    """An order of two steps without which a finding does not show.

    Attributes:
        text: the order in words: "one step before another".
        before, after: the two steps.
    """

    text: str
    before: Place
    after: Place

    @property
    def places(self) -> tuple[Place, Place]:
        """The two steps."""
        return self.before, self.after


@attrs.frozen
class Shortened:
    """What is known of a schedule that shows a finding.

    Attributes:
        preemptions: how many preemptions it has up to the finding.
        found_with: how many the schedule had that was found first; None if this is that schedule.
        is_minimal: no interleaving of the scenario shows the finding with fewer; None if no shorter one was looked for.
        cut_by: the limit that ended the search for a shorter one; empty if none did.
        needs: the orders of steps without which the finding does not show.
    """

    preemptions: int
    found_with: int | None = None
    is_minimal: bool | None = None
    cut_by: str = ""
    needs: list[Need] = attrs.field(factory=list)


@attrs.frozen
class Shrunk:
    """The shortest execution that was found for a cause.

    Attributes:
        found_with: how many preemptions the execution had that was found first.
        is_minimal: no interleaving of the scenario shows the cause with fewer.
        cut_by: the limit that ended the search; empty if none did.
    """

    shown: Shown
    found_with: int
    is_minimal: bool = False
    cut_by: str = ""

    @property
    def schedule(self) -> Schedule:
        """The schedule."""
        return self.shown.schedule

    @property
    def preemptions(self) -> int:
        """How many preemptions it has, up to the finding."""
        return self.shown.cost.preemptions


@attrs.define
class Budget:
    """How much shrinking may do.

    Attributes:
        seconds: how long it may take.
        replays: how many executions are left.
        is_stopping: returns whether the user wants it to end.
    """

    seconds: float = SECONDS
    is_stopping: Callable[[], bool] = lambda: False
    replays: int = REPLAYS_MAX
    started: float = attrs.field(factory=time.monotonic)

    def spent(self) -> str:
        """Return the limit that was reached; empty if none was."""
        if self.is_stopping():
            return "Ctrl-C"
        if self.replays <= 0:
            return f"{REPLAYS_MAX} replays"
        if time.monotonic() - self.started > self.seconds:
            return f"{self.seconds:g} s"
        return ""


@attrs.define
class Shrinker:
    """Looks for the shortest schedule that shows a cause.

    Attributes:
        wanted: the signature of the cause.
        is_used: a device has to use what is stale.
        unordered: the locks whose sections the exploration has taken in any order.
        machine: the machine of the execution that `search` has made last.
    """

    bound: BoundScenario
    wanted: Signature
    is_used: bool = False
    unordered: Collection[Space] = ()
    budget: Budget = attrs.field(factory=Budget)
    machine: Machine | None = attrs.field(default=None, init=False)

    def execute(self, strategy: Strategy) -> Shown | None:
        """Execute once; return None if the cause does not show."""
        return self.run(strategy)[1]

    def run(self, strategy: Strategy) -> tuple[Trace, Shown | None]:
        """Execute once; return the trace, and the execution if it shows the cause."""
        self.budget.replays -= 1
        machine = self.bound.build(sources=True)
        execution = machine.execution(strategy)
        try:
            direct.run(execution)
        except (ModelError, LimitReached):
            return machine.trace, None
        finding = self.find(machine, machine.conclude(execution))
        if finding is None:
            return machine.trace, None
        ends = ends_of(finding, machine.trace)
        goal = max(ends)
        recorded = Recorded.of(machine.trace, execution.agents, self.unordered)
        schedule, cost = Schedule.of(machine.trace), recorded.cost(goal)
        return machine.trace, Shown(machine.trace, schedule, recorded, goal, ends, cost)

    def find(self, machine: Machine, findings: list[Finding]) -> Finding | None:
        """Return the finding that is shrunk, if it is among these."""
        for finding in findings:
            if signature(finding, machine.trace) == self.wanted and (is_used(finding) or not self.is_used):
                return finding
        return None

    def shrink(self, found: Schedule) -> Shrunk | None:
        """Return the shortest schedule that is found; None if the cause does not show when `found` is repeated."""
        first = self.execute(ReplayStrategy(found))
        if first is None:
            return None
        best = self.improved(first)
        for preemptions, strategy in self.from_the_start():
            if best.cost.preemptions < preemptions + (preemptions > 0) or self.budget.spent():
                break
            shown = self.execute(strategy)
            if shown is not None and shown.cost < best.cost:
                best = self.improved(shown)
        return Shrunk(best, first.cost.preemptions, not best.cost.preemptions, self.budget.spent())

    def search(self, shrunk: Shrunk) -> Shrunk:
        """Explore the scenario with half of the budget, and return the shortest schedule of the traces that were found.

        It is minimal if the exploration was exhausted.
        """
        sections, showing, is_exhausted = Sections(), [], True
        exploration = Exploration(self.program, Optimal, sections)
        half = Budget(self.budget.seconds / 2, self.budget.is_stopping, self.budget.replays // 2)
        for execution in exploration.each():
            half.replays, self.budget.replays = half.replays - 1, self.budget.replays - 1
            try:
                direct.run(execution)
            except (ModelError, LimitReached):
                return shrunk
            if half.spent():
                is_exhausted = False
                break
            if not (sections.has_left or exploration.search.is_blocked) and self.shows(execution):
                showing.append(Schedule.of(execution.trace))
        self.unordered = sections.short - sections.long
        best = self.minimize(shrunk, showing)
        return best if is_exhausted else attrs.evolve(best, is_minimal=not best.preemptions)

    def program(self, strategy: Strategy) -> Execution:
        """Return a fresh execution of the scenario."""
        self.machine = self.bound.build()
        return self.machine.execution(strategy)

    def shows(self, execution: Execution) -> bool:
        """Whether the cause shows in the execution that `program` has returned last, and that has ended."""
        return self.machine is not None and self.find(self.machine, self.machine.conclude(execution)) is not None

    def minimize(self, shrunk: Shrunk, schedules: Iterable[Schedule]) -> Shrunk:
        """Return the shortest schedule of all traces that show the cause.

        Args:
            schedules: one of each of these traces.
        """
        best, has_seen_all = shrunk.shown, True
        for schedule in schedules:
            if not best.cost.preemptions or self.budget.spent():
                break
            try:
                best = self.fewer(best, schedule) or best
            except TooManyStatesError:
                has_seen_all = False
        spent = self.budget.spent()
        is_minimal = not best.cost.preemptions or (has_seen_all and not spent)
        return attrs.evolve(shrunk, shown=best, is_minimal=is_minimal, cut_by=spent)

    def fewer(self, best: Shown, schedule: Schedule) -> Shown | None:
        """Return an execution with fewer preemptions than the best so far; None if the schedule's trace has none.

        Raises:
            TooManyStatesError: if that is not known.
        """
        shown = self.execute(ReplayStrategy(schedule))
        if shown is None:
            raise TooManyStatesError
        found = shown.recorded.best(shown.goal, Cost(best.cost.preemptions, 0, 0))
        if found is None:
            return None
        other = self.execute(in_order(shown, found[1]))
        if other is None or other.cost.preemptions > found[0].preemptions:
            raise TooManyStatesError
        return self.improved(other)

    def relinearized(self, schedule: Schedule) -> Shrunk | None:
        """Return the cheapest interleaving of a schedule's own trace; None if the cause does not show."""
        shown = self.execute(ReplayStrategy(schedule))
        return None if shown is None else Shrunk(self.within(shown), shown.cost.preemptions)

    def improved(self, shown: Shown) -> Shown:
        """Return an execution that cannot be made cheaper by one change."""
        best = self.within(shown)
        changed = True
        while changed and not self.budget.spent():
            changed = False
            for step in reversed(list(best.recorded.preempting(best.goal))):
                other = self.execute(without(best, step))
                if other is not None and (other := self.within(other)).cost < best.cost:
                    best, changed = other, True
                    break
        return best

    def within(self, shown: Shown) -> Shown:
        """Return the cheapest interleaving of the same trace; the same execution if there are too many to look at."""
        try:
            found = shown.recorded.best(shown.goal, shown.cost)
        except TooManyStatesError:
            return shown
        if found is None:
            return shown
        other = self.execute(in_order(shown, found[1]))
        return other if other is not None and other.cost < shown.cost else shown

    def from_the_start(self) -> Iterator[tuple[int, Strategy]]:
        """Yield strategies without a preemption, then with one; and how many each has."""
        names = [agent.name for agent in self.bound.build().agents if not agent.is_daemon]
        orders = [{name: (rank - first) % len(names) for rank, name in enumerate(names)} for first in range(len(names))]
        bases = [(order, is_eager) for order in orders for is_eager in (False, True)]
        taken: list[tuple[str, ...]] = []
        for order, is_eager in bases:
            strategy = Recording(ranks=order, is_eager=is_eager)
            yield 0, strategy
            taken.append(tuple(strategy.taken))
        for (order, is_eager), way in zip(bases, taken, strict=True):
            for length in range(1, len(way)):
                for name in (one for one in names if one != way[length]):
                    plan = [*turns(way[:length]), Turn(name, None)]
                    yield 1, AlongStrategy(plan, ranks=order, is_eager=is_eager)


@attrs.define
class Recording(AlongStrategy):
    """Keeps who has taken each step."""

    taken: list[str] = attrs.field(factory=list)

    def pick(self, enabled: Sequence[Agent]) -> Agent:
        agent = super().pick(enabled)
        self.taken.append(agent.name)
        return agent


def ends_of(finding: Finding, trace: Trace) -> frozenset[int]:
    """Return the steps at which a finding was judged, and at which a device used what is stale.

    Of a deadlock, and of a claim about the end, that is the last step of all.
    """
    if isinstance(finding, Stuck) or (isinstance(finding, Asserted) and finding.when is When.FINALLY):
        return frozenset({trace.step})
    use = getattr(finding, "use", None)
    return frozenset(min(step, trace.step) for step in (finding.step, use.step if use else finding.step))


def preemptions_of(finding: Finding, machine: Machine) -> int:
    """Return how many preemptions an execution that has ended has, up to a finding."""
    return Recorded.of(machine.trace, machine.agents).cost(max(ends_of(finding, machine.trace))).preemptions


def in_order(shown: Shown, steps: Sequence[int]) -> AlongStrategy:
    """Return the strategy that takes steps of an execution in this order."""
    names = shown.schedule.agents
    return AlongStrategy(turns(names[step - 1] for step in steps), choices_of(shown, steps))


def without(shown: Shown, step: int) -> AlongStrategy:
    """Return the strategy that does without the preemption at a step: who went before it goes on."""
    names, order = shown.schedule.agents, shown.recorded.order
    earlier = range(step - 1, 0, -1)
    preempted = next(names[one - 1] for one in earlier if not shown.recorded.is_free[order.agents[one - 1]])
    plan = [*turns(names[: step - 1]), Turn(preempted, None), *turns(names[step - 1 : shown.goal])]
    return AlongStrategy(plan, choices_of(shown, range(1, shown.goal + 1)))


def choices_of(shown: Shown, steps: Iterable[int]) -> dict[str, list[int]]:
    """Return for each agent what it chooses in these steps."""
    choices: dict[str, list[int]] = {}
    for step in steps:
        if step in shown.recorded.chosen:
            choices.setdefault(shown.schedule.agents[step - 1], []).append(shown.recorded.chosen[step])
    return choices
