"""The report of `emu bench`: a line for each program and each kind of step, within 80 columns; and JSON data."""

from typing import Any

import attrs

from emu.bench.details import DetailMeasure
from emu.bench.programs import ProgramMeasure
from emu.bench.steps import StepMeasure

HEAD = f"{'program':<28}{'known':>6}{'executed':>9}{'traces':>7}{'blocked':>8}{'exec/s':>8}{'steps/s':>8}{'ratio':>6}"

STEPS_HEAD = f"{'step':<28}{'against':<24}{'ns':>6}{'bare':>8}{'aim':>8}{'ratio':>6}"

DETAILS_HEAD = f"{'detail added to R1':<46}{'traces':>10}{'steps a trace':>16}"

NOTE = (
    "known: the number of traces, counted by others; executed: executions of the search; traces: how many of these "
    "are distinct; blocked: executions given up on the way; ratio: the time of the search to that of a plain loop "
    "which sends the same coroutines through the same schedules."
)


def line(measure: ProgramMeasure) -> str:
    """Return the line of a program."""
    counts, seconds = measure.counts, measure.seconds
    return (
        f"{measure.program.name:<28}{measure.program.traces:>6}{counts.executions:>9}{counts.traces:>7}"
        f"{counts.blocked:>8}{short(counts.executions / seconds):>8}{short(counts.steps / seconds):>8}"
        f"{measure.ratio:>6.1f}"
    )


def steps_line(measure: StepMeasure) -> str:
    """Return the line of a kind of step."""
    took, bare = (seconds / measure.steps * 1e9 for seconds in (measure.seconds, measure.bare_seconds))
    aim = f"<= {measure.ratio_aim:.1f}"
    return f"{measure.name:<28}{measure.bare:<24}{took:>6.0f}{bare:>8.0f}{aim:>8}{measure.ratio:>6.1f}"


def details_line(measure: DetailMeasure) -> str:
    """Return the line of a detail."""
    traces = f"{'' if measure.is_exhausted else '> '}{measure.traces}"
    return f"{measure.name:<46}{traces:>10}{measure.steps / measure.traces:>16.1f}"


def short(number: float) -> str:
    """Return a number in a few characters."""
    return f"{number / 1_000:.1f} k" if number >= 1_000 else f"{number:.0f}"


def data(measure: ProgramMeasure) -> dict[str, Any]:
    """Return the data of a program."""
    program, counts = measure.program, measure.counts
    return {
        "program": program.name,
        "known": {"traces": program.traces, "deadlocks": program.deadlocks, "executions_max": program.executions_max},
        "executions": counts.executions,
        "traces": counts.traces,
        "blocked": counts.blocked,
        "deadlocks": counts.deadlocks,
        "steps": counts.steps,
        "seconds": measure.seconds,
        "plain_seconds": measure.plain_seconds,
        "ratio": measure.ratio,
        "mistakes": measure.mistakes(),
    }


def details_data(measure: DetailMeasure) -> dict[str, Any]:
    """Return the data of a detail."""
    return attrs.asdict(measure)


def steps_data(measure: StepMeasure) -> dict[str, Any]:
    """Return the data of a kind of step."""
    return {
        "step": measure.name,
        "against": measure.bare,
        "steps": measure.steps,
        "seconds": measure.seconds,
        "bare_seconds": measure.bare_seconds,
        "ratio": measure.ratio,
        "ratio_aim": measure.ratio_aim,
    }
