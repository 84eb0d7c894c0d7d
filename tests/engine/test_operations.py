"""What operations say of themselves: which orders matter, when they can go, what they return."""

from collections.abc import Sequence

import attrs
import pytest

from emu.engine import Access, Agent, Choose, Execution, Kind, Latch, Operation, Trace, Wait
from emu.engine.hosts import direct

SPACE = ("words",)


def touch(kind: Kind, first: int = 5, last: int = 5, space: tuple[str, ...] = SPACE) -> Access:
    return Access(space, first, last, kind)


def conflict(one: Access, other: Access) -> bool:
    """Whether two accesses conflict; both ways round must say the same."""
    assert one.conflicts(other) == other.conflicts(one)
    return one.conflicts(other)


def some_latch() -> Latch:
    return Latch("the bell", Access.to(("bells",), 3, Kind.WRITE))


@attrs.define
class AlwaysChoose:
    """Picks the first agent and chooses one number."""

    number: int
    asked: list[Choose] = attrs.field(factory=list)

    def pick(self, enabled: Sequence[Agent]) -> Agent:
        return enabled[0]

    def choose(self, choice: Choose) -> int:
        self.asked.append(choice)
        return self.number


def choose_once(number: int) -> tuple[list[int], Trace, AlwaysChoose]:
    """Have an agent choose one of 4 under a strategy that chooses `number`."""
    received: list[int] = []

    async def body() -> None:
        received.append(await Choose("the colour", 4))

    trace, strategy = Trace(), AlwaysChoose(number)
    direct.run(Execution([Agent("a", body, {})], strategy, trace))
    return received, trace, strategy


def test_two_reads_do_not_conflict() -> None:
    assert not conflict(touch(Kind.READ), touch(Kind.READ))


def test_two_changes_that_commute_do_not_conflict() -> None:
    assert not conflict(touch(Kind.COMMUTE), touch(Kind.COMMUTE))


def test_a_change_that_commutes_conflicts_with_a_read() -> None:
    assert conflict(touch(Kind.COMMUTE), touch(Kind.READ))


@pytest.mark.parametrize("other", Kind)
def test_a_write_conflicts_with_everything(other: Kind) -> None:
    assert conflict(touch(Kind.WRITE), touch(other))


@pytest.mark.parametrize(("first", "last"), [(0, 4), (11, 20)])
def test_disjoint_ranges_do_not_conflict(first: int, last: int) -> None:
    assert not conflict(touch(Kind.WRITE, 5, 10), touch(Kind.WRITE, first, last))


@pytest.mark.parametrize(("first", "last"), [(0, 5), (10, 20), (6, 7), (0, 20)])
def test_overlapping_ranges_conflict(first: int, last: int) -> None:
    assert conflict(touch(Kind.WRITE, 5, 10), touch(Kind.WRITE, first, last))


def test_the_same_numbers_of_different_spaces_do_not_conflict() -> None:
    assert not conflict(touch(Kind.WRITE), touch(Kind.WRITE, space=("words", "other")))


@pytest.mark.parametrize(("number", "is_covered"), [(4, False), (5, True), (7, True), (9, True), (10, False)])
def test_an_access_covers_the_numbers_of_its_range(number: int, is_covered: bool) -> None:
    assert touch(Kind.READ, 5, 9).covers(SPACE, number) is is_covered


def test_an_access_covers_nothing_of_another_space() -> None:
    assert not touch(Kind.READ, 5, 9).covers(("other",), 7)


def test_an_access_to_one_object_is_a_range_of_one() -> None:
    assert Access.to(SPACE, 7, Kind.READ) == Access(SPACE, 7, 7, Kind.READ)


def test_an_operation_is_enabled_and_touches_nothing_unless_it_says_so() -> None:
    operation = Operation[None]()
    assert operation.waits_for is None
    assert tuple(operation.accesses()) == ()


def test_a_choice_yields_what_the_strategy_chose() -> None:
    received, _, _ = choose_once(2)
    assert received == [2]


def test_the_strategy_is_shown_the_choice_that_it_makes() -> None:
    _, _, strategy = choose_once(2)
    assert [(choice.about, choice.count) for choice in strategy.asked] == [("the colour", 4)]


def test_the_trace_tells_what_was_chosen() -> None:
    _, trace, _ = choose_once(3)
    assert [(event.name, event.fields) for event in trace.events()] == [
        ("choice", {"about": "the colour", "chosen": 3, "of": 4})
    ]


def test_a_choice_touches_what_it_is_given() -> None:
    touches = (touch(Kind.READ), touch(Kind.WRITE, 8, 9))
    assert tuple(Choose("the colour", 4, touches).accesses()) == touches


def test_a_wait_is_disabled_until_its_latch_is_set() -> None:
    latch = some_latch()
    wait = Wait(latch)
    assert not wait.waits_for.is_set
    latch.set(3)
    assert wait.waits_for.is_set


def test_a_latch_that_is_set_twice_stays_set() -> None:
    latch = some_latch()
    latch.set(3)
    latch.set(3)
    assert latch.is_set


def test_a_wait_reads_what_setting_its_latch_writes() -> None:
    latch = some_latch()
    assert tuple(Wait(latch).accesses()) == (Access.to(("bells",), 3, Kind.READ),)
    assert latch.touch.kind is Kind.WRITE


def test_a_wait_tells_what_it_is_for() -> None:
    assert Wait(some_latch()).describe() == ("wait", {"for": "the bell"})
