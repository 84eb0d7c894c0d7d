"""Sections by themselves: what one may touch, and what makes its lock long."""

from collections.abc import Iterable

import attrs
import pytest

from emu.engine import Access, Choose, Kind, Operation, Space
from emu.engine.accesses import Section
from emu.engine.sections import Sections

LOCK: Space = ("lock", "one")
OTHER_LOCK: Space = ("lock", "other")
TABLE: Space = ("table",)


def table(first: int, last: int, kind: Kind) -> Access:
    return Access(TABLE, first, last, kind)


@attrs.define
class Step(Operation[None]):
    """Touch what it is told to, and perhaps open or close a section."""

    touches: tuple[Access, ...] = ()
    opens: Section | None = None
    closes: Space | None = None

    def accesses(self) -> Iterable[Access]:
        return self.touches


def section(*accesses: Access, lock: Space = LOCK) -> Section:
    return Section(lock, accesses)


def take(lock: Space) -> Access:
    return Access.to(lock, 0, Kind.WRITE)


def opening(one: Section) -> Step:
    return Step((take(one.lock),), opens=one)


def closing(lock: Space = LOCK) -> Step:
    return Step((Access.to(lock, 2, Kind.WRITE),), closes=lock)


def watched(*operations: Operation[None] | Choose, sections: Sections | None = None) -> Sections:
    """Return sections that have seen these operations of one execution, as far as it goes."""
    sections = sections or Sections()
    sections.begin()
    for operation in operations:
        sections.watch(operation)
        if sections.has_left:
            break
    return sections


@pytest.mark.parametrize(
    ("declared", "access", "is_permitted"),
    [
        (table(2, 5, Kind.WRITE), table(2, 5, Kind.WRITE), True),
        (table(2, 5, Kind.WRITE), table(3, 4, Kind.READ), True),
        (table(2, 5, Kind.WRITE), table(3, 3, Kind.COMMUTE), True),
        (table(2, 5, Kind.WRITE), table(1, 5, Kind.WRITE), False),
        (table(2, 5, Kind.WRITE), table(5, 6, Kind.READ), False),
        (table(2, 5, Kind.READ), table(2, 2, Kind.READ), True),
        (table(2, 5, Kind.READ), table(2, 2, Kind.WRITE), False),
        (table(2, 5, Kind.READ), table(2, 2, Kind.COMMUTE), False),
        (table(2, 5, Kind.COMMUTE), table(2, 2, Kind.COMMUTE), True),
        (table(2, 5, Kind.COMMUTE), table(2, 2, Kind.READ), False),
        (table(2, 5, Kind.COMMUTE), table(2, 2, Kind.WRITE), False),
        (table(2, 5, Kind.WRITE), Access.to(("another table",), 3, Kind.READ), False),
        (table(2, 5, Kind.READ), Access.to(LOCK, 7, Kind.WRITE), True),
        (table(2, 5, Kind.READ), Access.to(OTHER_LOCK, 0, Kind.READ), False),
    ],
)
def test_a_section_permits_what_it_declares_and_its_lock(declared: Access, access: Access, is_permitted: bool) -> None:
    assert section(declared).permits(access) is is_permitted


def test_two_declarations_do_not_add_up_to_a_range_across_both() -> None:
    one = section(table(0, 3, Kind.WRITE), table(4, 7, Kind.WRITE))
    assert one.permits(table(4, 5, Kind.WRITE))
    assert not one.permits(table(3, 4, Kind.WRITE))


def test_a_section_that_declares_nothing_permits_its_lock_only() -> None:
    assert Section(LOCK, None).permits(take(LOCK))
    assert not Section(LOCK, None).permits(table(0, 0, Kind.READ))


def test_a_short_section_is_announced_as_what_it_declares_and_commutes_on_its_lock() -> None:
    one = section(table(2, 5, Kind.READ))
    announced = tuple(Sections().accesses(opening(one)))
    assert announced == (Access.to(LOCK, 0, Kind.COMMUTE), table(2, 5, Kind.READ))


def test_a_long_or_undeclared_section_is_announced_as_its_first_operation() -> None:
    one = section(table(2, 5, Kind.READ))
    assert tuple(Sections(long={LOCK}).accesses(opening(one))) == (take(LOCK),)
    assert tuple(Sections().accesses(opening(Section(LOCK, None)))) == (take(LOCK),)


def test_what_opens_no_section_is_announced_as_it_is() -> None:
    assert tuple(Sections().accesses(Step((table(1, 1, Kind.READ),)))) == (table(1, 1, Kind.READ),)


