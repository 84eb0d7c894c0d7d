"""Confirming the findings of an exploration: each is repeated on both hosts, with a witness where that is possible."""

from collections.abc import Callable, Collection

import attrs

from emu.engine import Schedule, Space
from emu.engine.strategies import KEEPS_STATE
from emu.errors import InternalError, ModelError
from emu.running.add_witness import run_with_witness
from emu.running.causes import Cause
from emu.running.critical import shortened
from emu.running.repetition import EventShown, events
from emu.running.replay import Replay
from emu.running.run import Run
from emu.running.save import SavedSchedule, schedule_of_run
from emu.running.shrink import Budget, Shortened, Shrinker
from emu.running.witness import is_usable
from emu.scenarios.scenario import BoundScenario


@attrs.frozen
class Confirmation:
    """Repeats the findings of an exploration.

    Attributes:
        named: the scenario as the user named it.
        strategy: the strategy of the exploration.
        shrink: how many seconds shrinking may take for each cause; None to show executions as they were found.
        unordered: the locks whose sections were taken in any order.
        is_exhausted: every trace was executed.
        is_stopping: returns whether the user wants it to end.
    """

    bound: BoundScenario
    named: str
    strategy: str
    shrink: float | None = None
    unordered: Collection[Space] = ()
    is_exhausted: bool = False
    is_stopping: Callable[[], bool] = lambda: False

    def confirm(self, cause: Cause) -> None:
        """Repeat an execution that showed a cause, preferably one after which a device can use the translation.

        Raises:
            ModelError: if the finding does not come again.
            InternalError: if the execution differs between the hosts.
        """
        shrinker = self.shrink_first(cause)
        for number, schedule in list(cause.candidates.items()):
            if shrinker is not None and cause.run is not None and (shrunk := shrinker.relinearized(schedule)):
                cause.shorten(number, shrunk.schedule, shortened(shrinker, shrunk))
            run = self.repeat_on_both(cause, number)
            saved = schedule_of_run(run, self.named, cause.signature)
            if cause.run is None:
                cause.set_shown(number, run, saved)
            if saved is None or not is_usable(run.finding_with(cause.signature)):
                return
            replay = Replay.with_code(saved, self.named, self.bound)
            witnessed = run_with_witness(replay, run, cause.signature)
            if witnessed is not None:
                cause.set_shown(number, witnessed[1], witnessed[0].saved)
                return

    def shrink_first(self, cause: Cause) -> Shrinker | None:
        """Let the first candidate of a cause be the shortest schedule that shows it; return what shrank it."""
        if self.shrink is None:
            return None
        budget = Budget(self.shrink, self.is_stopping)
        shrinker = Shrinker(self.bound, cause.signature, cause.is_observed, self.unordered, budget)
        first = next(iter(cause.candidates))
        shrunk = shrinker.shrink(cause.candidates[first])
        if shrunk is None:
            return None
        if self.is_exhausted and cause.has_all:
            shrunk = shrinker.minimize(shrunk, [*cause.candidates.values(), *cause.further])
        cause.shorten(first, shrunk.schedule, shortened(shrinker, shrunk))
        return shrinker

    def repeat_first(self, cause: Cause) -> None:
        """Repeat the first execution that showed a cause, only in a plain loop.

        Raises:
            ModelError: if the execution fails this time.
        """
        number = next(iter(cause.candidates))
        cause.set_shown(number, self.repeat(cause, number, "direct"), None)

    def repeat_on_both(self, cause: Cause, number: int) -> Run:
        """Run an execution that showed a cause again, on both hosts; return the run on Trio tasks.

        Raises:
            ModelError: if the finding does not come again.
            InternalError: if the execution differs between the hosts.
        """
        run, repeated = (self.repeat(cause, number, host) for host in ("trio", "direct"))
        if happened(run) != happened(repeated):
            again = [self.repeat(cause, number, host) for host in ("trio", "direct")]
            if [happened(run), happened(repeated)] != [happened(one) for one in again]:
                raise does_not_come_again(number)
            raise InternalError(f"execution {number} differs between Trio tasks and a plain loop")
        if run.finding_with(cause.signature) is None:
            raise does_not_come_again(number)
        return run

    def repeat(self, cause: Cause, number: int, host: str) -> Run:
        """Run an execution that showed a cause again.

        Raises:
            ModelError: if the execution fails this time.
        """
        run = self.run(cause.candidates[number], number, host, cause.shortened.get(number))
        if run.failure is not None or run.reported is None:
            raise does_not_come_again(number)
        return run

    def failing_schedule(self, schedule: Schedule, number: int) -> SavedSchedule | None:
        """Return the schedule that leads to the scenario's mistake; None if the schedule does not repeat it."""
        if not schedule.agents:
            return None
        run = self.run(schedule, number, "direct")
        return None if run.failure is None else schedule_of_run(run, self.named)

    def run(self, schedule: Schedule, number: int, host: str, known: Shortened | None = None) -> Run:
        """Run a schedule again, of which so much is known."""
        run = Run(self.bound, self.strategy, number, 1, replay=schedule, shortened=known)
        run.on(host)
        return run


def happened(run: Run) -> list[EventShown]:
    """Return the events of a run's execution."""
    return [] if run.reported is None else list(events(run.reported.machine.trace))


def does_not_come_again(number: int) -> ModelError:
    """Return the error for a finding that its own schedule does not repeat."""
    return ModelError(
        f"the finding of execution {number} does not come again when its schedule is repeated: {KEEPS_STATE}; if "
        "nothing is kept, please report it with this command"
    )
