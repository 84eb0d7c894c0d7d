"""One execution: agents, the strategy that chooses among them, and the trace that they leave.

A host (hosts/) decides only on which stack the agents run. Everything that can be seen of an execution is decided here,
so the same schedule leaves the same trace on every host.
"""

from bisect import insort
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any

import attrs

from emu.engine.accesses import Access
from emu.engine.agents import Agent, NotAnOperation
from emu.engine.claims import Broken, Claims, When
from emu.engine.failures import agent_raised, is_cancellation, refuse_not_an_operation
from emu.engine.operations import Choose, Operation, Wait
from emu.engine.schedules import describe_announced
from emu.engine.sections import Sections
from emu.engine.sources import claim_of, is_asserted_by_model, is_interrupt, raised_at, suspended_at
from emu.engine.strategies import Strategy
from emu.engine.trace import Trace
from emu.errors import EmuError, InternalError, LimitReached, ScenarioError


@attrs.frozen
class Limits:
    """The most that an execution may use."""

    steps: int = 200_000
    cleanup_steps: int = 10_000


@attrs.frozen
class Waiter:
    """An agent that waits: for which latch, since which step, and the agent that could set the latch."""

    agent: str
    waits_for: str
    since: int
    holder: str | None
    held_since: int | None


@attrs.frozen
class Deadlock:
    """No agent can go on and at least one has not finished."""

    step: int
    waiters: tuple[Waiter, ...]


class ExecutionEnded(BaseException):
    """Thrown into agents that are still suspended when their execution ends, so that they clean up."""


def is_emus(error: BaseException) -> bool:
    """Whether an error is emu's own: not one by which an agent's own code has made a mistake."""
    return isinstance(error, ExecutionEnded) or (isinstance(error, EmuError) and not isinstance(error, ScenarioError))


class ReadRecorder:
    """Keeps the reads that checks make during one step; in checking mode each read must have been declared."""

    def __init__(self) -> None:
        self.is_on = False
        self.reads: list[tuple[tuple[str, ...], int]] = []

    def read(self, space: tuple[str, ...], number: int) -> None:
        """Note that state behind this object was read."""
        if self.is_on:
            self.reads.append((space, number))


