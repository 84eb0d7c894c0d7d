"""Cells: a scenario with parameters, explored on a revision in any process; the findings come back as plain data."""

import itertools
import sys
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path

import attrs

from emu.checks.findings import Finding
from emu.checks.signatures import Signature
from emu.engine import Trace
from emu.engine.sources import is_interrupt
from emu.errors import EmuError, InternalError, ScenarioError, printable, said_by
from emu.hypervisor.revisions.executed import Executed, executed, watch
from emu.hypervisor.revisions.loader import bundled_name, place_of
from emu.machine.machine import Machine
from emu.memory import FIRST_DATA_FRAME, FIRST_TABLE_FRAME
from emu.platforms import PLATFORMS, Platform
from emu.running.causes import Cause
from emu.running.executions import run_each_on
from emu.running.exploration import ScenarioExploration
from emu.running.plan import Plan
from emu.scenarios.library import find
from emu.scenarios.parameters import VENDOR, machine_parameters
from emu.scenarios.scenario import BoundScenario, Scenario


@attrs.frozen
class Cell:
    """A scenario with its parameters as a user writes them."""

    scenario: str
    parameters: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join((self.scenario, *self.parameters))

    @property
    def platform(self) -> Platform:
        """The vendor of its machines."""
        return find(self.scenario).platform_of(self.texts())

    def texts(self, *others: str) -> dict[str, str]:
        """Return the parameters, and others, by name."""
        return dict(pair.split("=", 1) for pair in (*self.parameters, *others))

    def bind(self, revision: str) -> BoundScenario:
        """Return the scenario with the parameters, on a revision."""
        return find(self.scenario).bind(self.texts(f"revision={revision}"))

    def command(self, revision: str) -> list[str]:
        """Return the words of the command that explores the cell on a revision."""
        pairs = (*self.parameters, f"revision={revision}")
        return ["emu", "explore", self.scenario, *itertools.chain.from_iterable(("-p", pair) for pair in pairs)]


def grid(scenarios: Sequence[str], values: Mapping[str, Sequence[str]]) -> Iterator[Cell]:
    """Yield the cells of scenarios: the cells of their tables, then their small forms with each setting.

    Each vendor that can run a scenario has cells of its own.

    Args:
        values: parameters and the values that replace those of the cells, in all combinations; a scenario that lacks
            one of the parameters is left out, as is a vendor that does, or that is not named.

    Raises:
        ScenarioError: if a vendor is named that there is not.
    """
    vendor, *_ = machine_parameters(next(iter(PLATFORMS.values())))
    named = [vendor.parse(one) for one in values.get(VENDOR, PLATFORMS)]
    chosen = [
        tuple(f"{name}={value}" for name, value in zip(values, one, strict=True))
        for one in itertools.product(*values.values())
    ]
    for name in scenarios:
        scenario = find(name)
        for platform in scenario.platforms():
            if platform.name in named and has_all(scenario, platform, values):
                of_it = [one for one in chosen if VENDOR not in values or f"{VENDOR}={platform.name}" in one]
                rows = rows_on(scenario, platform)
                kept = ([pair for pair in row if pair.partition("=")[0] not in values] for row in rows)
                yield from dict.fromkeys(Cell(name, (*pairs, *extra)) for pairs in kept for extra in of_it)


def rows_on(scenario: Scenario, platform: Platform) -> list[list[str]]:
    """Return the parameters of a scenario's cells on a vendor's machines, and of its small form with each setting."""
    cells = [cell.split() for cell in scenario.cells_on(platform)]
    vendor = [pair for pair in cells[0] if pair.startswith(f"{VENDOR}=")]
    small = [f"{name}={value}" for name, value in scenario.small.items()]
    return [*cells, *([*vendor, *small, setting] for setting in platform.tried)]


def has_all(scenario: Scenario, platform: Platform, names: Iterable[str]) -> bool:
    """Whether a scenario on a vendor's machines has parameters of all these names."""
    return {one.name for one in scenario.bind({VENDOR: platform.name}).parameters}.issuperset(names)


@attrs.frozen
class LeftOut:
    """Cells of a vendor, or of a scenario, that are not executed, because a side lacks what they need.

    Attributes:
        of: the name of the vendor or the scenario.
        lacks: says what there is not.
    """

    of: str
    cells: frozenset[Cell]
    lacks: str


def but(cells: Sequence[Cell], without: Iterable[LeftOut]) -> list[Cell]:
    """Return the cells but those that are left out."""
    dropped = {cell for one in without for cell in one.cells}
    return [cell for cell in cells if cell not in dropped]


def left_out(cells: Sequence[Cell], revision: str) -> Iterator[LeftOut]:
    """Yield the cells of each vendor whose hooks a revision does not have.

    Nothing is left out of a revision that has the hooks of none of these vendors: it cannot be checked.
    """
    files = {one: place_of(revision) / one.hooks_file for one in PLATFORMS.values()}
    named = Path(bundled_name(revision))
    lacks = {one: f"no {named / file.name}" for one, file in files.items() if not file.is_file()}
    yield from of_vendors(cells, lacks)


def without_functions(cells: Sequence[Cell], revision: str) -> Iterator[LeftOut]:
    """Yield the cells of each scenario that needs a function which a revision does not have; it can be loaded."""
    lacking: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        needs = find(cell.scenario).needs
        others = cell.platform.load_revision(revision).others if needs else {}
        for name in (one for one in needs if one not in others):
            lacking.setdefault((cell.scenario, name), []).append(cell)
    for (scenario, name), those in lacking.items():
        yield LeftOut(scenario, frozenset(those), f"no {name} in {revision}")


