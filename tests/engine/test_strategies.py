"""Strategies: who goes next."""

import random
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from emu.engine import Access, Agent, Choose, Execution, Kind, Latch, Strategy, Trace, Wait
from emu.engine.hosts import direct
from emu.engine.strategies.random import RandomStrategy
from emu.engine.strategies.round_robin import RoundRobinStrategy

Body = Callable[[], Coroutine[Any, Any, None]]


class OnlyRandom(random.Random):
    """A generator that can be asked for `random()` and nothing else."""

    calls = 0

    def random(self) -> float:
        self.calls += 1
        return super().random()

    def refuse(self, *arguments: object, **keywords: object) -> Any:
        raise AssertionError("a draw other than random()")

    getrandbits = randbytes = randrange = randint = choice = choices = shuffle = sample = uniform = refuse
    betavariate = triangular = gauss = normalvariate = expovariate = _randbelow = refuse


def steps(count: int) -> Body:
    async def body() -> None:
        for _ in range(count):
            await Choose("a number", 10)

    return body


def turns(strategy: Strategy, *bodies: Body) -> str:
    """Return the names of agents a, b, ... in the order of their steps."""
    trace = Trace()
    agents = [Agent(name, body, {}) for name, body in zip("abcdef", bodies, strict=False)]
    direct.run(Execution(agents, strategy, trace))
    return "".join(event.agent.name for event in trace.events())


def choices(strategy: Strategy, count: int) -> list[int]:
    return [strategy.choose(Choose("a number", count)) for _ in range(300)]


def agents(count: int) -> list[Agent]:
    return [Agent(f"agent {i}", steps(0), {}) for i in range(count)]


def test_round_robin_takes_turns() -> None:
    assert turns(RoundRobinStrategy(), steps(3), steps(3), steps(3)) == "abcabcabc"


def test_round_robin_passes_over_agents_that_have_finished() -> None:
    assert turns(RoundRobinStrategy(), steps(1), steps(3), steps(2)) == "abcbcb"


def test_under_round_robin_the_agent_that_has_waited_longest_goes_first() -> None:
    bell = Latch("the bell", Access.to(("bell",), 0, Kind.WRITE))

    async def wait_twice() -> None:
        await Choose("a number", 1)
        await Wait(bell)
        await Choose("a number", 1)

    async def ring() -> None:
        for _ in range(3):
            await Choose("a number", 1)
        bell.set(1)
        await Choose("a number", 1)

    assert turns(RoundRobinStrategy(), steps(5), ring, wait_twice) == "abcababcabca"


def test_round_robin_chooses_the_first_possibility() -> None:
    assert set(choices(RoundRobinStrategy(), 5)) == {0}


def test_the_same_seed_makes_the_same_picks_and_choices() -> None:
    among = agents(7)
    one, other = RandomStrategy.seeded(11), RandomStrategy.seeded(11)
    assert [one.pick(among) for _ in range(50)] == [other.pick(among) for _ in range(50)]
    assert choices(one, 9) == choices(other, 9)


def test_different_seeds_make_different_schedules() -> None:
    schedules = {turns(RandomStrategy.seeded(seed), steps(5), steps(5)) for seed in range(20)}
    assert len(schedules) > 10


def test_a_seed_stands_for_the_same_schedule_for_ever() -> None:
    assert turns(RandomStrategy.seeded(1), steps(5), steps(5), steps(5)) == "acbbaccbacacabb"


def test_random_uses_only_the_one_draw_that_all_versions_of_python_share() -> None:
    generator = OnlyRandom(3)
    strategy = RandomStrategy(generator)
    for _ in range(20):
        strategy.pick(agents(3))
        strategy.choose(Choose("a number", 5))
    assert generator.calls == 40


@pytest.mark.parametrize("count", [2, 3, 5])
def test_random_picks_every_enabled_agent_about_as_often_as_any_other(count: int) -> None:
    among = agents(count)
    strategy = RandomStrategy.seeded(5)
    picked = Counter(strategy.pick(among).name for _ in range(1_000))
    assert len(picked) == count
    assert min(picked.values()) > 1_000 / count * 0.7


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_random_chooses_every_possibility_and_no_other(count: int) -> None:
    assert set(choices(RandomStrategy.seeded(7), count)) == set(range(count))


def test_every_enabled_agent_goes_first_under_some_seed() -> None:
    first = {turns(RandomStrategy.seeded(seed), steps(1), steps(1), steps(1))[0] for seed in range(30)}
    assert first == {"a", "b", "c"}


def test_random_never_picks_an_agent_that_waits() -> None:
    bell = Latch("the bell", Access.to(("bell",), 0, Kind.WRITE))

    async def wait() -> None:
        await Wait(bell)

    async def ring() -> None:
        await steps(3)()
        bell.set(1)
        await Choose("a number", 1)

    schedules = set()
    for seed in range(30):
        bell.is_set = False
        schedules.add(turns(RandomStrategy.seeded(seed), wait, ring))
    assert schedules == {"bbbab", "bbbba"}
