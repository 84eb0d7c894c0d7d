"""What an execution promises on the direct and on the Trio host alike."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import attrs
import pytest
import trio

from emu.engine import Access, Agent, Choose, Deadlock, Execution, Kind, Latch, Limits, Operation, Trace, Wait, Waiter
from emu.engine.execution import ReadRecorder, UndeclaredReadError
from emu.engine.hosts import direct
from emu.engine.hosts import trio as trio_host
from emu.engine.strategies.round_robin import RoundRobinStrategy
from emu.errors import LimitReached, ModelError, ScenarioError

Body = Callable[[], Coroutine[Any, Any, None]]
Run = Callable[[Execution], None]


def run_on_trio(execution: Execution) -> None:
    trio.run(trio_host.run, execution)


@pytest.fixture(params=[direct.run, run_on_trio], ids=["direct", "trio"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run an execution; every test is made on each host."""
    host: Run = request.param
    return host


def execution_of(*bodies: Body, daemon: Body | None = None, limits: Limits | None = None) -> Execution:
    """Return the execution of agents a, b, ... and perhaps of a daemon, which take turns."""
    agents = [Agent(name, body, {}) for name, body in zip("abcdef", bodies, strict=False)]
    if daemon is not None:
        agents.append(Agent("daemon", daemon, {}, is_daemon=True))
    return Execution(agents, RoundRobinStrategy(), Trace(), limits or Limits())


def step() -> Choose:
    """Return an operation that does nothing."""
    return Choose("nothing", 1)


def latch(name: str, holder: Callable[[], tuple[str, int] | None] = lambda: None) -> Latch:
    return Latch(name, Access.to(("latch",), 0, Kind.WRITE), holder)


def steps(count: int) -> Body:
    """Return the body of an agent that takes so many steps."""

    async def body() -> None:
        for _ in range(count):
            await step()

    return body


def waiting(awaited: Latch, *, after: int = 0) -> Body:
    """Return the body of an agent that takes some steps and then waits."""

    async def body() -> None:
        await steps(after)()
        await Wait(awaited)

    return body


@attrs.define
class Append(Operation[None]):
    """Append to a list."""

    target: list[str]
    text: str

    event = "append"

    def perform(self, step: int) -> None:
        self.target.append(self.text)


@attrs.define
class Number(Operation[int]):
    """Return the number of the step."""

    event = "number"

    def perform(self, step: int) -> int:
        return step


@attrs.define
class Check(Operation[str]):
    """Read objects 4 and 6 of a checked space, having declared what it is given."""

    recorder: ReadRecorder
    declared: tuple[Access, ...]

    event = "check.read"

    def accesses(self) -> Iterable[Access]:
        return self.declared

    def perform(self, step: int) -> str:
        self.recorder.read(("ledger", "vtd0"), 4)
        self.recorder.read(("ledger", "vtd0"), 6)
        return "read"


def check_with(run: Run, *declared: Access, is_checking: bool) -> list[str]:
    """Run a check that reads objects 4 and 6, and return what it returned."""
    returned: list[str] = []
    recorder = ReadRecorder()

    async def body() -> None:
        returned.append(await Check(recorder, declared))

    execution = execution_of(body)
    execution.recorder = recorder
    execution.is_checking = is_checking
    run(execution)
    return returned


def test_steps_are_numbered_from_one(run: Run) -> None:
    numbers: list[int] = []

    async def body() -> None:
        numbers.extend([await Number(), await Number(), await Number()])

    run(execution_of(body))
    assert numbers == [1, 2, 3]


def test_all_agents_share_one_count_of_steps(run: Run) -> None:
    execution = execution_of(steps(2), steps(2))
    run(execution)
    assert [(event.step, event.agent.name) for event in execution.trace.events()] == [
        (1, "a"),
        (2, "b"),
        (3, "a"),
        (4, "b"),
    ]


def test_code_before_the_first_operation_takes_no_step(run: Run) -> None:
    order: list[str] = []

    def starting(name: str) -> Body:
        async def body() -> None:
            order.append(f"{name} starts")
            await Append(order, f"{name} steps")

        return body

    run(execution_of(starting("a"), starting("b")))
    assert order == ["a starts", "b starts", "a steps", "b steps"]


def test_nobody_is_picked_once_every_agent_has_finished(run: Run) -> None:
    execution = execution_of(steps(1), steps(2))
    run(execution)
    assert execution.pick() is None
    assert execution.deadlock is None
    assert all(agent.is_done for agent in execution.agents)


def test_an_agent_without_any_operation_ends_at_once(run: Run) -> None:
    execution = execution_of(steps(0), steps(1), steps(0))
    run(execution)
    assert execution.trace.step == 1
    assert execution.deadlock is None


