"""Claims of programs that know no hardware: an exploration finds what all interleavings find."""

import random
from collections import Counter as Tally
from collections.abc import Callable, Iterable

import pytest

from emu.engine import Access, Agent, Claim, Claims, Counter, Execution, Exploration, Kind, Trace, Wait
from emu.engine.agents import Body
from emu.engine.claims import When
from emu.engine.hosts import direct
from emu.engine.latches import Latch
from emu.engine.search import Search
from emu.engine.strategies import Strategy
from emu.engine.strategies.depth_first import DepthFirst
from emu.engine.strategies.optimal import Optimal
from emu.engine.strategies.random import RandomStrategy
from emu.errors import ModelError
from tests.engine.brute_force import Form, Performed, add_step, form_of

VARIABLES = 3

Outcome = tuple[tuple[tuple[str, str | None], ...], tuple[int, ...]]
"""What was broken by whom, and the values at the end."""


class Drawn:
    """A program of two or three agents that a seed stands for, with two claims and assertions.

    Attributes:
        outcomes: what each execution has shown, in the order of execution.
    """

    def __init__(self, seed: int, *, with_cas: bool = False) -> None:
        self.seed = seed
        self.operations = "wwraf" + "c" * 2 * with_cas
        self.outcomes: list[Outcome] = []
        self.forms: list[Form] = []

    def execution(self, strategy: Strategy) -> Execution:
        draw = random.Random(self.seed)
        self.variables = [Counter(f"v{number}", 0) for number in range(VARIABLES)]
        count = draw.choice([2, 2, 3])
        length = 3 if count == 2 else 2
        scripts = [
            [(draw.choice(self.operations), draw.randrange(VARIABLES), draw.randrange(1, 3)) for _ in range(length)]
            for _ in range(count)
        ]
        agents = [Agent(f"a{number}", self.body(script), {}) for number, script in enumerate(scripts)]
        limit = draw.randrange(1, 4)
        first, second, third = self.variables
        self.claims = [
            Claim("first", lambda: first.value + second.value <= limit, When.ALWAYS, first.reading + second.reading),
            Claim("second", lambda: third.value != second.value + 1, When.ALWAYS, third.reading + second.reading),
            Claim("third", lambda: third.value != first.value, When.FINALLY),
        ]
        return Execution(agents, strategy, Trace(), claims=Claims(self.claims))

    def body(self, script: list[tuple[str, int, int]]) -> Body:
        async def run() -> None:
            for name, number, value in script:
                variable = self.variables[number]
                if name == "w":
                    await variable.write(value)
                elif name == "a":
                    await variable.add(value)
                elif name == "f":
                    old = await variable.fetch_and_add(value)
                    assert old < 2, "few"
                elif name == "c":
                    await variable.compare_and_swap(value - 1, value)
                else:
                    read = await variable.read()
                    assert read != value, f"not {value}"

        return run

    def keep(self, execution: Execution) -> None:
        broken = sorted((one.claim, None if one.when is When.FINALLY else one.agent or "") for one in execution.broken)
        self.outcomes.append((tuple(broken), tuple(variable.value for variable in self.variables)))
        steps: list[Performed] = []
        for agent, operation in execution.trace.performed():
            add_step(steps, len(execution.agents), agent.number, 0, self.extended(operation.accesses()))
        self.forms.append(form_of(len(execution.agents), steps))

    def extended(self, accesses: Iterable[Access]) -> list[Access]:
        """Return accesses with those of the claims: told anew here, for the engine is measured against it."""
        own = list(accesses)
        changed = {one.space for one in own if one.kind is not Kind.READ}
        return own + [read for one in self.claims if changed & {r.space for r in one.reads} for read in one.reads]

    def explored(self, make_search: Callable[[], Search]) -> "Drawn":
        for execution in Exploration(self.execution, make_search).each():
            direct.run(execution)
            self.keep(execution)
        return self


@pytest.mark.parametrize("seed", range(40))
def test_every_trace_is_executed_once_and_all_its_interleavings_break_the_same(seed: int) -> None:
    reduced, every = Drawn(seed).explored(Optimal), Drawn(seed).explored(DepthFirst)
    of_form = dict(zip(every.forms, every.outcomes, strict=True))
    assert all(of_form[form] == outcome for form, outcome in zip(every.forms, every.outcomes, strict=True))
    assert sorted(reduced.forms) == sorted(of_form)
    assert Tally(reduced.outcomes) == Tally(of_form.values())