def not_in_earlier(cells: Sequence[Cell], known: Container[str], base: str) -> Iterator[LeftOut]:
    """Yield the cells of each vendor of which an earlier result has none; nothing if it has none at all."""
    there = {cell.platform for cell in cells if str(cell) in known}
    yield from of_vendors(cells, {one: f"none in {base}" for one in PLATFORMS.values() if one not in there})


def of_vendors(cells: Sequence[Cell], lacks: Mapping[Platform, str]) -> Iterator[LeftOut]:
    """Yield the cells of vendors, with what there is not; nothing if there are no others."""
    of_vendor: dict[Platform, list[Cell]] = {}
    for cell in cells if lacks else ():
        of_vendor.setdefault(cell.platform, []).append(cell)
    if not of_vendor.keys() <= lacks.keys():
        for platform in filter(lacks.__contains__, of_vendor):
            yield LeftOut(platform.name, frozenset(of_vendor[platform]), lacks[platform])


@attrs.frozen
class Shown:
    """A finding that a cell shows.

    Attributes:
        page: the domain and the dfn of the finding; None for each that it does not have.
        executions: how many executions show it.
    """

    kind: str
    page: tuple[int | None, int | None]
    sentence: str
    executions: int


@attrs.frozen
class CellResult:
    """The findings of a revision in a cell.

    Attributes:
        is_exhausted: every trace was executed.
        shown: the findings, by signature.
        executed: the lines of a watched revision that this process has executed so far, by file.
        problem: the mistake of the revision or the scenario that ended the exploration; or a bug of emu.
        is_bug: the problem is a bug of emu.
    """

    is_exhausted: bool = False
    executions: int = 0
    steps: int = 0
    shown: Mapping[str, Shown] = attrs.field(factory=dict)
    executed: Executed = attrs.field(factory=dict, eq=False)
    problem: str | None = None
    is_bug: bool = False


Say = Callable[[Finding, Trace], str]
"""Returns the sentence of a finding."""


@attrs.frozen
class Job:
    """The task to explore a cell on a revision.

    Attributes:
        budget: the limit of steps.
        seconds: the limit of time.
        say: returns the sentence of a finding.
        is_watched: keep the lines of the revision that are executed.
    """

    cell: Cell
    revision: str
    budget: int
    seconds: float | None
    say: Say
    is_watched: bool = False


def evaluate(job: Job) -> CellResult:
    """Explore a cell on a revision. A mistake becomes part of the result; prints of the user's code go to stderr."""
    folder = place_of(job.revision)
    if job.is_watched:
        watch(folder)
    with redirect_stdout(sys.stderr):
        try:
            result = explore(job)
        except EmuError as error:
            result = CellResult(problem=str(error), is_bug=isinstance(error, InternalError))
        except BaseException as error:
            if is_interrupt(error):
                raise
            what = f"in {job.cell}: {said_by(error)}"
            result = CellResult(problem=what, is_bug=isinstance(error, Exception))
    problem = None if result.problem is None else printable(result.problem)
    return attrs.evolve(result, problem=problem, executed=executed(folder))


def explore(job: Job) -> CellResult:
    """Explore a cell on a revision.

    Raises:
        EmuError: if the scenario cannot be set up, or a finding does not come again.
    """
    done = ScenarioExploration(
        job.cell.bind(job.revision), job.cell.scenario, Plan(steps=job.budget, seconds=job.seconds)
    )
    done.run_all(run_each_on("direct"))
    if done.failure is not None:
        return CellResult(problem=str(done.failure))
    if done.has_reached_limit:
        return CellResult(problem=done.limit)
    if done.has_emulator_bug:
        return CellResult(problem=f"emu's check of itself has failed in {job.cell}", is_bug=True)
    for cause in done.causes.values():
        done.confirmation.repeat_first(cause)
    shown = dict(map(partial(shown_by, say=job.say), done.causes.values()))
    return CellResult(done.is_exhausted, done.done, done.coverage.steps, dict(sorted(shown.items())))


def shown_by(cause: Cause, say: Say) -> tuple[str, Shown]:
    """Return the signature of a cause as a text, and the cause as plain data.

    Raises:
        InternalError: if the cause was not repeated.
    """
    run, one = cause.run, cause.signature
    if run is None or run.reported is None or cause.finding is None:
        raise InternalError(f"{one} was found and is not shown")
    machine = run.reported.machine
    said = printable(say(cause.finding, machine.trace))
    return printable(with_named_table(one, machine)), Shown(
        one.kind.value, (one.domain, one.dfn), said, cause.executions
    )


def with_named_table(one: Signature, machine: Machine) -> str:
    """Return a signature as a text that names the frame of a table by the table's domain and a dfn that it translates.

    The frame's number would not do: it depends on how many tables were allocated before.
    """
    if one.frame is None or not FIRST_TABLE_FRAME <= one.frame < FIRST_DATA_FRAME:
        return str(one)
    table = machine.pages.find(one.frame).table
    return one.written(f"table of domain {table[0].number} for {table[1]:#x}" if table else "table")


def refuse_unusable(cells: Sequence[Cell], revision: str) -> None:
    """Refuse cells with an unknown scenario, parameter, value or revision; and refuse to check no cell at all.

    Raises:
        ScenarioError: naming what is wrong.
    """
    if not cells:
        raise ScenarioError(
            "there is nothing to check: no scenario has all the parameters that -p names, on a vendor that can run it; "
            "`emu list` shows them"
        )
    for cell in cells:
        cell.bind(revision)