def test_a_daemon_may_wait_at_the_end(run: Run) -> None:
    execution = execution_of(steps(1), daemon=waiting(latch("never")))
    run(execution)
    assert execution.deadlock is None
    assert execution.trace.step == 1


def test_a_daemon_that_can_go_on_does_go_on(run: Run) -> None:
    execution = execution_of(steps(1), daemon=steps(20))
    run(execution)
    assert execution.trace.step == 21


def test_a_deadlock_names_each_waiter_its_latch_the_holder_and_since_when(run: Run) -> None:
    key = latch("the key", lambda: ("b", 1))
    door = latch("the door")
    execution = execution_of(waiting(key, after=2), waiting(door))
    run(execution)
    assert execution.deadlock == Deadlock(
        step=2,
        waiters=(
            Waiter("a", "the key", since=2, holder="b", held_since=1),
            Waiter("b", "the door", since=0, holder=None, held_since=None),
        ),
    )


def test_a_deadlock_does_not_name_daemons(run: Run) -> None:
    execution = execution_of(waiting(latch("the key")), daemon=waiting(latch("work")))
    run(execution)
    assert execution.deadlock is not None
    assert [waiter.agent for waiter in execution.deadlock.waiters] == ["a"]


def test_a_latch_that_another_agent_sets_ends_a_wait(run: Run) -> None:
    bell = latch("the bell")

    async def ring() -> None:
        await step()
        bell.set(1)

    execution = execution_of(waiting(bell), ring)
    run(execution)
    assert execution.deadlock is None
    assert [event.name for event in execution.trace.events()] == ["choice", "wait"]


def test_too_many_steps_reach_the_limit_named_steps(run: Run) -> None:
    execution = execution_of(steps(1_000), limits=Limits(steps=70))
    with pytest.raises(LimitReached, match=r"took 70 steps .*\(limit 'steps'\)"):
        run(execution)
    assert execution.trace.step == 70


def test_an_execution_may_take_exactly_as_many_steps_as_the_limit(run: Run) -> None:
    execution = execution_of(steps(70), limits=Limits(steps=70))
    run(execution)
    assert execution.trace.step == 70


def test_an_execution_that_reached_a_limit_has_ended(run: Run) -> None:
    execution = execution_of(steps(10), limits=Limits(steps=5))
    with pytest.raises(LimitReached):
        run(execution)
    assert execution.has_ended
    assert all(agent.is_done for agent in execution.agents)


def test_an_exception_of_an_agent_names_the_agent_the_exception_and_the_line(run: Run) -> None:
    def fail() -> None:
        raise KeyError("no such page")

    async def body() -> None:
        await step()
        fail()

    line = fail.__code__.co_firstlineno + 1
    with pytest.raises(
        ModelError, match=rf"a, at tests/engine/test_execution\.py:{line}, raised KeyError: 'no such page'"
    ) as caught:
        run(execution_of(body, steps(5)))
    assert isinstance(caught.value.__cause__, KeyError)


def test_an_exception_before_the_first_operation_is_told_the_same_way(run: Run) -> None:
    async def body() -> None:
        _ = [].pop()
        await step()

    line = body.__code__.co_firstlineno + 1
    with pytest.raises(ModelError, match=rf"b, at tests/engine/test_execution\.py:{line}, raised IndexError"):
        run(execution_of(steps(1), body))


def test_what_an_agent_asked_for_in_vain_is_told_with_the_agent_and_the_line(run: Run) -> None:
    async def body() -> None:
        await step()
        raise ScenarioError("mend it so")

    with pytest.raises(ModelError, match=r"^mend it so \(a, at tests/engine/test_execution\.py:\d+\)$"):
        run(execution_of(body))


def test_agents_that_are_still_suspended_when_another_fails_are_ended(run: Run) -> None:
    async def body() -> None:
        await step()
        raise ValueError("enough")

    execution = execution_of(body, steps(5), waiting(latch("never")))
    with pytest.raises(ModelError):
        run(execution)
    assert execution.has_ended
    assert all(agent.is_done for agent in execution.agents)


def test_awaiting_something_else_is_told_in_a_sentence(run: Run) -> None:
    async def body() -> None:
        await step()
        await trio.lowlevel.cancel_shielded_checkpoint()

    with pytest.raises(
        ModelError, match=r"^a, at .*, awaited something that is not an operation; .* leave Trio's primitives out"
    ):
        run(execution_of(body))


def test_awaiting_something_else_at_the_start_is_told_in_a_sentence(run: Run) -> None:
    with pytest.raises(ModelError, match=r"^a, at .*, awaited something that is not an operation"):
        run(execution_of(trio.lowlevel.cancel_shielded_checkpoint))


