"""What a terminal gets that a pipe does not: colour, and progress on stderr."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

import click

if TYPE_CHECKING:
    from emu.running.exploration import ScenarioExploration
    from emu.running.run import Run

SECONDS_BETWEEN_LINES = 10
SECONDS_BETWEEN_UPDATES = 0.1


def wants_colors(file: TextIO) -> bool:
    """Whether to print in colour: NO_COLOR and FORCE_COLOR decide, else whether it is a terminal."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or file.isatty()


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
        last = time.monotonic()

        def tell() -> None:
            nonlocal last
            if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
                last = time.monotonic()
                click.echo(f"emu: {run.done} of {run.executions} executions", err=True)

        run.on_progress = tell
        yield


@contextmanager
def show_exploration(exploration: "ScenarioExploration") -> Iterator[None]:
    """Show how many executions have ended, and of about how many: a line that changes, or one now and then."""
    from emu.reports.counts import count
    from emu.reports.exploration import roughly

    def state() -> str:
        share = exploration.coverage.share
        whole = f" of about {roughly(exploration.done / share)}" if share else ""
        return f"{exploration.done}{whole} executions, {count(len(exploration.causes), 'finding')}"

    last = time.monotonic()
    if sys.stderr.isatty():
        from rich.console import Console

        with Console(stderr=True).status("exploring") as status:

            def update() -> None:
                nonlocal last
                if time.monotonic() - last >= SECONDS_BETWEEN_UPDATES:
                    last = time.monotonic()
                    status.update(state())

            exploration.on_progress = update
            yield
    else:

        def tell() -> None:
            nonlocal last
            if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
                last = time.monotonic()
                click.echo(f"emu: {state()}", err=True)

        exploration.on_progress = tell
        yield