@pytest.mark.parametrize("seed", range(40))
def test_nothing_is_missed_where_an_operation_may_touch_less_than_it_announces(seed: int) -> None:
    reduced, every = Drawn(seed, with_cas=True).explored(Optimal), Drawn(seed, with_cas=True).explored(DepthFirst)
    assert set(reduced.outcomes) == set(every.outcomes)


def test_two_swaps_that_succeed_are_ordered_by_a_claim_that_reads_what_both_have_written() -> None:
    def program(strategy: Strategy) -> Execution:
        x, y = Counter("x", 0), Counter("y", 0)

        async def swap_x() -> None:
            await x.compare_and_swap(0, 1)

        async def swap_y() -> None:
            await y.compare_and_swap(0, 1)

        claims = Claims([Claim("x <= y", lambda: x.value <= y.value, reads=x.reading + y.reading)])
        return Execution([Agent("a", swap_x, {}), Agent("b", swap_y, {})], strategy, Trace(), claims=claims)

    broken = []
    for execution in Exploration(program, Optimal).each():
        direct.run(execution)
        broken.append([one.claim for one in execution.broken])
    assert sorted(broken) == [[], ["x <= y"]]


def test_the_programs_that_are_compared_break_each_claim_in_some_traces_and_not_in_all() -> None:
    drawn = [Drawn(seed).explored(Optimal) for seed in range(40)]
    for claim in ("first", "second", "third", "few", "not 1"):
        shown = [sum(claim in dict(broken) for broken, _ in one.outcomes) for one in drawn]
        assert any(0 < count < len(one.outcomes) for count, one in zip(shown, drawn, strict=True)), claim


def stored(*claims: Claim, counter: Counter) -> Execution:
    async def store() -> None:
        await counter.write(1)
        await counter.write(0)

    execution = Execution([Agent("a", store, {})], RandomStrategy.seeded(0), Trace(), claims=Claims(claims))
    direct.run(execution)
    return execution


def test_a_claim_is_broken_once_in_an_execution_however_often_it_does_not_hold() -> None:
    counter = Counter("counter", 0)
    execution = stored(Claim("never", lambda: False, reads=counter.reading), counter=counter)
    assert [(one.claim, one.agent, one.step) for one in execution.broken] == [("never", None, 0)]


def test_a_claim_of_the_end_is_not_asked_before() -> None:
    counter = Counter("counter", 0)
    assert stored(Claim("zero", lambda: counter.value == 0, When.FINALLY), counter=counter).broken == []
    (broken,) = stored(Claim("one", lambda: counter.value == 1, When.FINALLY), counter=counter).broken
    assert (broken.agent, broken.step, broken.when) == ("a", 2, When.FINALLY)


def test_a_claim_that_depends_on_an_undeclared_object_is_a_mistake() -> None:
    counter, other = Counter("counter", 0), Counter("other", 0)
    claim = Claim("zero", lambda: counter.value == 0, reads=other.reading)
    with pytest.raises(ModelError, match=r"'zero' does not hold after step 1 of a, .* to its reads"):
        stored(claim, counter=counter)


def test_a_claim_of_the_end_is_asked_in_a_deadlock_and_not_where_an_execution_is_cut_short() -> None:
    def execution(strategy: Strategy) -> Execution:
        async def wait() -> None:
            await Wait(Latch("a latch", Access.to(("latch",), 0, Kind.WRITE)))

        async def store() -> None:
            await counter.write(1)

        claims = Claims([Claim("never", lambda: False, When.FINALLY)])
        return Execution([Agent("a", wait, {}), Agent("b", store, {})], strategy, Trace(), claims=claims)

    counter = Counter("counter", 0)
    ended = execution(RandomStrategy.seeded(0))
    direct.run(ended)
    assert ended.deadlock is not None
    assert [one.claim for one in ended.broken] == ["never"]

    class Stops:
        def pick(self, enabled: object) -> None:
            return None

        def choose(self, choice: object) -> int:
            return 0

    cut = execution(Stops())
    direct.run(cut)
    assert cut.broken == []
