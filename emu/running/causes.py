"""Causes: the findings of an exploration, by signature."""

from collections.abc import Iterable

import attrs

from emu.checks.findings import Finding
from emu.checks.signatures import Signature, signature
from emu.engine import Schedule, Trace
from emu.running.run import Run
from emu.running.save import SavedSchedule
from emu.running.shrink import Shortened
from emu.running.witness import is_used

CANDIDATES_MAX = 8
"""With how many schedules of a cause a witness is tried."""

KEPT_MAX = 2_000
"""How many further schedules of a cause are kept, to find the one with the fewest preemptions."""


@attrs.define
class Cause:
    """All findings with one signature.

    Attributes:
        first: the number of the first execution that showed it, from 1.
        executions: how many executions showed it.
        candidates: schedules of some of these executions, by number; a single one once a device used the translation.
        further: schedules of the other executions; once a device used the translation, of those in which one did.
        has_all: no schedule was left out for want of room.
        is_observed: a device has used the stale translation.
        shown: the number of the execution that is shown.
        run: the repetition of that execution.
        saved: the schedule of `run`.
        shortened: what is known of candidates, by number, where they were made shorter.
    """

    signature: Signature
    first: int
    executions: int = 0
    candidates: dict[int, Schedule] = attrs.field(factory=dict)
    further: list[Schedule] = attrs.field(factory=list)
    has_all: bool = True
    is_observed: bool = False
    shown: int = 0
    run: Run | None = None
    saved: SavedSchedule | None = None
    shortened: dict[int, Shortened] = attrs.field(factory=dict)

    def add(self, number: int, finding: Finding, trace: Trace) -> None:
        """Count an execution that shows the cause."""
        self.executions += 1
        if is_used(finding) and not self.is_observed:
            self.is_observed = True
            self.candidates = {number: Schedule.of(trace)}
            self.further.clear()
        elif not self.is_observed and len(self.candidates) < CANDIDATES_MAX:
            self.candidates[number] = Schedule.of(trace)
        elif is_used(finding) or not self.is_observed:
            self.has_all = self.has_all and len(self.further) < KEPT_MAX
            if self.has_all:
                self.further.append(Schedule.of(trace))

    def set_shown(self, number: int, run: Run, saved: SavedSchedule | None) -> None:
        """Set the execution that is shown."""
        self.shown, self.run, self.saved = number, run, saved

    def shorten(self, number: int, schedule: Schedule, known: Shortened) -> None:
        """Let a shorter schedule stand for a candidate."""
        self.candidates[number], self.shortened[number] = schedule, known

    @property
    def finding(self) -> Finding | None:
        """The finding in the execution that is shown."""
        return None if self.run is None else self.run.finding_with(self.signature)


def enter(causes: dict[Signature, Cause], number: int, findings: Iterable[Finding], trace: Trace) -> None:
    """Count an execution once for each cause that it shows."""
    shown: dict[Signature, Finding] = {}
    for finding in findings:
        one = signature(finding, trace)
        if one not in shown or (is_used(finding) and not is_used(shown[one])):
            shown[one] = finding
    for one, finding in shown.items():
        causes.setdefault(one, Cause(one, number)).add(number, finding, trace)
