"""Checking a revision against a base: which findings are new, gone or undecided."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from enum import Enum

import attrs

from emu.hypervisor.revisions.executed import Executed
from emu.running.cells import Cell, CellResult, Job, LeftOut, Say, Shown, evaluate

DIED = "the process that executed it has died, twice"


class Change(Enum):
    """How a finding of a cell differs between base and revision."""

    NEW = "new"  # the revision shows it, and no trace of the base does
    GONE = "gone"  # the base shows it, and no trace of the revision does
    UNCHANGED = "unchanged"  # both show it
    UNDECIDED = "undecided"  # one side shows it, and the other was not executed to the end
    BREAKS = "breaks"  # the revision makes a mistake


@attrs.frozen
class Difference:
    """One finding, or one mistake, in one cell.

    Attributes:
        compared: the cell on both sides.
        signature: of the finding; empty for a mistake, and where a cell that shows nothing is undecided.
        instead_of: the findings that are gone from the same page.
    """

    change: Change
    compared: "Compared"
    signature: str = ""
    shown: Shown | None = None
    problem: str = ""
    instead_of: tuple[Shown, ...] = ()

    @property
    def cell(self) -> Cell:
        """The cell of the finding or the mistake."""
        return self.compared.cell

    @property
    def is_bad(self) -> bool:
        """Whether the revision is worse by it."""
        return self.change in {Change.NEW, Change.BREAKS}


@attrs.frozen
class Compared:
    """A cell on both sides."""

    cell: Cell
    base: CellResult
    ours: CellResult

    @property
    def is_exhausted(self) -> bool:
        """Whether every trace was executed, on both sides."""
        return self.base.is_exhausted and self.ours.is_exhausted

    @property
    def is_clean(self) -> bool:
        """Whether no trace of either side shows a finding."""
        return not (self.base.shown or self.ours.shown) and self.is_exhausted

    @property
    def is_worse(self) -> bool:
        """Whether the revision is worse in this cell."""
        return any(one.is_bad for one in self.differences())

    def differences(self) -> Iterator[Difference]:
        """Yield the differences of the cell: the mistake or the new findings first."""
        base, ours = self.base, self.ours
        if ours.problem is not None and base.problem is None:
            yield Difference(Change.BREAKS, self, problem=ours.problem)
            return
        new = {one: shown for one, shown in ours.shown.items() if one not in base.shown}
        gone = {one: shown for one, shown in base.shown.items() if one not in ours.shown}
        pages = {by.page for by in new.values() if by.page[1] is not None}
        replaced = {one: shown for one, shown in gone.items() if shown.page in pages}
        for one, shown in new.items():
            change = Change.NEW if base.is_exhausted else Change.UNDECIDED
            before = tuple(old for old in replaced.values() if old.page == shown.page) if self.is_exhausted else ()
            yield Difference(change, self, one, shown, instead_of=before)
        for one, shown in gone.items():
            if not (self.is_exhausted and one in replaced):
                yield Difference(Change.GONE if ours.is_exhausted else Change.UNDECIDED, self, one, shown)
        for one, shown in ours.shown.items():
            if one in base.shown:
                yield Difference(Change.UNCHANGED, self, one, shown)
        if not (base.shown or ours.shown or self.is_exhausted):
            yield Difference(Change.UNDECIDED, self)


@attrs.define
class Check:
    """A comparison of a revision with another, or with the result of an earlier check.

    Attributes:
        base: the name of a revision, or of the file of an earlier result.
        say: returns the sentence of a finding.
        known: the earlier result, by cell; None where the base is a revision.
        budget: the limit of steps for one cell on one side.
        seconds: the limit of time for one cell on one side.
        ends_at_first: end after the first cell with a new finding.
        left_out: the cells of vendors of which a side has nothing; they are not among the cells.
        compared: the cells that are done, in order.
        was_stopped: Ctrl-C ended it before all cells were done.
        deaths: how often a process died and its cell was executed again.
    """

    revision: str
    base: str
    cells: Sequence[Cell]
    say: Say
    known: Mapping[str, CellResult] | None = None
    budget: int = 50_000
    seconds: float | None = None
    ends_at_first: bool = False
    left_out: Sequence[LeftOut] = ()
    compared: list[Compared] = attrs.field(factory=list, init=False)
    was_stopped: bool = attrs.field(default=False, init=False)
    deaths: int = attrs.field(default=0, init=False)

    def on(self, processes: int, on_progress: Callable[[], None] = lambda: None) -> None:
        """Execute every cell on both sides, in so many processes; 0 for this process alone.

        The result does not depend on their number.
        """
        try:
            for cell, base, ours in self.results(processes):
                self.compared.append(Compared(cell, base, ours))
                on_progress()
                if self.ends_at_first and self.compared[-1].is_worse:
                    return
        except KeyboardInterrupt:
            self.was_stopped = True

    def results(self, processes: int) -> Iterator[tuple[Cell, CellResult, CellResult]]:
        """Yield each cell with the results of both sides, in order."""
        sides = [self.revision] if self.known is not None else [self.base, self.revision]
        jobs = [
            Job(cell, side, self.budget, self.seconds, self.say, is_watched=side == self.revision)
            for cell in self.cells
            for side in sides
        ]
        found = run_all(jobs, processes, self.note_death)
        for cell in self.cells:
            base = next(found) if self.known is None else self.known.get(str(cell), CellResult())
            yield cell, base, next(found)

    def note_death(self) -> None:
        """Count a process that has died."""
        self.deaths += 1

    @property
    def differences(self) -> list[Difference]:
        """The differences of all cells."""
        return [one for compared in self.compared for one in compared.differences()]

    @property
    def is_worse(self) -> bool:
        """Whether the revision is worse in any cell."""
        return any(one.is_worse for one in self.compared)

    @property
    def is_undecided(self) -> bool:
        """Whether more executions could still show a new finding."""
        return self.was_stopped or any(one.change is Change.UNDECIDED for one in self.differences)

    @property
    def executed(self) -> Executed:
        """The lines of the revision that were executed in any cell, by file."""
        found: dict[str, frozenset[int]] = {}
        for compared in self.compared:
            for file, lines in compared.ours.executed.items():
                found[file] = found.get(file, frozenset()) | lines
        return found

    @property
    def bugs(self) -> list[str]:
        """The problems that are bugs of emu."""
        sides = (side for one in self.compared for side in (one.base, one.ours))
        return [side.problem for side in sides if side.is_bug and side.problem]


def run_all(jobs: Sequence[Job], processes: int, on_death: Callable[[], None]) -> Iterator[CellResult]:
    """Yield the result of each job, in order, from so many processes; 0 for this process alone.

    If a process dies, the first job without a result is executed again, alone, and the rest in new processes.
    """
    if not processes:
        yield from map(evaluate, jobs)
        return
    left = list(jobs)
    while left:
        for result in run_in_pool(left, processes):
            if result is None:
                on_death()
                yield next(run_in_pool(left[:1], 1)) or CellResult(problem=DIED)
            else:
                yield result
            left.pop(0)


def end_with_parent() -> None:
    """Let this process end when its parent process has ended, for whatever reason."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def run_in_pool(jobs: Sequence[Job], processes: int) -> Iterator[CellResult | None]:
    """Yield the result of each job, in order; if a process dies, None for the first job without a result, and no more.

    Only this process gets Ctrl-C: the others ignore it, and end with this process.
    """
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(processes, len(jobs)), context, end_with_parent)
    with ctrl_c_ignored():  # the processes that it starts inherit that
        waiting = [pool.submit(evaluate, job) for job in jobs]
    try:
        for future in waiting:
            yield future.result()
    except BrokenProcessPool:
        yield None
    finally:
        with ctrl_c_ignored():  # it could only leave processes behind
            if not all(future.done() for future in waiting):
                for child in multiprocessing.active_children():
                    child.terminate()
            pool.shutdown(cancel_futures=True)


@contextmanager
def ctrl_c_ignored() -> Iterator[None]:
    """Ignore Ctrl-C within the block."""
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
