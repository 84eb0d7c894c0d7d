"""Shortening a run: what it reports becomes the shortest execution that shows the same cause."""

import attrs

from emu.checks.findings import Finding
from emu.checks.signatures import Signature
from emu.engine import Schedule
from emu.running.critical import shortened
from emu.running.run import Ended, Run
from emu.running.shrink import Budget, Shrinker
from emu.running.verdict import Verdict
from emu.running.witness import is_used


def deciding(run: Run) -> tuple[Signature, Finding] | None:
    """Return the finding that decides the verdict of the reported execution, else the first; None without findings."""
    if run.reported is None:
        return None
    expected, signed = run.bound.expectation, list(run.reported.signed())
    match run.reported.verdict:
        case Verdict.CONTRADICTED | Verdict.FOUND:
            signed.sort(key=lambda one: expected.allows(one[1].kind))
        case Verdict.SHOWN:
            signed.sort(key=lambda one: not expected.is_shown_by(one[1]))
        case _:
            pass
    return next(iter(signed), None)


def shorten(run: Run, seconds: float) -> None:
    """Let a run report the shortest execution that shows what it has found, on Trio tasks.

    Nothing changes without findings, where the schedule does not repeat the finding or has a witness, and where the
    shortest execution leads to another verdict.

    Args:
        seconds: how long shrinking may take.
    """
    about = deciding(run)
    if about is None or run.reported is None or run.failure or run.limit or run.witness:
        return
    wanted, finding = about
    found = Schedule.of(run.reported.machine.trace)
    shrinker = Shrinker(run.bound, wanted, is_used(finding), budget=Budget(seconds, lambda: run.is_stopping))
    shrunk = shrinker.shrink(found)
    if shrunk is not None and shrunk.preemptions and not shrinker.budget.spent():
        shrunk = shrinker.search(shrunk)
    shortest = None if shrunk is None else repeated(run, run.reported, shrunk.schedule)
    if shrunk is None or shortest is None or shortest.verdict is not run.reported.verdict:
        return
    run.reported, run.shortened = shortest, shortened(shrinker, shrunk)


def repeated(run: Run, found: Ended, schedule: Schedule) -> Ended | None:
    """Return the execution of a schedule, with the seed with which a run has found another."""
    shown = Run(run.bound, run.strategy, found.seed, 1, replay=schedule)
    shown.on("trio")
    return (
        None if shown.failure is not None or shown.reported is None else attrs.evolve(shown.reported, seed=found.seed)
    )
