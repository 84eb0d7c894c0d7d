"""The searches, measured against brute force on random programs."""

# ruff: noqa: ARG005 - what makes an operation has one signature

import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, pairwise
from math import factorial, prod
from typing import Any, NamedTuple

import attrs
import pytest

from emu.engine import (
    Access,
    Agent,
    Choose,
    Counter,
    Execution,
    Exploration,
    Kind,
    Latch,
    Operation,
    Space,
    Strategy,
    TicketLock,
    Trace,
    Variable,
    Wait,
)
from emu.engine.dependence import Footprints, NormalForm, accesses_of, normal_form
from emu.engine.hosts import direct
from emu.engine.hosts import trio as trio_host
from emu.engine.search import Search
from emu.engine.sections import Sections
from emu.engine.strategies.depth_first import DepthFirst
from emu.engine.strategies.optimal import Optimal
from emu.errors import ModelError
from tests.engine.brute_force import Form, Program, Traces, form_of, interleavings_of, performed_by, traces_of

CLASSES_MAX = 600
EXECUTIONS_MAX = 500
INTERLEAVINGS_MAX = 120

TABLE: Space = ("table",)
QUEUE: Space = ("queue",)
LATCHES: Space = ("latch",)
WORDS = 4
SLOTS = 16

RunEach = Callable[[Iterable[Execution]], None]


class Do(NamedTuple):
    """An instruction of a random program."""

    verb: str
    number: int = 0
    amount: int = 0
    accesses: tuple[Access, ...] = ()
    body: tuple["Do", ...] = ()


class Part(NamedTuple):
    """What an agent does."""

    instructions: tuple[Do, ...]
    is_daemon: bool = False


Parts = tuple[Part, ...]

Outcome = tuple[Any, ...]
"""The last values of everything, and what each agent has received."""

READ, WRITE, ADD = Do("read"), Do("write", amount=1), Do("add")
EVEN, ALL = Access(TABLE, 2, 2, Kind.COMMUTE), Access(TABLE, 0, WORDS - 1, Kind.WRITE)


@attrs.define
class Ring(Operation[None]):
    """Add to a counter, and set a latch once it has become large enough."""

    latch: Latch
    counter: Counter
    enough: int

    def accesses(self) -> Iterable[Access]:
        return (self.latch.touch._replace(kind=Kind.WRITE), *self.counter.writing)

    def perform(self, step: int) -> None:
        self.counter.value += 1
        if self.counter.value >= self.enough:
            self.latch.set(step)


@attrs.define
class WaitAndWrite(Operation[int]):
    """Once a latch is set, write to a counter and return what it was."""

    waits_for: Latch
    counter: Counter
    value: int

    def accesses(self) -> Iterable[Access]:
        return (self.waits_for.touch._replace(kind=Kind.READ), *self.counter.writing)

    def perform(self, step: int) -> int:
        old, self.counter.value = self.counter.value, self.value
        return old


class ChooseAndWrite(Choose):
    """Write what is chosen to a counter."""

    __slots__ = ("counter",)

    def __init__(self, count: int, counter: Counter) -> None:
        super().__init__("a number to write", count, counter.writing)
        self.counter = counter

    def perform(self, step: int) -> int:
        self.counter.value = self.chosen
        return self.chosen


@attrs.define
class Sweep(Operation[int]):
    """Read, add to or overwrite ranges of a table, all at once; return the sum of what is read."""

    table: list[int]
    declared: tuple[Access, ...]
    value: int

    def accesses(self) -> Iterable[Access]:
        return self.declared

    def words(self, kind: Kind) -> Iterator[int]:
        return (
            word for access in self.declared if access.kind is kind for word in range(access.first, access.last + 1)
        )

    def perform(self, step: int) -> int:
        total = sum(self.table[word] for word in self.words(Kind.READ))
        for word in self.words(Kind.WRITE):
            self.table[word] = self.value
        for word in self.words(Kind.COMMUTE):
            self.table[word] += 1
        return total


