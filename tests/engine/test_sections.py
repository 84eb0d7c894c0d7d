"""Sections by themselves: what one may touch, and what makes its lock long."""

from collections.abc import Callable, Iterable
from itertools import product

import attrs
import pytest

from emu.engine import Access, Agent, Choose, Kind, Operation, Space
from emu.engine.accesses import Section
from emu.engine.sections import Sections
from emu.engine.strategies.optimal import Optimal
from tests.engine.brute_force import traces_of
from tests.engine.test_optimal import Do, Draws, Outcome, Part, Parts, World, counter, outcomes_of, parts_of

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


class WriteBack(Step):
    """Show to others what was stored before."""

    stores = False


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
        if sections.open is None:
            sections.announced(operation)
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
    announced = Sections().announced(opening(one))
    assert announced == (Access.to(LOCK, 0, Kind.COMMUTE), table(2, 5, Kind.READ))


def test_a_long_or_undeclared_section_is_announced_as_its_first_operation() -> None:
    one = section(table(2, 5, Kind.READ))
    assert Sections(long={LOCK}).announced(opening(one)) == (take(LOCK),)
    assert Sections().announced(opening(Section(LOCK, None))) == (take(LOCK),)


def test_an_operation_that_opens_no_section_is_announced_as_it_is() -> None:
    assert Sections().announced(Step((table(1, 1, Kind.READ),))) == (table(1, 1, Kind.READ),)


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
def test_a_section_that_is_not_as_declared_makes_the_lock_long_and_voids_the_execution(
    inside: list[Operation[None]],
) -> None:
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


def test_an_undeclared_section_voids_an_exploration_in_which_another_section_of_its_lock_was_short() -> None:
    sections = watched(opening(section()), closing(), opening(Section(LOCK, None)))
    assert sections.has_left
    assert sections.long == {LOCK}


def test_leaving_where_no_section_is_open_voids_the_execution_and_makes_no_lock_long() -> None:
    sections = Sections()
    sections.leave()
    assert (sections.has_left, sections.long) == (True, set())


def test_a_section_has_touched_the_objects_that_it_accessed_and_not_all_that_it_declares() -> None:
    first = opening(section(table(0, 1, Kind.WRITE)))
    looks = Step((table(0, 0, Kind.READ),))
    sections = watched(first, looks, looks, closing())
    assert sections.touched_by(first) == (Access.to(LOCK, 0, Kind.COMMUTE), table(0, 0, Kind.READ))
    watched(first, looks, Step((table(1, 1, Kind.WRITE),)), closing(), sections=sections)
    assert tuple(sections.touched_by(first) or ())[1:] == (table(0, 0, Kind.READ), table(1, 1, Kind.WRITE))


def test_a_long_section_and_an_operation_that_opens_none_have_touched_all_that_they_announced() -> None:
    assert Sections(long={LOCK}).touched_by(opening(section(table(0, 1, Kind.WRITE)))) is None
    assert Sections().touched_by(Step((table(0, 0, Kind.READ),))) is None


KINDS = list(product(Kind, Kind))
CONFLICTING = [pair for pair in KINDS if pair[1] is not Kind.READ and pair != (Kind.COMMUTE, Kind.COMMUTE)]
"""What a section declares, and what others do there."""

Where = Callable[[list[Operation[None]], list[Operation[None]]], Sections]


def before(one: list[Operation[None]], other: list[Operation[None]]) -> Sections:
    return watched(*one, *other)


def after(one: list[Operation[None]], other: list[Operation[None]]) -> Sections:
    return watched(*other, *one)


def in_an_earlier_execution(one: list[Operation[None]], other: list[Operation[None]]) -> Sections:
    return watched(*other, sections=watched(*one))


def in_a_later_execution(one: list[Operation[None]], other: list[Operation[None]]) -> Sections:
    return watched(*one, sections=watched(*other))


WHERE = pytest.mark.parametrize("where", [before, after, in_an_earlier_execution, in_a_later_execution])


def taking(one: Section, *inside: Operation[None]) -> list[Operation[None]]:
    return [opening(one), *inside, closing(one.lock)]


