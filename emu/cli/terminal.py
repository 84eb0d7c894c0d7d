"""Colour, and progress on stderr."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, TextIO

import click

if TYPE_CHECKING:
    from emu.running.check import Check
    from emu.running.exploration import ScenarioExploration
    from emu.running.run import Run

SECONDS_BETWEEN_LINES = 10
SECONDS_BETWEEN_UPDATES = 0.1


def wants_colors(file: TextIO | None) -> bool:
    """Whether to print in colour to a file: as NO_COLOR or FORCE_COLOR say, else if the file is a terminal."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (file is not None and file.isatty())


def now_and_then(seconds: float, show: Callable[[str], object], state: Callable[[], str]) -> Callable[[], None]:
    """Return a function that shows the state when it is called, but at most once in so many seconds.

    Args:
        seconds: the least time from now to the first time, and between two times.
    """
    last = time.monotonic()

    def show_state() -> None:
        nonlocal last
        if time.monotonic() - last >= seconds:
            last = time.monotonic()
            show(state())

    return show_state


def show_line(state: str) -> None:
    """Print a line on stderr."""
    click.echo(f"emu: {state}", err=True)


@contextmanager
def show_progress(run: "Run") -> Iterator[None]:
    """Show how many executions have ended: a bar on a terminal, elsewhere a line now and then."""
    if run.executions == 1:
        yield
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("executions", total=run.executions)
            run.on_progress = lambda: progress.update(task, completed=run.done)
            yield
    else:
        run.on_progress = now_and_then(
            SECONDS_BETWEEN_LINES, show_line, lambda: f"{run.done} of {run.executions} executions"
        )
        yield


@contextmanager
def show_exploration(exploration: "ScenarioExploration") -> Iterator[None]:
    """Show how many executions have ended, of about how many: a line that changes, or a line now and then."""
    from emu.reports.counts import count
    from emu.reports.exploration import roughly

    def state() -> str:
        share = exploration.coverage.share
        whole = f" of about {roughly(exploration.done / share)}" if share else ""
        return f"{exploration.done}{whole} executions, {count(len(exploration.causes), 'finding')}"

    with show_state("exploring", state) as exploration.on_progress:
        yield


def show_check(check: "Check") -> AbstractContextManager[Callable[[], None]]:
    """Return a context with a function that shows how many cells are done."""
    return show_state("checking", lambda: f"{len(check.compared)} of {len(check.cells)} cells")


@contextmanager
def show_state(title: str, state: Callable[[], str]) -> Iterator[Callable[[], None]]:
    """Yield a function that shows a state: on a terminal a line that changes, elsewhere a line now and then."""
    if sys.stderr.isatty():
        from rich.console import Console

        with Console(stderr=True).status(title) as status:
            yield now_and_then(SECONDS_BETWEEN_UPDATES, status.update, state)
    else:
        yield now_and_then(SECONDS_BETWEEN_LINES, show_line, state)