@attrs.define
class Clear(Operation[int]):
    """Remove what is present in a range of a table; the rest is only read."""

    table: list[int]
    first: int
    last: int
    removed: tuple[int, ...] = ()

    def accesses(self) -> Iterable[Access]:
        return (Access(TABLE, self.first, self.last, Kind.WRITE),)

    def touched(self) -> Iterable[Access]:
        return (
            Access(TABLE, self.first, self.last, Kind.READ),
            *(Access.to(TABLE, word, Kind.WRITE) for word in self.removed),
        )

    def perform(self, step: int) -> int:
        self.removed = tuple(word for word in range(self.first, self.last + 1) if self.table[word])
        for word in self.removed:
            self.table[word] = 0
        return len(self.removed)


@attrs.define
class Append(Operation[int]):
    """Write to the first slot of a queue that is free: which one that is depends on those before it."""

    queue: list[int]
    value: int
    slot: int = 0

    def accesses(self) -> Iterable[Access]:
        return (Access(QUEUE, 0, SLOTS, Kind.WRITE),)

    def touched(self) -> Iterable[Access]:
        return (Access.to(QUEUE, 0, Kind.WRITE), Access.to(QUEUE, 1 + self.slot, Kind.WRITE))

    def perform(self, step: int) -> int:
        self.slot = len(self.queue)
        self.queue.append(self.value)
        return self.slot


@attrs.define
class ReadSlot(Operation[int]):
    """Read a slot of a queue; -1 if it is free."""

    queue: list[int]
    slot: int

    def accesses(self) -> Iterable[Access]:
        return (Access.to(QUEUE, 1 + self.slot, Kind.READ),)

    def perform(self, step: int) -> int:
        return self.queue[self.slot] if self.slot < len(self.queue) else -1


OPERATIONS: dict[str, Callable[["World", Do, int], Operation[Any]]] = {
    "read": lambda world, do, known: world.counter(do).read(),
    "write": lambda world, do, known: world.counter(do).write(known + do.amount),
    "fetch_and_add": lambda world, do, known: world.counter(do).fetch_and_add(1 + do.amount),
    "add": lambda world, do, known: world.counter(do).add(1 + do.amount),
    "compare_and_swap": lambda world, do, known: world.counter(do).compare_and_swap(do.amount % 2, known + 1),
    "ring": lambda world, do, known: Ring(world.latch(do), world.counter(do), do.amount),
    "wait": lambda world, do, known: Wait(world.latch(do)),
    "wait_and_write": lambda world, do, known: WaitAndWrite(world.latch(do), world.counter(do), known),
    "choose": lambda world, do, known: Choose("a number", 2 + do.amount % 2),
    "choose_reading": lambda world, do, known: Choose("a number", 2 + do.amount % 2, world.counter(do).reading),
    "choose_adding": lambda world, do, known: Choose("a number", 2 + do.amount % 2, world.counter(do).commuting),
    "choose_and_write": lambda world, do, known: ChooseAndWrite(2 + do.amount % 2, world.counter(do)),
    "choose_as_known": lambda world, do, known: Choose("a number", 1 + known % 3),
    "sweep": lambda world, do, known: Sweep(world.table, do.accesses, known + 1),
    "clear": lambda world, do, known: Clear(world.table, do.accesses[0].first, do.accesses[0].last),
    "append": lambda world, do, known: Append(world.queue, known),
    "read_slot": lambda world, do, known: ReadSlot(world.queue, do.number),
}


async def has_set(word: Counter) -> bool:
    """Set a word to something else than 0; return whether it was 0."""
    return await word.fetch_and_add(1) == 0