def test_awaiting_something_else_that_yields_nothing_is_told_in_a_sentence(run: Run) -> None:
    async def body() -> None:
        await step()
        await asyncio.sleep(0)

    with pytest.raises(ModelError, match=r"^a, at .*, awaited something that is not an operation"):
        run(execution_of(body))


def test_a_body_that_cannot_be_called_is_told_in_a_sentence(run: Run) -> None:
    def body() -> Coroutine[Any, Any, None]:
        raise TypeError("body() takes 0 positional arguments but 1 was given")

    with pytest.raises(ModelError, match=r"^a, at tests/engine/test_execution\.py:\d+, raised TypeError"):
        run(execution_of(body))


def test_what_a_cleanup_awaits_is_performed_at_the_end(run: Run) -> None:
    cleaned: list[str] = []

    async def body() -> None:
        try:
            await Wait(latch("never"))
        finally:
            await Append(cleaned, "once")
            await Append(cleaned, "twice")

    run(execution_of(steps(1), daemon=body))
    assert cleaned == ["once", "twice"]


def test_a_cleanup_leaves_no_trace(run: Run) -> None:
    async def body() -> None:
        try:
            await Wait(latch("never"))
        finally:
            await Append([], "cleaned")
            execution.trace.note("cleaned")

    execution = execution_of(steps(1), daemon=body)
    run(execution)
    assert [event.name for event in execution.trace.events()] == ["choice"]
    assert execution.trace.step == 1


def test_a_finally_that_is_reached_before_the_end_is_logged_like_all_else(run: Run) -> None:
    async def body() -> None:
        try:
            await step()
        finally:
            await Append([], "cleaned")

    execution = execution_of(body)
    run(execution)
    assert [event.name for event in execution.trace.events()] == ["choice", "append"]


def test_a_cleanup_that_has_to_wait_is_ended_too(run: Run) -> None:
    cleaned: list[str] = []

    async def body() -> None:
        try:
            await Wait(latch("never"))
        finally:
            try:
                await Wait(latch("not this either"))
            finally:
                await Append(cleaned, "after all")

    run(execution_of(steps(1), daemon=body))
    assert cleaned == ["after all"]


def test_an_endless_cleanup_is_bounded(run: Run) -> None:
    cleaned: list[str] = []

    async def body() -> None:
        try:
            await Wait(latch("never"))
        finally:
            while True:
                await Append(cleaned, "again")

    run(execution_of(steps(1), daemon=body, limits=Limits(cleanup_steps=30)))
    assert 20 <= len(cleaned) <= 30


def test_a_failing_cleanup_does_not_replace_the_first_failure(run: Run) -> None:
    async def failing() -> None:
        await step()
        raise ValueError("the first failure")

    async def body() -> None:
        try:
            await Wait(latch("never"))
        finally:
            raise RuntimeError("a later failure")

    with pytest.raises(ModelError, match="the first failure"):
        run(execution_of(failing, body))


def test_one_agent_s_failing_cleanup_does_not_keep_another_from_cleaning_up(run: Run) -> None:
    cleaned: list[str] = []

    async def failing() -> None:
        try:
            await Wait(latch("never"))
        finally:
            raise RuntimeError("in a cleanup")

    async def body() -> None:
        try:
            await Wait(latch("never"))
        finally:
            await Append(cleaned, "done")

    run(execution_of(failing, body))
    assert cleaned == ["done"]


def test_a_read_that_was_not_declared_is_refused_by_the_operation_s_name(run: Run) -> None:
    declared = Access(("ledger", "vtd0"), 0, 5, Kind.READ)
    with pytest.raises(UndeclaredReadError, match=r"check\.read read ledger/vtd0 object 0x6 without declaring it"):
        check_with(run, declared, is_checking=True)


def test_a_read_of_another_space_than_declared_is_refused(run: Run) -> None:
    with pytest.raises(UndeclaredReadError, match="declared: ledger/vtd1"):
        check_with(run, Access(("ledger", "vtd1"), 0, 9, Kind.READ), is_checking=True)


def test_reads_that_were_declared_pass(run: Run) -> None:
    assert check_with(run, Access(("ledger", "vtd0"), 4, 6, Kind.READ), is_checking=True) == ["read"]


def test_reads_may_be_declared_one_by_one(run: Run) -> None:
    declared = [Access.to(("ledger", "vtd0"), number, Kind.READ) for number in (4, 6)]
    assert check_with(run, *declared, is_checking=True) == ["read"]


def test_undeclared_reads_pass_where_checking_is_off(run: Run) -> None:
    assert check_with(run, is_checking=False) == ["read"]


def test_reads_outside_of_steps_need_no_declaration(run: Run) -> None:
    async def body() -> None:
        await step()
        execution.recorder.read(("ledger", "vtd0"), 4)
        await step()

    execution = execution_of(body)
    execution.is_checking = True
    run(execution)
    assert execution.trace.step == 2
