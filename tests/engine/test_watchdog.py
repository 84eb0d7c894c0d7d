"""The watchdog: it bites what makes no progress, and nothing else."""

import itertools
import signal
import threading
from collections.abc import Callable

import pytest

from emu.engine import Agent, Choose, Execution, Trace
from emu.engine import watchdog as module
from emu.engine.failures import NoOperationError
from emu.engine.strategies.round_robin import RoundRobinStrategy
from emu.engine.watchdog import watchdog
from emu.errors import ModelError


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.01)


def stand_still() -> object:
    return "here"


def burn(enough: Callable[[], bool]) -> None:
    """Use processor time as an agent that awaits nothing."""

    async def body() -> None:
        while not enough():
            pass
        await Choose("nothing", 1)

    execution = Execution([Agent("a", body, {})], RoundRobinStrategy(), Trace())
    execution.start(execution.agents[0])
    execution.end()


def test_an_agent_that_makes_no_progress_is_ended_and_named() -> None:
    with (
        pytest.raises(ModelError, match=r"^a, at .*, runs on and on without awaiting an operation"),
        watchdog(stand_still),
    ):
        burn(lambda: False)


def test_what_is_no_agent_may_take_as_long_as_it_likes() -> None:
    looks: list[None] = []

    def progress() -> object:
        looks.append(None)
        return "here"

    with watchdog(progress):
        while len(looks) < 4:
            pass


def test_an_agent_that_makes_progress_may_take_as_long_as_it_likes() -> None:
    steps = itertools.count()
    looks: list[int] = []

    def progress() -> object:
        looks.append(next(steps))
        return looks[-1]

    with watchdog(progress):
        burn(lambda: len(looks) > 5)


def test_progress_that_comes_to_an_end_counts_no_more() -> None:
    looks: list[None] = []

    def progress() -> object:
        looks.append(None)
        return min(len(looks), 3)

    with pytest.raises(ModelError), watchdog(progress):
        burn(lambda: False)
    assert len(looks) == 4


def test_no_agent_catches_it_by_accident() -> None:
    assert not issubclass(NoOperationError, Exception)


def test_afterwards_nothing_is_watched_and_the_handler_is_the_old_one() -> None:
    before = signal.getsignal(signal.SIGVTALRM)
    with watchdog(stand_still):
        assert signal.getsignal(signal.SIGVTALRM) is not before
    assert signal.getsignal(signal.SIGVTALRM) is before
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)


def test_so_it_is_where_what_was_watched_ends_badly() -> None:
    before = signal.getsignal(signal.SIGVTALRM)
    with pytest.raises(NoOperationError), watchdog(stand_still):
        raise NoOperationError
    assert signal.getsignal(signal.SIGVTALRM) is before
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)


def test_in_another_thread_it_watches_nothing_and_changes_nothing() -> None:
    timers = []

    def elsewhere() -> None:
        with watchdog(stand_still):
            timers.append(signal.getitimer(signal.ITIMER_VIRTUAL))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert timers == [(0.0, 0.0)]


def test_where_the_system_has_no_such_timer_it_watches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(signal, "setitimer")
    before = signal.getsignal(signal.SIGVTALRM)
    with watchdog(stand_still):
        assert signal.getsignal(signal.SIGVTALRM) is before
