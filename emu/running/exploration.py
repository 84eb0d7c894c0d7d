"""Exploring a scenario: every trace of it, or as many as a limit allows; what is found is confirmed on Trio tasks."""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence

import attrs

from emu.checks.findings import Evidence, Finding, FindingKind, OldPath
from emu.checks.signatures import Signature, signature
from emu.engine import Agent, Execution, Exploration, Schedule, Strategy, Trace
from emu.engine.dependence import Footprints, NormalForm, Step, normal_form
from emu.engine.forgotten import Forgotten
from emu.engine.hosts import direct
from emu.engine.hosts import trio as controlled
from emu.engine.operations import Choose
from emu.engine.search import Search
from emu.engine.sections import Sections
from emu.engine.strategies import KEEPS_STATE
from emu.engine.strategies.depth_first import DepthFirst
from emu.engine.strategies.optimal import Optimal
from emu.engine.strategies.random import RandomStrategy
from emu.engine.strategies.replay import ReplayStrategy, ScheduleDoesNotFitError
from emu.engine.watchdog import watchdog
from emu.errors import InternalError, LimitReached, ModelError, ScenarioError
from emu.machine.machine import Machine
from emu.running.replay import Replay
from emu.running.run import Run, Verdict, check_concurrency
from emu.running.save import SavedSchedule, save
from emu.scenarios.scenario import BoundScenario

CANDIDATES_MAX = 8
"""With how many of the executions that show a cause a witness is tried."""

SEARCHES: dict[str, Callable[[], Search]] = {"optimal": Optimal, "depth-first": DepthFirst}


@attrs.define
class Cause:
    """All findings with one signature.

    Attributes:
        executions: how many showed it.
        first: the number of the first of them, from 1.
        candidates: schedules of some of them by number; first of all one in which a device used what is stale.
        shown: the number of the one that is shown; `run` is that one once more, on Trio tasks.
        saved: repeats that.
    """

    signature: Signature
    first: int
    executions: int = 0
    candidates: dict[int, Schedule] = attrs.field(factory=dict)
    is_observed: bool = False
    shown: int = 0
    run: Run | None = None
    saved: SavedSchedule | None = None

    def add(self, number: int, finding: Finding, trace: Trace) -> None:
        """Count an execution that shows it."""
        self.executions += 1
        if isinstance(finding, OldPath) and finding.use is not None and not self.is_observed:
            self.is_observed = True
            self.candidates = {number: Schedule.of(trace)}
        elif not self.is_observed and len(self.candidates) < CANDIDATES_MAX:
            self.candidates[number] = Schedule.of(trace)

    @property
    def finding(self) -> Finding | None:
        """What was found there."""
        return None if self.run is None else find(self.run, self.signature)


