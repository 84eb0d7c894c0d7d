"""Shortening a run: what it reports becomes the shortest execution that shows the same cause."""

import attrs

from emu.checks.findings import Finding
from emu.checks.signatures import Signature
from emu.engine import Schedule
from emu.running.critical import shortened
from emu.running.run import Ended, Run
from emu.running.shrink import Budget, Shortened, Shrinker
from emu.running.verdict import Verdict
from emu.running.witness import is_used


def deciding(run: Run, about: str = "") -> tuple[Signature, Finding] | None:
    """Return the finding that decides the verdict of the reported execution, else the first; None without findings.

    Args:
        about: the signature, as a text, of the finding to return instead, if the execution shows it.
    """
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
    return next((one for one in signed if str(one[0]) == about), next(iter(signed), None))


def shorten(run: Run, seconds: float, about: str = "") -> bool:
    """Let a run report the shortest execution that shows what it has found, on Trio tasks; return whether it does.

    Nothing changes without findings, where the schedule does not repeat the finding or has a witness, and where the
    shortest execution leads to another verdict.

    Args:
        seconds: how long shrinking may take.
        about: the signature, as a text, of the finding to shrink; empty for the one that decides the verdict.
    """
    with run.forgotten.watched():
        found = shortest(run, seconds, about)
    if found is None:
        return False
    run.reported, run.shortened = found
    return True


def shortest(run: Run, seconds: float, about: str) -> tuple[Ended, Shortened] | None:
    """Return the shortest execution that shows what a run has found, and what is known of it; None if there is none."""
    chosen = deciding(run, about)
    if chosen is None or run.reported is None or run.failure or run.limit or run.witness:
        return None
    wanted, finding = chosen
    found = Schedule.of(run.reported.machine.trace)
    shrinker = Shrinker(run.bound, wanted, is_used(finding), budget=Budget(seconds, lambda: run.is_stopping))
    shrunk = shrinker.shrink(found)
    if shrunk is not None and shrunk.preemptions and not shrinker.budget.spent():
        shrunk = shrinker.search(shrunk)
    again = None if shrunk is None else repeated(run, run.reported, shrunk.schedule)
    if shrunk is None or again is None or again.verdict is not run.reported.verdict:
        return None
    return again, shortened(shrinker, shrunk)


def repeated(run: Run, found: Ended, schedule: Schedule) -> Ended | None:
    """Return the execution of a schedule, with the seed with which a run has found another."""
    shown = Run(run.bound, run.strategy, found.seed, 1, replay=schedule)
    shown.on("trio")
    return (
        None if shown.failure is not None or shown.reported is None else attrs.evolve(shown.reported, seed=found.seed)
    )
