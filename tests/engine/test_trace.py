"""Traces: what happened, and where in the source each agent stood."""

from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any

import attrs

from emu.engine import Agent, Choose, Execution, Operation, Trace
from emu.engine.hosts import direct
from emu.engine.strategies.round_robin import RoundRobinStrategy

Body = Callable[[], Coroutine[Any, Any, None]]


def run(trace: Trace, *bodies: Body) -> None:
    """Run agents a, b, ... which take turns."""
    agents = [Agent(name, body, {}) for name, body in zip("abcdef", bodies, strict=False)]
    direct.run(Execution(agents, RoundRobinStrategy(), trace))


def step() -> Choose:
    return Choose("nothing", 1)


@attrs.define
class Count(Operation[None]):
    """Keeps the step at which it was performed, and shows it."""

    performed: int = 0

    event = "count"

    def perform(self, step: int) -> None:
        self.performed = step

    def describe(self) -> tuple[str, dict[str, int]]:
        return self.event, {"performed": self.performed}


async def nested() -> None:
    await step()


async def outer() -> None:
    await nested()


class Context:
    """Takes a step on the way in, through another function, and one on the way out."""

    async def __aenter__(self) -> None:
        await nested()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await step()


async def in_context() -> None:
    async with Context():
        await step()


def suspended(body: Body) -> list[list[tuple[str, int]]]:
    """Return, for each step of a body, the functions of this file in which it was suspended, and their lines."""
    trace = Trace(sources=True)
    run(trace, body)
    here = nested.__code__.co_filename
    return [
        [(location.function, location.line) for location in trace.lines[number] if location.file == here]
        for number in range(1, trace.step + 1)
    ]


def line(function: Callable[..., object], offset: int) -> int:
    """Return a line of a function, counted from its `def`."""
    return function.__code__.co_firstlineno + offset


def test_an_operation_is_kept_with_its_step_and_its_agent() -> None:
    trace = Trace()
    run(trace, nested, nested)
    assert [(event.step, event.agent.name, event.name) for event in trace.events()] == [
        (1, "a", "choice"),
        (2, "b", "choice"),
    ]


def test_an_event_shows_what_its_operation_found_when_it_was_performed() -> None:
    trace = Trace()

    async def body() -> None:
        await step()
        await Count()

    run(trace, body)
    assert [event.fields for event in trace.events() if event.name == "count"] == [{"performed": 2}]


def test_a_note_carries_the_latest_step_and_the_agent_that_makes_it() -> None:
    trace = Trace()

    def noting(text: str) -> Body:
        async def body() -> None:
            await step()
            trace.note("remark", text=text)

        return body

    run(trace, noting("one"), noting("two"))
    assert [(note.step, note.agent.name, note.fields) for note in trace.events() if note.name == "remark"] == [
        (1, "a", {"text": "one"}),
        (2, "b", {"text": "two"}),
    ]


def test_notes_and_operations_are_kept_in_order() -> None:
    trace = Trace()

    async def body() -> None:
        await step()
        trace.note("one")
        trace.note("two")
        await step()

    run(trace, body)
    assert [event.name for event in trace.events()] == ["choice", "one", "two", "choice"]


def test_a_note_before_an_agent_s_first_step_is_its_own() -> None:
    trace = Trace()

    def noting(text: str) -> Body:
        async def body() -> None:
            trace.note(text)
            await step()

        return body

    run(trace, noting("one"), noting("two"))
    assert [(event.step, event.agent.name, event.name) for event in trace.events()][:2] == [
        (0, "a", "one"),
        (0, "b", "two"),
    ]


def test_notes_before_any_agent_runs_are_dropped() -> None:
    trace = Trace()
    trace.note("too early")
    run(trace, nested)
    assert [event.name for event in trace.events()] == ["choice"]


def test_notes_after_the_end_are_dropped() -> None:
    trace = Trace()
    run(trace, nested)
    trace.note("too late")
    assert [event.name for event in trace.events()] == ["choice"]


def test_sources_are_kept_outermost_first() -> None:
    assert suspended(outer) == [[("outer", line(outer, 1)), ("nested", line(nested, 1))]]


def test_sources_reach_through_the_entry_of_a_context() -> None:
    assert suspended(in_context)[0] == [
        ("in_context", line(in_context, 1)),
        ("__aenter__", line(Context.__aenter__, 1)),
        ("nested", line(nested, 1)),
    ]


def test_sources_in_a_context_are_those_of_its_body() -> None:
    assert suspended(in_context)[1] == [("in_context", line(in_context, 2))]


def test_sources_reach_through_the_exit_of_a_context() -> None:
    assert suspended(in_context)[2] == [
        ("in_context", line(in_context, 1)),
        ("__aexit__", line(Context.__aexit__, 3)),
    ]


def test_sources_follow_an_agent_from_step_to_step() -> None:
    async def body() -> None:
        await step()
        await step()
        await outer()

    assert suspended(body) == [
        [("body", line(body, 1))],
        [("body", line(body, 2))],
        [("body", line(body, 3)), ("outer", line(outer, 1)), ("nested", line(nested, 1))],
    ]


def test_sources_are_kept_of_the_agent_that_takes_the_step() -> None:
    trace = Trace(sources=True)
    run(trace, outer, nested)
    assert [trace.lines[number][0].function for number in (1, 2)] == ["outer", "nested"]


def test_no_sources_are_kept_unless_asked_for() -> None:
    trace = Trace()
    run(trace, outer)
    assert trace.lines == {}