@WHERE
@pytest.mark.parametrize(("declared", "done"), KINDS)
def test_a_store_outside_of_a_lock_to_an_object_that_a_section_declares_makes_the_lock_long(
    declared: Kind, done: Kind, where: Where
) -> None:
    sections = where([Step((table(2, 2, done),))], taking(section(table(1, 3, declared))))
    assert (sections.long, sections.has_left) == (({LOCK}, True) if (declared, done) in CONFLICTING else (set(), False))


@WHERE
@pytest.mark.parametrize(("declared", "done"), KINDS)
def test_so_does_a_store_in_a_section_of_another_lock(declared: Kind, done: Kind, where: Where) -> None:
    other = taking(section(table(2, 2, done), lock=OTHER_LOCK), Step((table(2, 2, done),)))
    assert where(other, taking(section(table(1, 3, declared)))).long == (
        {LOCK} if (declared, done) in CONFLICTING else set()
    )


@WHERE
def test_or_in_a_section_of_another_lock_that_is_taken_step_by_step(where: Where) -> None:
    store = Step((table(2, 2, Kind.WRITE),))
    sections = where(taking(Section(OTHER_LOCK, None), store), taking(section(table(1, 3, Kind.READ))))
    assert sections.long == {LOCK, OTHER_LOCK}


@WHERE
@pytest.mark.parametrize(
    "other",
    [
        taking(section(table(2, 2, Kind.WRITE)), Step((table(2, 2, Kind.WRITE),))),
        [Step((table(4, 4, Kind.WRITE),)), Step((Access.to(("another table",), 2, Kind.WRITE),))],
        [WriteBack((table(0, 9, Kind.WRITE),))],
        taking(section(table(1, 3, Kind.WRITE), lock=OTHER_LOCK), Step((table(2, 2, Kind.READ),))),
        taking(section(table(9, 9, Kind.WRITE), lock=OTHER_LOCK), Step((table(9, 9, Kind.WRITE),))),
    ],
    ids=["in a section of the lock", "elsewhere", "a write-back", "declared and not done", "under another lock"],
)
def test_whatever_else_others_do_the_lock_stays_short(other: list[Operation[None]], where: Where) -> None:
    sections = where(other, taking(section(table(1, 3, Kind.READ))))
    assert (sections.long, sections.has_left) == (set(), False)


def test_two_locks_whose_sections_store_the_same_are_both_long() -> None:
    sections = Sections()
    for lock in (LOCK, OTHER_LOCK, LOCK, OTHER_LOCK):
        one = section(table(2, 2, Kind.WRITE), lock=lock)
        watched(*taking(one, Step((table(2, 2, Kind.WRITE),))), sections=sections)
    assert sections.long == {LOCK, OTHER_LOCK}


def test_a_broken_promise_voids_one_execution_and_not_the_next() -> None:
    store = Step((table(2, 2, Kind.WRITE),))
    sections = watched(*taking(section(table(2, 2, Kind.READ))), store)
    assert sections.has_left
    assert not watched(*taking(section(table(2, 2, Kind.READ))), store, sections=sections).has_left


def test_what_breaks_a_promise_may_open_an_undeclared_section_with_the_same_step() -> None:
    both = Step((take(OTHER_LOCK), table(2, 2, Kind.WRITE)), opens=Section(OTHER_LOCK, None))
    sections = watched(*taking(section(table(2, 2, Kind.READ))), both)
    assert (sections.has_left, sections.long) == (True, {LOCK, OTHER_LOCK})


READ_0, WRITE_0, WRITE_1 = Do("read"), Do("write", amount=1), Do("write", 1, 1)
LOOKS = Do("lock", 0, accesses=(counter(0, Kind.READ), counter(1, Kind.WRITE)), body=(READ_0, WRITE_1))
"""A section that reads one counter and then stores another, and says so."""


def compared(parts: Parts) -> tuple[Sections, int, int]:
    """Explore a program with short sections and without; return what became of its locks, and both counts."""
    sections = Sections()
    short, stepwise = outcomes_of(parts, Optimal, sections), outcomes_of(parts, Optimal)
    assert short[0] == stepwise[0], parts
    return sections, short[1].executions, stepwise[1].executions