@attrs.define
class ScenarioExploration:
    """The executions of one scenario, and what they show.

    Attributes:
        strategy: "optimal", "depth-first" or "random".
        named: the scenario as the user named it.
        executions: how many at most.
        seconds: how long at most; the present execution is seen to its end.
        seed: of the first execution, where the strategy is random; each later one takes the next.
        sections: take sections that declare what they touch in one step.
        done, steps, blocked: how many executions have ended, their steps, and how many were given up.
        traces: how many distinct traces were executed, where that is not the number of executions.
        is_exhausted: there is no other trace.
        short_locks: the locks of which sections were taken in one step.
        share: an estimate of which share of the whole is done; 0 if there is none.
        limit: what ended it before that; `has_reached_limit` if it was one of an execution.
        failure: a scenario's own mistake that ended it; `failed` leads there.
        causes: what was found, in the order in which it was.
        on_progress: called whenever an execution has ended.
        started: how many executions have begun; `machine` is that of the last.
        forgotten: what was called and never awaited.
    """

    bound: BoundScenario
    named: str
    strategy: str = "optimal"
    executions: int | None = None
    seconds: float | None = None
    seed: int = 0
    sections: bool = True
    done: int = 0
    steps: int = 0
    blocked: int = 0
    traces: int | None = None
    is_exhausted: bool = False
    share: float = 0.0
    short_locks: list[str] = attrs.field(factory=list)
    limit: str | None = None
    has_reached_limit: bool = False
    failure: ModelError | None = None
    failed: Schedule | None = None
    causes: dict[Signature, Cause] = attrs.field(factory=dict)
    is_stopping: bool = False
    on_progress: Callable[[], None] = attrs.field(default=lambda: None)
    started: int = 0
    machine: Machine | None = None
    forgotten: Forgotten = attrs.field(factory=Forgotten)

    def on(self, host: str) -> None:
        """Explore on a host, "trio" or "direct", then confirm on Trio tasks what was found.

        Raises:
            ScenarioError: if the scenario cannot be set up.
        """
        run_each = direct.run_each if host == "direct" else controlled.run_each
        try:
            with watchdog(self.progress), self.forgotten.watched():
                run_each(self.each())
        except LimitReached as limit:
            self.limit = str(limit)
            self.has_reached_limit = True
        except ModelError as failure:
            self.failure = failure
            if self.machine is not None:
                self.failed = Schedule.of(self.machine.trace)
        for cause in self.causes.values() if self.failure is None else ():
            self.confirm(cause)

    def progress(self) -> tuple[int, int]:
        """Return what changes with every step."""
        return self.started, -1 if self.machine is None else self.machine.trace.step

    def program(self, strategy: Strategy) -> Execution:
        """Return a fresh execution of the scenario."""
        self.started += 1
        self.machine = self.bound.build(is_checking=True)
        return self.machine.execution(strategy)

    def each(self) -> Iterator[Execution]:
        """Yield executions to be run, and look at each once it has ended."""
        started = time.monotonic()
        yield from self.repeated()
        for execution in self.drawn() if self.strategy == "random" else self.searched():
            if self.is_stopping:
                self.limit = "Ctrl-C"
            elif self.executions is not None and self.done >= self.executions:
                self.limit = f"--executions {self.executions}"
            elif self.seconds is not None and self.done and time.monotonic() - started > self.seconds:
                self.limit = f"--time {self.seconds:g}"
            if self.limit is not None:
                return
            yield execution
            self.forgotten.refuse(execution)

    def repeated(self) -> Iterator[Execution]:
        """Yield one execution twice: a search relies on seeing again what it has seen.

        Raises:
            ModelError: naming the agent that does something else the second time.
        """
        first = self.program(RandomStrategy.seeded(self.seed))
        yield first
        self.forgotten.refuse(first)
        check_concurrency(self.bound.scenario, first, self.findings(first))
        second = self.program(RepeatStrategy(Schedule.of(first.trace)))
        yield second
        for then, now in itertools.zip_longest(events(first.trace), events(second.trace)):
            if then != now:
                agent, step = (then or now or ("", 0))[:2]
                raise ModelError(
                    f"{agent}, at step {step}, did {tell(then)}, and when the same schedule was repeated {tell(now)}: "
                    f"{KEEPS_STATE}"
                )

    def searched(self) -> Iterator[Execution]:
        """Yield the executions that a search asks for."""
        sections = Sections() if self.sections and self.strategy == "optimal" else None
        exploration = Exploration(self.program, SEARCHES[self.strategy], sections)
        for execution in exploration.each():
            yield execution
            if sections is not None and sections.has_left:
                self.forget()
            elif exploration.search.is_blocked:
                self.blocked += 1
            else:
                self.share = exploration.search.share
                self.look_at(execution)
            if sections is not None:
                self.short_locks = sorted("/".join(lock[1:]) for lock in sections.short - sections.long)
        self.is_exhausted = True
        self.share = 1.0

    def drawn(self) -> Iterator[Execution]:
        """Yield executions under random schedules."""
        forms: set[NormalForm] = set()
        footprints = Footprints()
        for seed in itertools.count(self.seed):
            strategy = WatchedStrategy.seeded(seed)
            strategy.watch(footprints)
            execution = self.program(strategy)
            yield execution
            forms.add(normal_form(len(execution.agents), strategy.steps))
            self.traces = len(forms)
            self.look_at(execution)

    def forget(self) -> None:
        """Begin anew: a section was not as declared."""
        self.done = self.steps = self.blocked = 0
        self.causes.clear()

    def findings(self, execution: Execution) -> list[Finding]:
        """Return what the present machine has found in its execution."""
        return [] if self.machine is None else self.machine.conclude(execution)

    def look_at(self, execution: Execution) -> None:
        """Count an execution that has ended, and enter what it has shown under its causes."""
        self.done += 1
        self.steps += execution.trace.step
        shown: dict[Signature, Finding] = {}
        for finding in self.findings(execution):
            shown.setdefault(signature(finding, execution.trace), finding)
        for one, finding in shown.items():
            self.causes.setdefault(one, Cause(one, self.done)).add(self.done, finding, execution.trace)
        self.on_progress()

    def confirm(self, cause: Cause) -> None:
        """Repeat an execution that showed a cause on both hosts; rather one after which a device can use what is stale.

        Raises:
            ModelError: if it does not come again.
            InternalError: if it does, and on Trio in another way.
        """
        for number in cause.candidates:
            run, repeated = (self.repeat(cause, number, host) for host in ("trio", "direct"))
            if happened(run) != happened(repeated):
                if happened(repeated) != happened(self.repeat(cause, number, "direct")):
                    raise does_not_come_again(number)
                raise InternalError(f"execution {number} is another one on Trio tasks than in a plain loop")
            if find(run, cause.signature) is None:
                raise does_not_come_again(number)
            saved = save(run, self.named, cause.signature)
            if cause.run is None:
                cause.shown, cause.run, cause.saved = number, run, saved
            finding = find(run, cause.signature)
            if saved is None or not isinstance(finding, OldPath) or finding.use is not None:
                return
            if self.add_witness(cause, run, saved):
                cause.shown = number
                return

    def save_failed(self) -> SavedSchedule | None:
        """Return the schedule that leads to the scenario's mistake, where it can be repeated."""
        if not self.failed or not self.failed.agents:
            return None
        run = Run(self.bound, self.strategy, self.done + 1, 1, replay=self.failed)
        run.on("direct")
        return None if run.failure is None else save(run, self.named)

    def repeat(self, cause: Cause, number: int, host: str) -> Run:
        """Run an execution that showed a cause again."""
        run = Run(self.bound, self.strategy, number, 1, replay=cause.candidates[number])
        run.on(host)
        if run.failure is not None or run.matters is None:
            raise does_not_come_again(number)
        return run

    def add_witness(self, cause: Cause, run: Run, saved: SavedSchedule) -> bool:
        """Have a device use what is stale right after the finding; return whether it does."""
        replay = Replay(saved, self.named, self.bound.values["revision"], self.bound)
        try:
            witnessed = replay.with_witness(run, cause.signature)
        except ScenarioError:
            return False
        shown = witnessed.run("trio")
        finding = find(shown, cause.signature)
        if not isinstance(finding, OldPath) or finding.evidence is not Evidence.OBSERVED:
            return False
        cause.run, cause.saved = shown, witnessed.saved
        return True

    @property
    def verdict(self) -> Verdict:
        """What the exploration tells of what the scenario declares."""
        expected = self.bound.expectation
        if any(not expected.allows(cause.signature.kind) for cause in self.causes.values()):
            return Verdict.CONTRADICTED
        if any(cause.finding is not None and expected.is_shown_by(cause.finding) for cause in self.causes.values()):
            return Verdict.SHOWN
        if not self.is_exhausted:
            return Verdict.UNDECIDED
        return Verdict.CONTRADICTED if expected.kind else Verdict.PROVED

    @property
    def has_emulator_bug(self) -> bool:
        """Whether the emulator's check of itself has failed."""
        return any(cause.signature.kind is FindingKind.ILLEGAL for cause in self.causes.values())


