"""The cost of checks: the time spent in checks, against the time of a whole exploration of the largest scenario."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs

from emu.bench.steps import StepMeasure
from emu.checks.isolation import IsolationJudge, IsolationWatch
from emu.checks.promises import PromiseJudge
from emu.checks.releases import ReleaseJudge
from emu.checks.usage import UsageWatch
from emu.running.exploration import ScenarioExploration
from emu.scenarios.library import find

SCENARIO, PARAMETERS = "remove_moved_page", {"revision": "merged"}
"""The bundled scenario with the most traces."""

CHECKS: tuple[tuple[type, tuple[str, ...]], ...] = (
    (PromiseJudge, ("reads", "judge", "settle")),
    (ReleaseJudge, ("reads_of_page", "owner_changes", "entry_stored", "page_changed")),
    (IsolationJudge, ("leaf_reads", "leaf_stored", "withdrawal_reads", "withdrawn")),
    (UsageWatch, ("reads", "committed")),
    (IsolationWatch, ("reads", "committed")),
)
"""The methods of checks that the model calls: for their reads, and for their findings."""


@attrs.define
class Stopwatch:
    """Adds up the time that functions take, including the time of what they yield."""

    seconds: float = 0.0

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that does the same and adds its time."""

        def measured(*arguments: Any) -> Any:
            start = time.perf_counter()
            result = function(*arguments)
            if isinstance(result, Iterable):
                result = list(result)
            self.seconds += time.perf_counter() - start
            return result

        return measured

    @contextmanager
    def on_checks(self) -> Iterator[None]:
        """Return a context in which every check is timed."""
        originals = [(owner, name, getattr(owner, name)) for owner, names in CHECKS for name in names]
        for owner, name, function in originals:
            setattr(owner, name, self.timed(function))
        try:
            yield
        finally:
            for owner, name, function in originals:
                setattr(owner, name, function)


def measure_checks() -> StepMeasure:
    """Measure an exploration, and the time of the checks in it."""
    stopwatch = Stopwatch()
    exploration = ScenarioExploration(find(SCENARIO).bind(PARAMETERS), SCENARIO)
    with stopwatch.on_checks():
        start = time.perf_counter()
        exploration.on("direct")
        seconds = time.perf_counter() - start
    return StepMeasure(
        "checks of a step", "the whole exploration", 0.5, exploration.coverage.steps, stopwatch.seconds, seconds
    )