class World:
    """What the agents of one execution share, and what each of them has received."""

    def __init__(self) -> None:
        self.counters = [Counter(f"counter {i}", 0) for i in range(3)]
        self.words = [Counter(f"word {i}", 0) for i in range(3)]
        self.locks = [TicketLock(f"lock {i}") for i in range(3)]
        self.latches = [Latch(f"latch {i}", Access.to(LATCHES, i, Kind.READ)) for i in range(3)]
        self.table: list[int] = [0, 1] * (WORDS // 2)
        self.queue: list[int] = []
        self.received: dict[str, list[int]] = {}

    def counter(self, do: Do) -> Counter:
        return self.counters[do.number]

    def latch(self, do: Do) -> Latch:
        return self.latches[do.number]

    async def obey(self, who: str, instructions: Sequence[Do], known: int = 0) -> int:
        """Take the instructions; what an agent knows is what it has received last."""
        for do in instructions:
            if do.verb == "if":
                known = await self.obey(who, do.body if known % 2 else (), known)
            elif do.verb == "lock":
                async with self.locks[do.number].held_by(who, do.accesses or None):
                    known = await self.obey(who, do.body, known)
            elif do.verb in {"try_lock", "test_and_set"}:
                word = self.words[do.number]
                if await (word.compare_and_swap(0, 1) if do.verb == "try_lock" else has_set(word)):
                    known = await self.obey(who, do.body, known)
                    await word.write(0)
            else:
                result = await OPERATIONS[do.verb](self, do, known)
                if isinstance(result, int):
                    known = int(result)
                    self.received[who].append(known)
        return known

    def agent(self, number: int, part: Part) -> Agent:
        name = f"agent {number}"
        self.received[name] = []

        async def body() -> None:
            await self.obey(name, part.instructions)

        return Agent(name, body, {}, is_daemon=part.is_daemon)

    def cast(self, parts: Parts) -> list[Agent]:
        return [self.agent(number, part) for number, part in enumerate(parts)]

    def outcome(self, execution: Execution) -> Outcome:
        values = tuple(counter.value for counter in self.counters)
        return values, tuple(map(tuple, self.received.values())), execution.deadlock is not None


EXACT = {
    "variables": "read write fetch_and_add add if",
    "locks": "lock lock lock read write add",
    "test_and_set": "test_and_set test_and_set lock write read",
    "latches": "ring ring wait wait_and_write write read",
    "choices": "choose choose_reading choose_adding choose_and_write choose_as_known if read write fetch_and_add add",
    "ranges": "sweep sweep sweep if",
}
"""What the programs of each family are made of, where what an operation touches does not depend on the state."""

STATEFUL = {
    "compare_and_swap": "compare_and_swap compare_and_swap read write if",
    "try_locks": "try_lock try_lock lock compare_and_swap write read",
    "invalidations": "clear clear sweep sweep if",
    "queues": "append append read_slot choose",
}

STATEFUL["everything"] = " ".join([*EXACT.values(), *STATEFUL.values()])
EXACT["everything"] = " ".join(EXACT.values())


class Draws:
    """Draws from a generator, with nothing but its `random()`."""

    def __init__(self, seed: int) -> None:
        self.generator = random.Random(seed)

    def below(self, count: int) -> int:
        return int(self.generator.random() * count)

    def access(self) -> Access:
        first = self.below(WORDS)
        last = first + self.below(WORDS - first)
        return Access(TABLE, first, last, list(Kind)[self.below(3)])

    def instruction(self, verbs: Sequence[str], depth: int = 0) -> Do:
        verb = verbs[self.below(len(verbs))]
        accesses = tuple(self.access() for _ in range(1 + self.below(2))) if verb in {"sweep", "clear"} else ()
        nests = verb in {"if", "lock", "try_lock", "test_and_set"} and depth < 2
        body = tuple(self.instruction(verbs, depth + 1) for _ in range(self.below(3))) if nests else ()
        return Do(verb, self.below(2), self.below(3), accesses, body)

    def program(self, verbs: Sequence[str]) -> Parts:
        agents = 2 + self.below(3)
        return tuple(
            Part(
                tuple(self.instruction(verbs) for _ in range(1 + self.below(6 - agents))),
                is_daemon=self.below(8) == 0,
            )
            for _ in range(agents)
        )

    def store(self) -> Do:
        return self.instruction(["write", "add", "fetch_and_add"])

    def section(self) -> Do:
        """Draw a section that touches one variable; now and then it is not declared."""
        plain = section(self.below(2), self.store())
        return plain if self.below(6) else plain._replace(accesses=())

    def long_section(self) -> Do:
        """Draw a section that may not be as declared."""
        store = self.store()
        surplus = [store, self.store(), Do("wait"), Do("choose"), Do("lock", 2)][self.below(5)]
        return section(self.below(2), store, *[surplus][: self.below(3)])

    def sections(self, draw: Callable[["Draws"], Do]) -> Parts:
        """Draw a program that takes sections, and now and then touches the same variables outside of any."""
        return tuple(
            Part(
                tuple(
                    draw(self) if self.below(3) else self.instruction(["read", "write", "ring"]) for _ in range(length)
                )
            )
            for length in [[2, 2], [1, 1, 1], [1, 2], [1, 1]][self.below(4)]
        )


def section(lock: int, *body: Do) -> Do:
    """Return a section that is declared to touch what its first instruction does."""
    kind = {"add": Kind.COMMUTE, "read": Kind.READ}.get(body[0].verb, Kind.WRITE)
    return Do("lock", lock, accesses=(counter(body[0].number, kind),), body=body)


def counter(number: int, kind: Kind) -> Access:
    return Access.to(("variable", f"counter {number}"), 0, kind)


def program_of(parts: Parts) -> Program:
    def program() -> list[Agent]:
        return World().cast(parts)

    return program


@attrs.define
class Explored:
    """What a search has found: a trace for each execution, and its share after it."""

    exploration: Exploration
    traces: list[Form] = attrs.field(factory=list)
    deadlocked: set[Form] = attrs.field(factory=set)
    normal_forms: set[NormalForm] = attrs.field(factory=set)
    shares: list[float] = attrs.field(factory=list)

    def note(self, execution: Execution) -> None:
        """Keep what can be seen of an execution that has ended."""
        self.shares.append(self.exploration.search.share)
        if self.exploration.search.is_blocked:
            return
        trace = form_of(len(execution.agents), performed_by(execution))
        self.traces.append(trace)
        if execution.deadlock is not None:
            self.deadlocked.add(trace)
        footprints = Footprints()
        steps = [
            (agent.number, getattr(operation, "chosen", 0), footprints.of(accesses_of(operation)))
            for agent, operation in execution.trace.performed()
        ]
        self.normal_forms.add(normal_form(len(execution.agents), steps))


def explore(
    program: Program,
    make_search: Callable[[], Search] = Optimal,
    *,
    run_each: RunEach = direct.run_each,
    executions_max: int | None = None,
) -> Explored:
    """Explore a program, to its end unless that takes too many executions."""
    explored = Explored(Exploration(lambda strategy: Execution(program(), strategy, Trace()), make_search))

    def executions() -> Iterator[Execution]:
        for execution in islice(explored.exploration.each(), executions_max):
            yield execution
            explored.note(execution)

    run_each(executions())
    return explored


def random_programs(verbs: str, count: int) -> Iterator[tuple[Parts, Traces]]:
    """Yield programs that brute force can count, with their traces."""
    for seed in itertools.count():
        if not count:
            return
        parts = Draws(seed).program(verbs.split())
        traces = traces_of(program_of(parts), classes_max=CLASSES_MAX)
        if traces is not None:
            count -= 1
            yield parts, traces


@attrs.define
class Figures:
    """What the programs of a family came to."""

    programs: int = 0
    traces: int = 0
    deadlocked: int = 0
    executions: int = 0

    def __str__(self) -> str:
        return (
            f"{self.programs} programs, {self.traces} traces, {self.deadlocked} of them deadlocks; "
            f"{self.executions} executions, {self.executions / self.traces:.4f} for each trace"
        )


def prove(verbs: str, count: int, *, is_exact: bool) -> Figures:
    """Hold the search against brute force, program by program."""
    figures = Figures()
    for parts, traces in random_programs(verbs, count):
        explored = explore(program_of(parts), executions_max=10 * len(traces.all) + 1)
        assert explored.exploration.is_exhausted, parts
        assert set(explored.traces) == traces.all, parts
        assert explored.deadlocked == traces.deadlocked, parts
        assert len(explored.normal_forms) == len(traces.all), parts
        if is_exact:
            assert explored.exploration.executions == len(traces.all), parts
            assert explored.exploration.blocked == 0, parts
        figures.programs += 1
        figures.traces += len(traces.all)
        figures.deadlocked += len(traces.deadlocked)
        figures.executions += explored.exploration.executions
    return figures


def outcomes_of(
    parts: Parts, make_search: Callable[[], Search], sections: Sections | None = None
) -> tuple[set[Outcome], Exploration]:
    """Return every outcome that a search finds, until it has found too much to go on."""
    worlds: list[World] = []

    def program(strategy: Strategy) -> Execution:
        worlds.append(World())
        return Execution(worlds[-1].cast(parts), strategy, Trace())

    exploration = Exploration(program, make_search, sections)
    outcomes: set[Outcome] = set()
    for execution in islice(exploration.each(), EXECUTIONS_MAX):
        direct.run(execution)
        if sections is not None and sections.has_left:
            outcomes.clear()
        elif not exploration.search.is_blocked:
            outcomes.add(worlds[-1].outcome(execution))
    return outcomes, exploration


def parts_of(*agents: Sequence[Do]) -> Parts:
    return tuple(Part(tuple(instructions)) for instructions in agents)


@pytest.mark.parametrize("family", EXACT)
def test_every_trace_of_a_random_program_is_executed_once(family: str) -> None:
    prove(EXACT[family], 25, is_exact=True)


@pytest.mark.parametrize("family", STATEFUL)
def test_no_trace_of_a_random_program_is_missed_where_what_is_touched_depends_on_the_state(family: str) -> None:
    prove(STATEFUL[family], 25, is_exact=False)


@pytest.mark.long
@pytest.mark.parametrize("family", EXACT)
def test_every_trace_of_thousands_of_programs_is_executed_once(family: str) -> None:
    print(f"{family}:", prove(EXACT[family], 5_000, is_exact=True))  # noqa: T201 - shown by -rP


@pytest.mark.long
@pytest.mark.parametrize("family", STATEFUL)
def test_no_trace_of_thousands_of_programs_is_missed_where_what_is_touched_depends_on_the_state(
    family: str,
) -> None:
    print(f"{family}, stateful:", prove(STATEFUL[family], 5_000, is_exact=False))  # noqa: T201 - shown by -rP


@pytest.mark.parametrize(
    ("agents", "traces"),
    [
        ([[WRITE], [Do("write", 1)]], 1),
        ([[READ], [READ]], 1),
        ([[ADD], [ADD]], 1),
        ([[READ], [ADD]], 2),
        ([[WRITE], [WRITE], [WRITE]], 6),
        ([[Do("choose")], [Do("choose", amount=1)]], 6),
        ([[READ], [WRITE], [Do("choose")]], 4),
        ([[Do("wait")], [Do("ring")]], 1),
        ([[Do("ring")], [Do("ring")], [Do("wait")]], 4),
        ([[Do("sweep", accesses=(EVEN,))], [Do("sweep", accesses=(ALL,))]], 2),
    ],
)
def test_brute_force_counts_what_can_be_counted_by_hand(agents: list[list[Do]], traces: int) -> None:
    counted = traces_of(program_of(parts_of(*agents)), classes_max=CLASSES_MAX)
    assert counted is not None
    assert len(counted.all) == traces


def test_a_choice_beside_a_race_is_made_in_both_orders_of_the_race() -> None:
    explored = explore(program_of(parts_of([READ], [WRITE], [Do("choose")])))
    assert len(explored.traces) == len(set(explored.traces)) == 4


def test_every_alternative_of_a_choice_that_a_race_reverses_is_explored() -> None:
    parts = parts_of([Do("write", 1)], [Do("choose_reading", 1), READ], [WRITE, Do("write", 1)])
    explored = explore(program_of(parts))
    assert len(explored.traces) == len(set(explored.traces)) == 18


@pytest.mark.parametrize(
    ("agents", "traces"),
    [
        (
            [
                [Do("fetch_and_add", 0, 2), Do("read", 1)],
                [Do("choose_reading", 0, 1)],
                [Do("write", 1, 1), Do("write", 0, 2)],
            ],
            27,
        ),
        (
            [
                [Do("choose_adding", 0, 2)],
                [Do("choose_and_write", 0, 2), Do("fetch_and_add", 1, 2)],
                [Do("fetch_and_add", 1, 1), Do("add", 0, 1)],
            ],
            24,
        ),
    ],
)
def test_no_other_agent_comes_between_the_alternatives_of_a_choice(agents: list[list[Do]], traces: int) -> None:
    explored = explore(program_of(parts_of(*agents)))
    assert len(explored.traces) == len(set(explored.traces)) == traces


def test_what_sleeps_where_nothing_is_prescribed_may_have_to_be_taken_later() -> None:
    writer = Do("sweep", accesses=(Access(TABLE, 2, 2, Kind.COMMUTE), Access(TABLE, 0, 0, Kind.COMMUTE)))
    readers = [Do("sweep", accesses=(Access(TABLE, word, word, Kind.READ),)) for word in (2, 0)]
    clear = Do("clear", accesses=(Access(TABLE, 2, 2, Kind.READ),))
    explored = explore(program_of(parts_of([writer], *([reader] for reader in readers), [clear])))
    assert len(set(explored.traces)) == 10


def test_a_planned_step_wakes_the_steps_that_sleep_beside_it_even_if_it_touches_less_than_announced() -> None:
    clears = [Do("clear", accesses=(Access(TABLE, word, word, Kind.WRITE),)) for word in (3, 2)]
    writer = Do("sweep", accesses=(Access(TABLE, 2, 2, Kind.COMMUTE), Access(TABLE, 0, 1, Kind.COMMUTE)))
    readers = [Do("sweep", accesses=(Access(TABLE, word, word, Kind.READ),)) for word in (2, 0)]
    explored = explore(program_of(parts_of([clears[0], writer], *([reader] for reader in readers), [clears[1]])))
    assert len(set(explored.traces)) == 10


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_steps_that_only_the_winner_of_a_race_takes_are_explored_for_each_order_of_the_agents(
    order: tuple[int, ...],
) -> None:
    agents = [[READ], [WRITE], [Do("test_and_set", body=(READ,))], [Do("test_and_set")]]
    explored = explore(program_of(parts_of(*(agents[number] for number in order))))
    assert len(explored.traces) == len(set(explored.traces)) == 14


def test_swaps_that_fail_are_not_ordered() -> None:
    fails = Do("compare_and_swap", amount=1)
    explored = explore(program_of(parts_of([fails], [fails], [READ])))
    assert explored.exploration.executions == 1


def test_two_agents_that_take_two_locks_in_opposite_orders_deadlock_in_one_trace() -> None:
    parts = parts_of([Do("lock", 0, body=(Do("lock", 1),))], [Do("lock", 1, body=(Do("lock", 0),))])
    explored = explore(program_of(parts))
    assert explored.exploration.deadlocks == len(explored.deadlocked) == 1


def test_a_daemon_that_waits_is_no_deadlock() -> None:
    explored = explore(program_of((Part((Do("wait"),), is_daemon=True), Part((READ,)))))
    assert explored.exploration.executions == 1
    assert explored.exploration.deadlocks == 0


@pytest.mark.parametrize("lengths", [(1, 1), (3, 2), (4, 4), (2, 2, 2), (1, 2, 1, 2)])
def test_depth_first_executes_every_interleaving_of_independent_agents(lengths: tuple[int, ...]) -> None:
    explored = explore(program_of(parts_of(*([READ] * length for length in lengths))), DepthFirst)
    assert explored.exploration.executions == factorial(sum(lengths)) // prod(map(factorial, lengths))


def test_depth_first_executes_every_choice_in_every_interleaving() -> None:
    explored = explore(program_of(parts_of([READ, Do("choose", amount=1)], [Do("choose")])), DepthFirst)
    assert explored.exploration.executions == 3 * 3 * 2


@pytest.mark.parametrize("family", STATEFUL)
def test_depth_first_executes_every_interleaving_of_a_random_program_and_so_every_trace(family: str) -> None:
    for parts, traces in random_programs(STATEFUL[family], 15):
        explored = explore(program_of(parts), DepthFirst, executions_max=INTERLEAVINGS_MAX)
        if explored.exploration.is_exhausted:
            assert explored.exploration.executions == interleavings_of(program_of(parts)), parts
            assert set(explored.traces) == traces.all, parts


@pytest.mark.parametrize("make_search", [DepthFirst, Optimal])
def test_a_share_is_one_of_a_whole(make_search: Callable[[], Search]) -> None:
    for parts, _ in random_programs(STATEFUL["everything"], 25):
        explored = explore(program_of(parts), make_search, executions_max=INTERLEAVINGS_MAX)
        assert all(0 <= share < 1 for share in explored.shares), parts


def test_the_share_of_a_depth_first_search_rises_with_every_execution() -> None:
    for parts, _ in random_programs(STATEFUL["everything"], 25):
        shares = explore(program_of(parts), DepthFirst, executions_max=INTERLEAVINGS_MAX).shares
        assert all(earlier < later for earlier, later in pairwise(shares)), parts


@pytest.mark.parametrize("make_search", [DepthFirst, Optimal])
def test_a_program_that_keeps_something_between_its_executions_is_refused(make_search: Callable[[], Search]) -> None:
    kept: list[None] = []

    def program() -> list[Agent]:
        kept.append(None)
        verb = "read" if len(kept) == 1 else "write"
        return program_of(parts_of([Do(verb), WRITE], [WRITE]))()

    with pytest.raises(ModelError, match=r"agent 0 announces Write at step 1.*kept between executions"):
        explore(program, make_search)


@pytest.mark.parametrize("make_search", [DepthFirst, Optimal])
def test_an_agent_that_no_longer_goes_as_far_as_before_is_refused(make_search: Callable[[], Search]) -> None:
    kept: list[None] = []

    def program() -> list[Agent]:
        kept.append(None)
        return program_of(parts_of([WRITE] if len(kept) == 1 else [], [WRITE], [WRITE]))()

    with pytest.raises(ModelError, match=r"agent 0 cannot go on at step 1.*kept between executions"):
        explore(program, make_search)


def test_agents_that_share_a_python_variable_are_refused_as_a_mistake_of_their_author() -> None:
    def program(strategy: Strategy) -> Execution:
        contended, other = Variable("contended", 0), Variable("other", 0)
        shared: list[str] = []

        async def first() -> None:
            await contended.write(1)
            shared.append("said")

        async def second() -> None:
            await other.write(1)
            if shared:
                await contended.write(2)

        return Execution([Agent("first", first, {}), Agent("second", second, {})], strategy, Trace())

    with pytest.raises(ModelError, match=r"second cannot take step 2.*share a plain Python variable") as refused:
        direct.run_each(Exploration(program, Optimal).each())
    assert "bug of emu" not in str(refused.value)


@pytest.mark.parametrize("make_search", [DepthFirst, Optimal])
def test_trio_tasks_are_explored_as_a_plain_loop_is(make_search: Callable[[], Search]) -> None:
    for parts, _ in random_programs(STATEFUL["everything"], 10):
        plain, tasks = (
            explore(program_of(parts), make_search, run_each=run_each, executions_max=INTERLEAVINGS_MAX)
            for run_each in (direct.run_each, trio_host.run_each)
        )
        assert plain.traces == tasks.traces, parts


def test_sections_taken_short_have_the_outcomes_of_sections_taken_step_by_step() -> None:
    assert agree(Draws.section, 60) > 30


def test_sections_that_are_not_as_declared_have_the_outcomes_of_sections_taken_step_by_step() -> None:
    assert agree(Draws.long_section, 60) > 30


def agree(draw: Callable[[Draws], Do], programs: int) -> int:
    """Compare what random programs come to with short sections and without; return how many could be compared."""
    compared = 0
    for seed in range(programs):
        parts = Draws(seed).sections(draw)
        plain, exploration = outcomes_of(parts, DepthFirst)
        if exploration.is_exhausted:
            compared += 1
            assert outcomes_of(parts, Optimal, Sections())[0] == plain, parts
    return compared


def test_short_sections_of_unrelated_variables_are_not_ordered() -> None:
    parts = parts_of(*([section(0, Do("write", number))] for number in range(3)))
    assert outcomes_of(parts, Optimal, Sections())[1].executions == 1
    assert outcomes_of(parts, Optimal)[1].executions == 6


@pytest.mark.parametrize(
    "body",
    [
        [WRITE, Do("write", 1)],
        [WRITE, WRITE],
        [WRITE, Do("wait")],
        [WRITE, Do("choose")],
        [WRITE, Do("lock", 1)],
    ],
    ids=["undeclared", "twice", "waits", "chooses", "nests"],
)
def test_a_section_that_is_not_as_declared_makes_its_lock_long(body: list[Do]) -> None:
    sections = Sections()
    parts = parts_of([section(0, *body)], [section(0, READ)], [Do("ring")])
    searches: list[Optimal] = []

    def make_search() -> Optimal:
        searches.append(Optimal())
        return searches[-1]

    outcomes, _ = outcomes_of(parts, make_search, sections)
    assert ("lock", "lock 0") in sections.long
    assert len(searches) == 2, "the exploration starts again once"
    assert outcomes == outcomes_of(parts, DepthFirst)[0]
