"""Programs on shared variables alone: reads, writes, and compare-and-swap."""

from collections.abc import Sequence
from functools import partial
from math import comb, factorial
from typing import Any

from emu.bench.benchmark import benchmark, make_agents
from emu.engine import Agent, Operation, Variable


def central_trinomial(n: int) -> int:
    """Return the coefficient of x to the n in (1 + x + x²) to the n."""
    return sum(comb(n, 2 * k) * comb(2 * k, k) for k in range(n // 2 + 1))


@benchmark(lambda n: 2**n, sizes=(8,), long=(13,))
def readers(n: int) -> list[Agent]:
    """One agent writes a variable, and each of the others reads it before or after that."""
    x = Variable("x", 0)

    async def write() -> None:
        await x.write(1)

    async def read() -> None:
        await x.read()

    return make_agents(write, *[read] * n)


@benchmark(factorial, sizes=(5, 7), long=(8,))
def writers(n: int) -> list[Agent]:
    """Every agent writes the same variable: any order counts."""
    x = Variable("x", 0)

    async def write(value: int) -> None:
        await x.write(value)

    return make_agents(*[partial(write, value) for value in range(n)])


@benchmark(lambda n: factorial(n + 1), sizes=(5,), long=(6,))
def n_writers_a_reader(n: int) -> list[Agent]:
    """All agents but one write the same variable, and that one reads it."""
    x = Variable("x", 0)

    async def write(value: int) -> None:
        await x.write(value)

    async def read() -> None:
        await x.read()

    return make_agents(*[partial(write, value) for value in range(n)], read)


@benchmark(lambda n: (n + 3) * 2**n // 4, sizes=(5, 10), long=(12,))
def lastzero(n: int) -> list[Agent]:
    """Writers each raise their cell above the one before it, while a reader looks for the last cell that is zero."""
    cells = [Variable("a", 0, number=number) for number in range(n + 1)]

    async def look() -> None:
        place = n
        while await cells[place].read():
            place -= 1

    async def rise(place: int) -> None:
        await cells[place].write(await cells[place - 1].read() + 1)

    return make_agents(look, *[partial(rise, place) for place in range(1, n + 1)])


@benchmark(lambda n: factorial(n) ** 2, sizes=(4,), long=(5,))
def incrw(n: int) -> list[Agent]:
    """Every agent increments a variable, in a read and a write."""
    x = Variable("x", 0)

    async def increment() -> None:
        await x.write(await x.read() + 1)

    return make_agents(*[increment] * n)


@benchmark(lambda n: central_trinomial(2 * n), sizes=(4,), long=(5, 6))
def fib_bench(n: int) -> list[Agent]:
    """Two agents add each other's variable to their own, n times."""
    i, j = Variable("i", 1), Variable("j", 1)

    async def add(mine: Variable[int], other: Variable[int]) -> None:
        for _ in range(n):
            own = await mine.read()
            await mine.write(own + await other.read())

    return make_agents(partial(add, i, j), partial(add, j, i))


@benchmark(lambda n: central_trinomial(2 * n), sizes=(4, 5), long=(6,))
def sb(n: int) -> list[Agent]:
    """Two agents write their own variable and read the other's, n times: the litmus test of store buffering."""
    x, y = Variable("x", 0), Variable("y", 0)

    async def write_and_read(mine: Variable[int], other: Variable[int]) -> None:
        for value in range(1, n + 1):
            await mine.write(value)
            await other.read()

    return make_agents(partial(write_and_read, x, y), partial(write_and_read, y, x))


@benchmark(lambda n: factorial(n + 1) ** 2, sizes=(3,), long=(4,))
def reorder(n: int) -> list[Agent]:
    """All agents but the last write two variables; the last reads both."""
    a, b = Variable("a", 0), Variable("b", 0)

    async def each(operations: Sequence[Operation[Any]]) -> None:
        for operation in operations:
            await operation

    return make_agents(
        *[partial(each, (a.write(1), b.write(-1))) for _ in range(n)], partial(each, (a.read(), b.read()))
    )


@benchmark({n: 8 ** max(n - 11, 0) for n in range(1, 16)}, sizes=(12, 13), long=(14, 15))
def indexer(n: int) -> list[Agent]:
    """Every agent enters four numbers into a hash table, by compare-and-swap; the first 11 agents never collide."""
    slots, inserts = 128, 4
    table = [Variable("table", 0, number=number) for number in range(slots)]

    async def enter(agent: int) -> None:
        for number in range(1, inserts + 1):
            entered = number * 11 + agent
            place = entered * 7 % slots
            while not await table[place].compare_and_swap(0, entered):
                place = (place + 1) % slots

    return make_agents(*[partial(enter, agent) for agent in range(n)])


BENCHMARKS = [readers, writers, n_writers_a_reader, lastzero, incrw, fib_bench, sb, reorder, indexer]
