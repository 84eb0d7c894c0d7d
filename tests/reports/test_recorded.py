"""One execution as its log tells it."""

from typing import Any

import pytest

from emu.errors import ScenarioError
from emu.reports.log import Record
from emu.reports.recorded import EVENTS_MAX, Event, Recorded, one_execution, text_of
from tests.reports.race import race, recorded


def test_a_finding_is_about_its_step_and_those_that_its_sentence_names() -> None:
    found = recorded(race())
    (finding,) = found.findings
    assert found.steps_of(finding) == [12, 35, 40, 41, 45]


@pytest.mark.parametrize(
    ("message", "steps"),
    [("at steps 7 and 18", [7, 18]), ("10 steps past", []), ("at step 999", []), (f"step {'9' * 5000}", [])],
)
def test_only_steps_of_the_execution_are_named(message: str, steps: list[int]) -> None:
    found = recorded(race())
    assert found.steps_of({"event": "finding", "message": message}) == steps


def test_a_step_depends_directly_on_steps_of_other_agents_before_it() -> None:
    events = recorded(race()).events
    agents = {event.step: event.agent for event in events}
    (acquire,) = [event for event in events if event.name == "lock.acquire" and event.step == 16]
    assert acquire.after == (13,), "cpu1 gets the lock that cpu0 has released"
    assert all(one < event.step and agents[one] != event.agent for event in events for one in event.after)


def log_of(*numbers: tuple[int, bool]) -> list[Record]:
    records = []
    for number, has_finding in numbers:
        own = {"level": "info", "execution": number}
        records += [{"event": "execution.begin", **own}, {"event": "pte.write", **own, "step": 1, "cpu": 0}]
        records += [{"event": "finding", **own}] if has_finding else []
    return records


def test_the_first_execution_with_a_finding_is_chosen_else_the_first() -> None:
    log = log_of((3, False), (4, True), (5, True))
    assert {record["execution"] for record in one_execution(log, None, "x")} == {4}
    assert {record["execution"] for record in one_execution(log, 5, "x")} == {5}
    assert {record["execution"] for record in one_execution(log_of((3, False), (4, False)), None, "x")} == {3}


def test_an_execution_that_a_log_lacks_is_refused_with_those_that_it_has() -> None:
    with pytest.raises(ScenarioError, match="'x' has no execution 7; it has 3, 4"):
        one_execution(log_of((3, False), (4, True)), 7, "x")


@pytest.mark.parametrize("step", [-1, 1.5, True, None, "7", 10**9, []])
def test_an_event_at_no_step_is_refused(step: Any) -> None:
    with pytest.raises(ScenarioError, match="which is no number from 0 to 1000000"):
        recorded([{"event": "pte.write", "level": "info", "cpu": 0, "step": step}])


def test_a_log_without_events_of_steps_is_refused() -> None:
    with pytest.raises(ScenarioError, match="there is nothing to show"):
        recorded([{"event": "execution.begin", "level": "info"}])


def test_an_execution_of_too_many_events_is_refused() -> None:
    record = {"event": "pte.write", "level": "info", "cpu": 0, "step": 1}
    with pytest.raises(ScenarioError, match="more than 100000 events"):
        Recorded.of([record] * (EVENTS_MAX + 1), "x")
    with pytest.raises(ScenarioError, match="more than 200000 records"):
        one_execution([record] * (2 * EVENTS_MAX + 2), None, "x")


def test_what_a_step_depends_on_is_taken_only_where_it_is_a_step() -> None:
    record = {"event": "pte.write", "step": 9, "cpu": 0, "after": [3, "x", -1, True, 3, 2]}
    assert Event.of(record, "x").after == (2, 3)
    assert Event.of({**record, "after": {"a": 1}}, "x").after == ()


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("dfn", 4096, "0x1000"),
        ("slot", 4096, "4096"),
        ("full", True, "true"),
        ("mfn", None, "null"),
        ("value", (1 << 64) - 1, "0xffffffffffffffff"),
        ("parameters", ["a=1"], '["a=1"]'),
        ("text", "\x1b[31m\u202e", "\\x1b[31m\\u202e"),
        ("text", "a" * 3000, "a" * 2000 + "..."),
    ],
)
def test_a_value_is_a_text_that_can_be_shown(key: str, value: Any, text: str) -> None:
    assert text_of(value, key) == text
