"""A replay that is stepped through is the same replay, forwards and back."""

import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from emu.checks.details import Evidence
from emu.checks.findings import Stale
from emu.reports.run import RunReport
from emu.running.replay import Replay
from emu.running.run import Run
from emu.running.save import schedule_of_run
from emu.running.stepping import Stepping
from emu.scenarios.library import find
from tests.running.saved import saved

Step = Callable[[Replay], Stepping]

MISTAKE = """
from emu import CLEAN, scenario

@scenario(expect=CLEAN)
def mine(m):
    '''Raise an error.'''
    @m.cpu(0)
    async def raises(cpu):
        await cpu.load64(0)
        raise ValueError
    @m.cpu(1)
    async def reads(cpu):
        await cpu.load64(0)
"""


@pytest.fixture
def step_through() -> Iterator[Step]:
    """Return a function that steps through a replay; the execution is ended with the test."""
    with ExitStack() as opened:
        yield lambda replay: opened.enter_context(closing(Stepping(replay, replay.run("direct"))))


def replay_of(name: str, **parameters: str) -> Replay:
    return Replay.with_code(saved(name, **parameters), name, find(name).bind(parameters))


def log_of(run: Run) -> bytes:
    file = io.BytesIO()
    RunReport(run, "a scenario").write_log(file)
    return file.getvalue()


def state(stepping: Stepping) -> list[object]:
    """Return what can be compared: events, what the agents have announced, findings."""
    events = [(event.step, event.name, str(event.fields)) for event in stepping.execution.trace.events()]
    pending = [(agent.name, type(agent.pending)) for agent in stepping.agents]
    return [stepping.step, events, pending, [stepping.mark(one) for one in stepping.findings]]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("remap_before_flush", {"dma": "8"}),
        ("entry_replaced_in_halves", {"iommu": "amd"}),
        ("flag_left_set", {}),
    ],
)
def test_a_replay_that_is_stepped_to_its_end_leaves_the_same_log_and_findings(
    name: str, parameters: dict[str, str], step_through: Step
) -> None:
    stepping = step_through(replay_of(name, **parameters))
    while not stepping.has_ended:
        stepping.advance(1)
    assert stepping.findings
    assert log_of(stepping.run) == log_of(stepping.whole)


def test_the_state_after_a_step_is_the_same_on_the_way_back(step_through: Step) -> None:
    stepping = step_through(replay_of("flag_left_set"))
    forwards = [state(stepping)]
    while stepping.upcoming is not None:
        stepping.advance(1)
        forwards.append(state(stepping))
    stepping.advance()
    for step in (stepping.steps, 13, 7, 0):
        stepping.go_to(step)
        assert (stepping.has_ended, state(stepping)) == (False, forwards[step])


def test_a_replay_stops_where_it_is_told_to(step_through: Step) -> None:
    stepping = step_through(replay_of("remap_before_flush"))
    stepping.go_to(30, lambda: stepping.step == 12)
    assert stepping.step == 12
    stepping.advance(None, lambda: stepping.step == 20)
    assert stepping.step == 20


def test_a_finding_is_new_after_its_step_and_again_once_it_is_observed(step_through: Step) -> None:
    stepping = step_through(replay_of("remap_before_flush", dma="8"))
    news = {}
    while not stepping.has_ended:
        stepping.advance(1)
        if stepping.new:
            news[stepping.step] = stepping.new
    (first, (possible,)), (second, (observed,)) = news.items()
    assert isinstance(possible, Stale)
    assert isinstance(observed, Stale)
    assert (possible.evidence, possible.step) == (Evidence.POSSIBLE, first)
    assert (observed.evidence, observed.use and observed.use.step) == (Evidence.OBSERVED, second)
    assert stepping.in_whole(possible)[0] == stepping.findings[0]


def test_the_event_that_an_agent_brings_next_is_the_one_it_then_brings(step_through: Step) -> None:
    stepping = step_through(replay_of("remap_before_flush"))
    while stepping.upcoming is not None:
        agent = stepping.upcoming
        event = stepping.next_event(agent)
        stepping.advance(1)
        latest = next(stepping.execution.trace.events_from(stepping.step))
        assert event is not None
        assert (event.step, event.name, event.fields) == (latest.step, latest.name, latest.fields)
    assert [stepping.next_event(agent) for agent in stepping.agents] == [None] * len(stepping.agents)


def test_a_mistake_of_the_scenario_ends_the_execution_and_one_can_go_back(tmp_path: Path, step_through: Step) -> None:
    path = tmp_path / "mine.py"
    path.write_text(MISTAKE)
    bound = find(str(path)).bind({})
    run = Run(bound, "random", 0, 1)
    run.on("direct")
    schedule = schedule_of_run(run, str(path))
    assert schedule is not None
    stepping = step_through(Replay.with_code(schedule, str(path), bound))
    stepping.advance()
    assert "ValueError" in str(stepping.run.failure)
    assert (stepping.has_ended, str(stepping.run.failure)) == (True, str(stepping.whole.failure))
    stepping.go_to(stepping.step - 1)
    assert (stepping.has_ended, stepping.run.failure) == (False, None)
