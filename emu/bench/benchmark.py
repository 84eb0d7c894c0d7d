"""Benchmarks: programs whose number of traces is known, by which a search is judged and measured.

A benchmark is a function from a size to agents. Its numbers of traces and deadlocks come from a closed form or a table;
neither was computed by this engine.
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
        make: makes fresh agents, equal each time.
        traces: how many traces there are, including those that end in a deadlock.
        deadlocks: how many of the traces end in a deadlock.
        is_exact: each trace takes one execution; otherwise kinds depend on state, and a trace may take two.
    """

    name: str
    make: Callable[[], list[Agent]]
    traces: int
    deadlocks: int = 0
    is_exact: bool = True

    @property
    def executions_max(self) -> int:
        """The most executions that an optimal search needs for all traces."""
        return self.traces if self.is_exact else 2 * self.traces


TRACES_MAX = 1_000_000
SIZE_MAX = 1_000
"""The greatest size for which the number of traces is computed."""


@attrs.frozen
class Benchmark:
    """A family of programs.

    Attributes:
        sizes: the sizes that `emu bench` takes by default.
        long: the sizes that take a second or more.
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
            ScenarioError: if the size is below 1, or its number of traces is unknown or above `TRACES_MAX`.
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
        """Return the programs of the default sizes, perhaps with the long ones."""
        return [self.at(size) for size in sorted((*self.sizes, *(self.long if with_long else ())))]


def benchmark(
    traces: BySize, *, sizes: tuple[int, ...], long: tuple[int, ...] = (), deadlocks: BySize = no_deadlocks
) -> Callable[[Callable[[int], list[Agent]]], Benchmark]:
    """Make a benchmark of a function; the function's name and docstring are the benchmark's name and story."""

    def decorate(build: Callable[[int], list[Agent]]) -> Benchmark:
        return Benchmark(build.__name__, inspect.getdoc(build) or "", build, traces, sizes, long, deadlocks)

    return decorate


def make_agents(*bodies: Body) -> list[Agent]:
    """Return an agent for each body."""
    return [Agent(f"agent{number}", body, {"agent": number}) for number, body in enumerate(bodies)]