class RepeatStrategy(ReplayStrategy):
    """Follows a schedule as far as it fits, and whoever can go on then."""

    def pick(self, enabled: Sequence[Agent]) -> Agent | None:
        try:
            return super().pick(enabled) or enabled[0]
        except ScheduleDoesNotFitError:
            return None

    def choose(self, choice: Choose) -> int:
        try:
            return super().choose(choice)
        except ScheduleDoesNotFitError:
            return 0


class WatchedStrategy(RandomStrategy):
    """Notes what each step touches when it is taken: afterwards that might be something else."""

    def watch(self, footprints: Footprints) -> None:
        """Begin to take notes."""
        self.footprints = footprints
        self.steps: list[Step] = []

    def pick(self, enabled: Sequence[Agent]) -> Agent:
        agent = super().pick(enabled)
        if agent.pending is not None:
            self.steps.append((agent.number, 0, self.footprints.of(agent.pending.accesses())))
        return agent

    def choose(self, choice: Choose) -> int:
        chosen = super().choose(choice)
        number, _, footprint = self.steps[-1]
        self.steps[-1] = (number, chosen, footprint)
        return chosen


def does_not_come_again(number: int) -> ModelError:
    """Return the error for a finding that its own schedule does not repeat."""
    return ModelError(
        f"the finding of execution {number} does not come again when its schedule is repeated: {KEEPS_STATE}; if "
        "nothing is kept, please report it with this command"
    )


EventShown = tuple[str, int, str, dict[str, object]]


def events(trace: Trace) -> Iterator[EventShown]:
    """Yield what happened, without the objects of one execution."""
    for event in trace.events():
        yield event.agent.name, event.step, event.name, dict(event.fields)


def happened(run: Run) -> list[EventShown]:
    """Return what happened in the execution to show."""
    return [] if run.matters is None else list(events(run.matters.machine.trace))


def tell(event: EventShown | None) -> str:
    """Name an event."""
    return (
        "nothing more"
        if event is None
        else " ".join([event[2], *(f"{key}={value}" for key, value in event[3].items())])
    )


def find(run: Run, wanted: Signature) -> Finding | None:
    """Return the first finding of an execution that has a signature."""
    if run.matters is None:
        return None
    trace = run.matters.machine.trace
    return next((one for one in run.matters.findings if signature(one, trace) == wanted), None)
