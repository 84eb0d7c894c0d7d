"""Bitmaps: a word of which one step reads all, or changes one bit."""

from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import Any

import pytest

from emu.engine import Access, Agent, Execution, Exploration, Kind, Operation, Strategy, Trace
from emu.engine.hosts import direct
from emu.engine.strategies.optimal import Optimal
from emu.hypervisor.bitmaps import Bitmap

Body = Callable[[Bitmap], Coroutine[Any, Any, None]]


def outcomes(*bodies: Body, initial: tuple[int, ...] = ()) -> Iterator[int]:
    """Yield what a bitmap holds at the end of every trace of some agents."""
    last: list[Bitmap] = []

    def program(strategy: Strategy) -> Execution:
        bitmap = Bitmap("bits")
        for bit in initial:
            bitmap.put(bit)
        last[:] = [bitmap]
        agents = [Agent(f"agent {i}", partial(body, bitmap), {}) for i, body in enumerate(bodies)]
        return Execution(agents, strategy, Trace())

    for execution in Exploration(program, Optimal).each():
        direct.run(execution)
        yield last[0].value


def holding(*bits: int) -> Bitmap:
    bitmap = Bitmap("bits")
    for bit in bits:
        bitmap.put(bit)
    return bitmap


def accesses(operation: Operation[Any]) -> list[Access]:
    return list(operation.accesses())


def test_a_bitmap_begins_empty() -> None:
    bitmap = Bitmap("bits")
    assert bitmap.read().perform(1) == 0
    assert not any(bitmap.has(bit) for bit in range(64))


def test_a_read_returns_the_whole_word() -> None:
    assert holding(0, 3, 63).read().perform(1) == 1 << 63 | 0b1001


def test_a_bit_that_is_set_is_there_and_no_other() -> None:
    bitmap = Bitmap("bits")
    bitmap.set(5).perform(1)
    assert [bit for bit in range(64) if bitmap.has(bit)] == [5]


def test_a_bit_that_is_set_twice_is_set() -> None:
    bitmap = holding(5)
    bitmap.set(5).perform(1)
    assert bitmap.value == 1 << 5


def test_clearing_a_bit_leaves_the_others() -> None:
    bitmap = holding(1, 5, 6)
    bitmap.clear(5).perform(1)
    assert bitmap.value == 0b100_0010


def test_clearing_a_bit_that_is_not_set_changes_nothing() -> None:
    bitmap = holding(1)
    bitmap.clear(5).perform(1)
    assert bitmap.value == 0b10


@pytest.mark.parametrize("change", ["set", "clear"])
def test_a_change_takes_effect_when_it_is_performed_and_not_before(change: str) -> None:
    bitmap = holding(1) if change == "clear" else Bitmap("bits")
    before = bitmap.value
    operation = bitmap.clear(1) if change == "clear" else bitmap.set(1)
    assert bitmap.value == before
    operation.perform(1)
    assert bitmap.value == before ^ 0b10


def test_a_read_commutes_with_a_read_and_with_no_change() -> None:
    bitmap = Bitmap("bits")
    (read,), (change,), (clear,) = accesses(bitmap.read()), accesses(bitmap.set(1)), accesses(bitmap.clear(2))
    assert read.kind is Kind.READ
    assert not read.conflicts(read)
    assert read.conflicts(change)
    assert read.conflicts(clear)
    assert change.conflicts(clear)


def test_bitmaps_of_two_names_have_nothing_to_do_with_each_other() -> None:
    (one,), (other,) = accesses(Bitmap("d1.iommu_bitmap").set(1)), accesses(Bitmap("d2.iommu_bitmap").set(1))
    assert not one.conflicts(other)


def test_events_name_the_bitmap_and_the_bit_or_the_value() -> None:
    bitmap = holding(1)
    read, setting, clearing = bitmap.read(), bitmap.set(2), bitmap.clear(1)
    read.perform(1)
    assert read.describe() == ("bitmap.read", {"bitmap": "bits", "value": 0b10})
    assert setting.describe() == ("bitmap.set", {"bitmap": "bits", "bit": 2})
    assert clearing.describe() == ("bitmap.clear", {"bitmap": "bits", "bit": 1})


def test_changes_of_two_agents_are_never_lost() -> None:
    async def sets_two(bitmap: Bitmap) -> None:
        await bitmap.set(1)
        await bitmap.set(2)

    async def sets_and_clears(bitmap: Bitmap) -> None:
        await bitmap.set(3)
        await bitmap.clear(0)

    assert set(outcomes(sets_two, sets_and_clears, initial=(0,))) == {0b1110}


def test_reading_and_then_changing_are_two_steps_between_which_another_may_come() -> None:
    async def takes_the_first(bitmap: Bitmap) -> None:
        taken = await bitmap.read()
        await bitmap.set(1 if taken & 1 else 0)

    assert set(outcomes(takes_the_first, takes_the_first)) == {0b01, 0b11}


@pytest.mark.parametrize(("taken", "bit"), [((), 0), ((0, 1, 3), 2), ((0, 1, 2, 3), None)])
def test_taking_returns_the_lowest_bit_that_is_clear_and_sets_it(taken: tuple[int, ...], bit: int | None) -> None:
    bitmap = holding(*taken)
    take = bitmap.take(4)
    assert take.perform(1) == bit
    whole = ("bitmap.read", {"bitmap": "bits", "value": 0b1111})
    assert take.describe() == (whole if bit is None else ("bitmap.set", {"bitmap": "bits", "bit": bit}))
    assert bitmap.value == holding(*taken, *([] if bit is None else [bit])).value


def test_no_two_agents_take_one_bit() -> None:
    async def takes(bitmap: Bitmap) -> None:
        assert await bitmap.take(2) is not None

    assert set(outcomes(takes, takes)) == {0b11}