@attrs.define(eq=False)
class Execution:
    """One run of a set of agents under one strategy.

    Attributes:
        enabled: the agents that can go on, in order of creation.
        blocked: the agents that wait for a latch that is not set.
        sections: which sections are taken in one step; None if none is.
        recorder: keeps the reads of checked state; checking mode compares them with the declared accesses.
        deadlock: the deadlock in which the execution ended, if it did.
        claims: the claims about the execution; None if there are none.
        broken: the claims and assertions that did not hold, in the order in which they were found.
    """

    agents: Sequence[Agent]
    strategy: Strategy
    trace: Trace
    limits: Limits = attrs.field(factory=Limits)
    recorder: ReadRecorder = attrs.field(factory=ReadRecorder)
    is_checking: bool = False
    deadlock: Deadlock | None = None
    has_ended: bool = False
    enabled: list[Agent] = attrs.field(factory=list)
    blocked: list[Agent] = attrs.field(factory=list)
    sections: Sections | None = None
    claims: Claims | None = None
    broken: list[Broken] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        for number, agent in enumerate(self.agents):
            agent.number = number

    def start(self, agent: Agent, *, may_await_trio: bool = False) -> None:
        """Bring an agent to its first operation. A host starts every agent, in order; none touches shared state yet.

        Raises:
            ModelError: if the agent's body cannot be called, raises, or awaits something that the host does not serve.
        """
        if self.claims is not None:
            self.broken += self.claims.begin()
        try:
            agent.coroutine = agent.body()
        except BaseException as error:
            if is_interrupt(error):
                raise
            raise agent_raised(agent, error) from error
        self.resume(agent, None)
        if agent.awaited_instead is not None and not may_await_trio:
            refuse_not_an_operation(agent)

    def pick(self) -> Agent | None:
        """Return the agent that goes next; None when the execution is over: at its end, cut short, or in a deadlock."""
        if self.sections is not None and self.trace.agent is not None:
            if self.sections.open is not None and not self.trace.agent.is_enabled:
                self.sections.leave()
            if self.sections.has_left:
                return None
            if self.sections.open is not None:
                return self.trace.agent
        if self.enabled:
            if self.trace.step >= self.limits.steps:
                self.check_limits()
            return self.strategy.pick(self.enabled)
        if any(not (agent.is_done or agent.is_daemon) for agent in self.agents):
            self.deadlock = self.find_deadlock()
        if self.claims is not None:
            self.broken += self.claims.conclude(self.trace)
        return None

    def check_limits(self) -> None:
        """Stop an execution that has become too long.

        Raises:
            LimitReached: if it has taken as many steps as it may.
        """
        if self.trace.step >= self.limits.steps:
            raise LimitReached(
                f"an execution took {self.limits.steps} steps without ending (limit 'steps'); "
                "either an agent loops for ever, or raise the limit (-p steps=N)"
            )

    def step(self, agent: Agent, *, may_await_trio: bool = False) -> None:
        """Perform the agent's pending operation and bring it to its next one, or to its end.

        Args:
            may_await_trio: the host serves anything that the agent awaits next instead of an operation.

        Raises:
            InternalError: if the agent has announced no operation.
            ModelError: if the operation refuses its arguments, or the agent then fails as in `start`.
        """
        operation = agent.pending
        if operation is None:
            raise InternalError(f"{agent.name} was chosen without an operation to perform")
        trace = self.trace
        is_watched = self.is_checking or trace.sources or self.sections is not None or self.claims is not None
        declared = self.look_at(agent, operation) if is_watched else ()
        step = trace.begin(agent, operation)
        if isinstance(operation, Choose):
            operation.chosen = self.strategy.choose(operation)
        try:
            result = self.perform_checked(operation, step, declared) if self.is_checking else operation.perform(step)
        except ScenarioError as error:
            raise agent_raised(agent, error, suspended_at(agent.coroutine) if agent.coroutine else None) from error
        self.resume(agent, result)
        if self.claims is not None:
            self.broken += self.claims.ask(When.ALWAYS, agent.name, step, declared)
        if self.blocked:
            self.wake()
        if agent.awaited_instead is not None and not may_await_trio:
            refuse_not_an_operation(agent)

    def look_at(self, agent: Agent, operation: Operation[Any]) -> Sequence[Access]:
        """Look at an operation before it is performed; return its declared accesses, if anything needs them."""
        if self.sections is not None:
            self.sections.watch(operation)
        if not (self.is_checking or self.trace.sources or self.claims is not None):
            return ()
        declared = tuple(operation.accesses())
        if self.trace.sources:
            extended = declared if self.claims is None else self.claims.extend(declared)
            self.trace.keep_source(agent, describe_announced(operation, declared), extended)
        return declared

    def take_short(self, sections: Sections) -> None:
        """Take sections in one step, from the start of the execution."""
        self.sections = sections
        sections.begin(self.claims)

    def perform_checked(self, operation: Operation[Any], step: int, declared: Sequence[Access]) -> Any:
        """Perform an operation, and compare its reads of checked state with its declared accesses.

        Raises:
            UndeclaredReadError: if it reads an object that it did not declare.
        """
        self.recorder.is_on = True
        try:
            return operation.perform(step)
        finally:
            self.recorder.is_on = False
            reads, self.recorder.reads = self.recorder.reads, []
            single = {(access.space, access.first) for access in declared if access.first == access.last}
            wide = [access for access in declared if access.first != access.last]
            for space, number in reads:
                if (space, number) not in single and not any(access.covers(space, number) for access in wide):
                    raise UndeclaredReadError(operation.describe()[0], space, number, declared)

    def resume(self, agent: Agent, value: Any) -> None:
        """Send a value into the agent's coroutine, and keep the operation that it announces next.

        Raises:
            InternalError: if the agent has not been started.
        """
        if agent.coroutine is None:
            raise InternalError(f"{agent.name} was resumed before its start")
        self.trace.agent = None if self.has_ended else agent
        try:
            awaited = agent.coroutine.send(value)
        except StopIteration:
            self.finish(agent)
            return
        except BaseException as error:  # noqa: BLE001 - `fail` keeps or raises each kind
            self.fail(agent, error)
            return
        if isinstance(awaited, Operation) and awaited.waits_for is None:
            agent.pending = awaited
            agent.announced_at = self.trace.step
            if not agent.is_enabled:
                agent.awaited_instead = None
                self.enable(agent)
        else:
            self.announce(agent, awaited)

    def throw(self, agent: Agent, thrown: BaseException) -> None:
        """Throw into the agent's coroutine, and keep the operation that it announces next.

        Raises:
            InternalError: if the agent has not been started.
        """
        if agent.coroutine is None:
            raise InternalError(f"{agent.name} was resumed before its start")
        self.trace.agent = None if self.has_ended else agent
        try:
            awaited = agent.coroutine.throw(thrown)
        except StopIteration:
            self.finish(agent)
        except BaseException as error:  # noqa: BLE001 - `fail` keeps or raises each kind
            self.fail(agent, error)
        else:
            self.announce(agent, awaited)

    def announce(self, agent: Agent, awaited: object) -> None:
        """Keep what an agent awaits, and whether it can go on."""
        agent.announced_at = self.trace.step
        agent.pending, agent.awaited_instead = (
            (awaited, None) if isinstance(awaited, Operation) else (None, NotAnOperation(awaited))
        )
        self.place(agent)

    def finish(self, agent: Agent) -> None:
        """Note that an agent has ended."""
        agent.pending = agent.awaited_instead = None
        agent.is_done = True
        self.remove(agent)

    def fail(self, agent: Agent, error: BaseException) -> None:
        """Note that an error has ended an agent. A failed assertion of its own code is kept; any other error is raised.

        Raises:
            ModelError: if the error is one of the agent's own code.
            BaseException: any other error, unchanged.
        """
        self.finish(agent)
        if isinstance(error, AssertionError) and not self.has_ended and is_asserted_by_model(error):
            claim, source = claim_of(error), raised_at(error)
            self.broken.append(Broken(claim, When.ASSERTED, agent.name, self.trace.step, source))
            return
        if is_emus(error) or is_cancellation(error) or is_interrupt(error):
            raise error
        raise agent_raised(agent, error) from error

    def place(self, agent: Agent) -> None:
        """List an agent as enabled or as blocked, or take it off both lists."""
        if agent.can_step():
            if not agent.is_enabled:
                self.enable(agent)
            return
        self.remove(agent)
        if agent.pending is not None:
            self.blocked.append(agent)

    def enable(self, agent: Agent) -> None:
        """List an agent as enabled, in order of creation."""
        self.remove(agent)
        agent.is_enabled = True
        if self.enabled and self.enabled[-1].number > agent.number:
            insort(self.enabled, agent, key=attrgetter("number"))
        else:
            self.enabled.append(agent)

    def remove(self, agent: Agent) -> None:
        """Take an agent off the list of enabled or of blocked agents."""
        if agent.is_enabled:
            agent.is_enabled = False
            self.enabled.remove(agent)
        elif agent in self.blocked:
            self.blocked.remove(agent)

    def wake(self) -> None:
        """Enable the blocked agents whose latch has been set."""
        for agent in tuple(self.blocked):
            if agent.can_step():
                self.place(agent)

    def announced_by(self, agent: Agent) -> Iterable[Access]:
        """Return the accesses that an agent may make in its next step, be it one operation or a whole section.

        A search asks before each step that it takes for the first time, and always takes the step then.
        """
        if agent.pending is None:
            return ()
        announced = agent.pending.accesses() if self.sections is None else self.sections.announced(agent.pending)
        return announced if self.claims is None else self.claims.extend(announced)

    def touched_by(self, operation: Operation[Any]) -> Iterable[Access] | None:
        """Return the accesses of the last step, which began with this operation; None if it made all it announced."""
        touched = operation.touched() if self.sections is None else self.sections.touched_by(operation)
        return touched if touched is None or self.claims is None else self.claims.extend(touched)

    @property
    def has_ended_by_assertion(self) -> bool:
        """Whether a failed assertion has ended an agent: agents that wait for it may wait for ever."""
        return any(one.when is When.ASSERTED for one in self.broken)

    def find_deadlock(self) -> Deadlock:
        """Return the deadlock: each agent that waits, and the agent that could end its wait."""
        waiters = []
        for agent in self.agents:
            if isinstance(agent.pending, Wait) and not agent.is_daemon:
                holder = agent.pending.waits_for.holder() or (None, None)
                waiters.append(Waiter(agent.name, agent.pending.waits_for.name, agent.announced_at, *holder))
        return Deadlock(self.trace.step, tuple(waiters))

    def end(self) -> None:
        """End every agent that is still suspended: its cleanup runs at once and leaves no trace."""
        self.has_ended = True
        self.trace.agent = None
        for agent in self.agents:
            if not agent.is_done:
                self.end_agent(agent)

    def end_agent(self, agent: Agent) -> None:
        """Throw `ExecutionEnded` into an agent, and perform its cleanup's operations as long as they are enabled."""
        for _ in range(self.limits.cleanup_steps):
            if agent.coroutine is None:
                return
            try:
                if agent.is_cleaning and agent.pending is not None and agent.can_step():
                    self.resume(agent, agent.pending.perform(self.trace.step))
                else:
                    agent.is_cleaning = True
                    self.throw(agent, ExecutionEnded())
            except BaseException as error:  # the execution is over; only its first failure counts
                if is_interrupt(error):
                    raise
                return


class UndeclaredReadError(InternalError):
    """A check read state that it had not declared, so an exploration would not have ordered that read."""

    def __init__(self, operation: str, space: tuple[str, ...], number: int, declared: Sequence[Access]) -> None:
        spaces = sorted({"/".join(access.space) for access in declared})
        super().__init__(
            f"{operation} read {'/'.join(space)} object {number:#x} without declaring it "
            f"(declared: {', '.join(spaces) or 'nothing'})"
        )