def test_a_section_is_open_from_its_lock_to_its_release() -> None:
    one = section(table(0, 1, Kind.WRITE))
    store = Step((table(1, 1, Kind.WRITE),))
    assert watched(opening(one), store).open is one
    sections = watched(opening(one), store, closing())
    assert (sections.open, sections.short, sections.long, sections.has_left) == (None, {LOCK}, set(), False)


def test_outside_of_a_section_anything_may_be_touched() -> None:
    sections = watched(Step((table(9, 9, Kind.WRITE),)), Choose("a number", 2), closing())
    assert (sections.open, sections.short, sections.long, sections.has_left) == (None, set(), set(), False)


@pytest.mark.parametrize(
    "inside",
    [
        [Step((table(2, 2, Kind.WRITE),))],
        [Step((table(0, 0, Kind.WRITE),)), Step((table(0, 0, Kind.WRITE),))],
        [Step((table(0, 1, Kind.WRITE),)), Step((table(1, 1, Kind.COMMUTE),))],
        [Step((table(0, 0, Kind.WRITE),)), Step((table(0, 0, Kind.READ),))],
        [Step((table(0, 0, Kind.WRITE),)), Step((table(1, 1, Kind.WRITE),))],
        [Choose("a number", 2)],
        [opening(section(lock=OTHER_LOCK))],
        [closing(OTHER_LOCK)],
    ],
    ids=["undeclared", "twice", "overlapping", "reads after", "two words", "chooses", "nests", "another's release"],
)
def test_what_is_not_as_declared_makes_the_lock_long_and_voids_the_execution(inside: list[Operation[None]]) -> None:
    sections = watched(opening(section(table(0, 1, Kind.WRITE))), *inside)
    assert sections.has_left
    assert sections.open is None
    assert sections.long == {LOCK}


@pytest.mark.parametrize(
    "inside",
    [
        [Step((table(0, 0, Kind.READ),)), Step((table(0, 0, Kind.READ),))],
        [Step((table(0, 0, Kind.READ),)), Step((table(1, 1, Kind.READ),)), Step((table(0, 0, Kind.WRITE),))],
        [Step((table(0, 0, Kind.WRITE), table(1, 1, Kind.WRITE)))],
        [Step((take(LOCK),)), Step((take(LOCK),))],
    ],
    ids=["reads twice", "reads, then stores", "stores two words in one step", "its own lock"],
)
def test_what_stores_last_and_once_is_taken_short(inside: list[Operation[None]]) -> None:
    sections = watched(opening(section(table(0, 1, Kind.WRITE), table(0, 1, Kind.COMMUTE))), *inside, closing())
    assert not sections.has_left
    assert sections.short == {LOCK}


def test_what_one_section_has_written_another_may_write() -> None:
    one = section(table(0, 0, Kind.WRITE))
    store = Step((table(0, 0, Kind.WRITE),))
    assert not watched(opening(one), store, closing(), opening(one), store, closing()).has_left


def test_a_long_lock_stays_long_in_later_executions_and_its_sections_are_not_watched() -> None:
    one = section(table(0, 1, Kind.WRITE))
    sections = watched(opening(one), Step((table(2, 2, Kind.WRITE),)))
    watched(opening(one), Step((table(2, 2, Kind.WRITE),)), closing(), sections=sections)
    assert (sections.has_left, sections.open, sections.long) == (False, None, {LOCK})


def test_a_section_inside_a_long_one_is_taken_short() -> None:
    inner = section(table(0, 0, Kind.WRITE), lock=OTHER_LOCK)
    sections = watched(opening(section()), opening(inner), sections=Sections(long={LOCK}))
    assert sections.open is inner
    assert not sections.has_left


def test_an_execution_that_ended_inside_a_section_leaves_nothing_open_for_the_next() -> None:
    sections = watched(opening(section()))
    assert watched(sections=sections).open is None


def test_an_undeclared_section_makes_its_lock_long_without_voiding_anything() -> None:
    sections = watched(opening(Section(LOCK, None)), Step((table(0, 0, Kind.WRITE),)))
    assert (sections.has_left, sections.open, sections.long) == (False, None, {LOCK})


def test_an_undeclared_section_voids_an_exploration_in_which_another_of_its_lock_was_short() -> None:
    sections = watched(opening(section()), closing(), opening(Section(LOCK, None)))
    assert sections.has_left
    assert sections.long == {LOCK}


def test_leaving_where_no_section_is_open_voids_the_execution_and_makes_no_lock_long() -> None:
    sections = Sections()
    sections.leave()
    assert (sections.has_left, sections.long) == (True, set())
