"""Benchmarks: programs whose number of traces is known, by which a search is judged and measured.

A benchmark is a function from a size to agents. What it knows about itself comes from a closed form, or from a table
where there is none; both were found by counting, not by this engine.
"""

import inspect
from collections.abc import Callable, Mapping

import attrs

from emu.engine import Agent
from emu.engine.agents import Body
from emu.errors import ScenarioError

BySize = Callable[[int], int] | Mapping[int, int]
"""From a size to a number: a closed form, or a table."""


def no_deadlocks(_: int) -> int:
    """Return 0: most programs have no trace that ends in a deadlock."""
    return 0


@attrs.frozen
class Program:
    """A benchmark at one size.

    Attributes:
        name: as `emu bench` takes it.
        make: makes fresh agents, the same ones each time.
        traces: how many there are, deadlocked ones included.
        deadlocks: how many of the traces end in a deadlock.
        is_exact: each trace takes one execution; otherwise kinds depend on state, and it may take two.
    """

    name: str
    make: Callable[[], list[Agent]]
    traces: int
    deadlocks: int = 0
    is_exact: bool = True

    @property
    def executions_max(self) -> int:
        """In how many executions an optimal search finds all of its traces."""
        return self.traces if self.is_exact else 2 * self.traces


TRACES_MAX = 1_000_000
SIZE_MAX = 1_000
"""The greatest size for which the number of traces is computed."""


@attrs.frozen
class Benchmark:
    """A family of programs.

    Attributes:
        sizes: those that are worth a look.
        long: those that take a second or more.
    """

    name: str
    story: str
    build: Callable[[int], list[Agent]]
    traces: BySize
    sizes: tuple[int, ...]
    long: tuple[int, ...] = ()
    deadlocks: BySize = no_deadlocks
    is_exact: bool = True

    def at(self, size: int) -> Program:
        """Return the program of a size.

        Raises:
            ScenarioError: if the size is below 1, the number of traces is not known, or it is above `TRACES_MAX`.
        """
        if size < 1:
            raise ScenarioError(f"{self.name}-{size} is too small: sizes start at 1")
        if not callable(self.traces) and size not in self.traces:
            sizes = f"{min(self.traces)} to {max(self.traces)}"
            raise ScenarioError(f"nobody has counted the traces of {self.name}-{size}: its sizes are {sizes}")
        too_large = ScenarioError(f"{self.name}-{size} has more than {TRACES_MAX:,} traces: take a smaller size")
        if size > SIZE_MAX:
            raise too_large
        traces, deadlocks = (known(size) if callable(known) else known[size] for known in (self.traces, self.deadlocks))
        if traces > TRACES_MAX:
            raise too_large
        return Program(f"{self.name}-{size}", lambda: self.build(size), traces, deadlocks, self.is_exact)

    def programs(self, *, with_long: bool) -> list[Program]:
        """Return the programs that are worth a look, perhaps with those that take long."""
        return [self.at(size) for size in sorted((*self.sizes, *(self.long if with_long else ())))]


def benchmark(
    traces: BySize, *, sizes: tuple[int, ...], long: tuple[int, ...] = (), deadlocks: BySize = no_deadlocks
) -> Callable[[Callable[[int], list[Agent]]], Benchmark]:
    """Make a benchmark of a function, which gives it its name and its story."""

    def decorate(build: Callable[[int], list[Agent]]) -> Benchmark:
        return Benchmark(build.__name__, inspect.getdoc(build) or "", build, traces, sizes, long, deadlocks)

    return decorate


def cast(*bodies: Body) -> list[Agent]:
    """Return an agent for each of these bodies."""
    return [Agent(f"agent{number}", body, {"agent": number}) for number, body in enumerate(bodies)]