@pytest.mark.parametrize(
    "other",
    [
        [Do("add"), Do("add", 1)],
        [Do("write", 1, 2), WRITE_0],
        [Do("lock", 1, accesses=(counter(0, Kind.WRITE),), body=(WRITE_0,)), Do("read", 1)],
        [Do("lock", 1, body=(WRITE_0,)), Do("read", 1)],
    ],
    ids=["adds", "stores", "stores under another lock", "stores under another lock step by step"],
)
def test_a_store_without_the_lock_is_seen_between_the_steps_of_a_section(other: list[Do]) -> None:
    for parts in (parts_of([LOOKS], other), parts_of(other, [LOOKS]), parts_of([LOOKS], [LOOKS], other)):
        sections, short, stepwise = compared(parts)
        assert ("lock", "lock 0") in sections.long
        assert short <= stepwise


@pytest.mark.parametrize(
    "other",
    [[READ_0, Do("read", 1)], [Do("add", 2)], [Do("lock", 0, accesses=LOOKS.accesses, body=(READ_0, WRITE_1))]],
    ids=["only reads", "stores elsewhere", "takes the lock"],
)
def test_sections_stay_short_beside_an_agent_that_only_reads_stores_elsewhere_or_takes_the_lock(
    other: list[Do],
) -> None:
    sections, short, stepwise = compared(parts_of([LOOKS], [LOOKS], other))
    assert not sections.long
    assert short <= stepwise


def test_sections_that_find_nothing_to_store_are_not_ordered() -> None:
    looks = Do("lock", 0, accesses=(counter(0, Kind.WRITE),), body=(READ_0, Do("if", body=(WRITE_0,))))
    assert compared(parts_of([looks], [looks], [READ_0]))[1] == 1


class SectionDraws(Draws):
    """Draws programs of sections that read and then perhaps store, beside agents that may do so without the lock."""

    def any_section(self) -> Do:
        read, store = Do("read", self.below(2)), self.instruction(["write", "add", "fetch_and_add"])
        kind = Kind.COMMUTE if store.verb == "add" else Kind.WRITE
        declared = [counter(read.number, Kind.READ), counter(store.number, kind)]
        last = [store, Do("if", body=(store,)), read][self.below(3)]
        surplus = [self.instruction(["read", "write"])][self.below(5) :]
        if not self.below(6):
            declared[self.below(2)] = counter(self.below(2), list(Kind)[self.below(3)])
        lock = 0 if self.below(3) else 1
        return Do("lock", lock, accesses=tuple(declared), body=(read, last, *surplus))

    def any_program(self) -> Parts:
        return tuple(
            Part(
                tuple(
                    self.any_section() if self.below(3) else self.instruction(["read", "write", "add", "if"])
                    for _ in range(length)
                )
            )
            for length in [[2, 2], [1, 1, 1], [1, 2], [1, 1]][self.below(4)]
        )


def every_outcome(parts: Parts) -> set[Outcome] | None:
    """Return every outcome that brute force finds; None if it has too much to look at."""
    worlds: list[World] = []
    outcomes: set[Outcome] = set()

    def program() -> list[Agent]:
        worlds.append(World())
        return worlds[-1].cast(parts)

    traces = traces_of(program, classes_max=400, at_end=lambda run: outcomes.add(worlds[-1].outcome(run.execution)))
    return None if traces is None else outcomes


def test_what_can_be_found_out_does_not_depend_on_how_sections_are_taken() -> None:
    short_locks = long_locks = programs = executions = stepwise_executions = 0
    for seed in range(150):
        parts = SectionDraws(seed).any_program()
        outcomes = every_outcome(parts)
        if outcomes is None:
            continue
        sections = Sections()
        short, stepwise = outcomes_of(parts, Optimal, sections), outcomes_of(parts, Optimal)
        assert short[0] == stepwise[0] == outcomes, parts
        programs += 1
        short_locks += len(sections.short - sections.long)
        long_locks += len(sections.long)
        executions += short[1].executions
        stepwise_executions += stepwise[1].executions
    assert min(programs, short_locks, long_locks) > 30
    assert executions < stepwise_executions, "though a section that declares too much may be executed twice"
