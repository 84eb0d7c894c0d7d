"""When walkers see what the CPUs have stored: at once, at a write-back, or when the chipset's buffer is drained."""

from collections.abc import Callable
from math import inf

import pytest

from emu.engine import Access, Kind
from emu.iommus.invalidation import Begin
from emu.memory import (
    FIRST_DATA_FRAME,
    FIRST_TABLE_FRAME,
    LINE_BYTES,
    TABLE_WORDS,
    WORDS,
    DrainWriteBuffer,
    Memory,
    Store,
    Version,
    WriteBack,
    word_number,
)
from emu.units import WORD_BYTES, frame_address

TABLE = frame_address(FIRST_TABLE_FRAME)
DATA = frame_address(FIRST_DATA_FRAME)
LAST_OF_LINE = TABLE + LINE_BYTES - WORD_BYTES
NEXT_LINE = TABLE + LINE_BYTES

OLD, NEW, NEWEST = 1, 2, 3

SETTINGS = pytest.mark.parametrize(
    ("is_coherent", "has_write_buffer"), [(True, False), (True, True), (False, False), (False, True)]
)


def memory_of(*, is_coherent: bool = True, has_write_buffer: bool = False) -> Memory:
    """Return a memory in which two neighbouring lines of a table were filled before the first step."""
    memory = Memory(is_coherent=is_coherent, has_write_buffer=has_write_buffer)
    for address in range(TABLE, NEXT_LINE + LINE_BYTES, WORD_BYTES):
        memory.put(address, OLD)
    return memory


@pytest.fixture
def cached() -> Memory:
    """Return a memory whose walkers do not snoop the CPUs' caches."""
    return memory_of(is_coherent=False)


@pytest.fixture
def buffered() -> Memory:
    """Return a memory behind a write buffer."""
    return memory_of(has_write_buffer=True)


@pytest.fixture
def both() -> Memory:
    return memory_of(is_coherent=False, has_write_buffer=True)


def store(memory: Memory, address: int, value: int, step: int, bits: int = 64) -> None:
    Store(memory, address, value, bits, "memory.store", {}).perform(step)


def write_back(memory: Memory, address: int, step: int) -> None:
    WriteBack(memory, address).perform(step)


def drain(memory: Memory, step: int) -> None:
    DrainWriteBuffer(memory).perform(step)


def begin(memory: Memory, step: int) -> None:
    Begin(memory, {}).perform(step)


@SETTINGS
def test_what_was_put_before_the_first_step_is_seen(is_coherent: bool, has_write_buffer: bool) -> None:
    memory = memory_of(is_coherent=is_coherent, has_write_buffer=has_write_buffer)
    assert memory.seen(TABLE) == OLD


@SETTINGS
def test_the_cpus_see_their_own_stores_at_once(is_coherent: bool, has_write_buffer: bool) -> None:
    memory = memory_of(is_coherent=is_coherent, has_write_buffer=has_write_buffer)
    store(memory, TABLE, NEW, 1)
    assert memory.peek(TABLE) == NEW


@SETTINGS
def test_a_store_to_data_is_seen_at_once(is_coherent: bool, has_write_buffer: bool) -> None:
    memory = memory_of(is_coherent=is_coherent, has_write_buffer=has_write_buffer)
    store(memory, DATA, NEW, 1)
    assert memory.seen(DATA) == NEW


def test_a_store_to_a_table_is_seen_at_once_where_nothing_lies_between() -> None:
    memory = memory_of()
    store(memory, TABLE, NEW, 4)
    assert memory.seen(TABLE) == NEW
    assert memory.history(TABLE)[-1] == Version(4, 4, NEW)


@pytest.mark.parametrize("name", ["cached", "buffered", "both"])
def test_a_store_to_a_table_is_visible_at_no_step_while_it_is_held_back(
    name: str, request: pytest.FixtureRequest
) -> None:
    memory: Memory = request.getfixturevalue(name)
    store(memory, TABLE, NEW, 4)
    assert memory.seen(TABLE) == OLD
    assert memory.history(TABLE)[-1] == Version(4, inf, NEW)


@pytest.mark.parametrize("address", [TABLE, TABLE + 4, LAST_OF_LINE])
def test_a_write_back_of_any_address_of_the_line_makes_a_store_visible_at_its_step(
    cached: Memory, address: int
) -> None:
    store(cached, TABLE, NEW, 4)
    write_back(cached, address, 9)
    assert cached.seen(TABLE) == NEW
    assert cached.history(TABLE)[-1] == Version(4, 9, NEW)


def test_a_write_back_shows_every_word_of_the_line_at_once(cached: Memory) -> None:
    line = range(TABLE, NEXT_LINE, WORD_BYTES)
    for step, address in enumerate(line, 1):
        store(cached, address, NEW, step)
    write_back(cached, TABLE, 20)
    assert {cached.history(address)[-1].visible for address in line} == {20}


@pytest.mark.parametrize("bits", [32, 64, 128])
def test_a_store_of_any_width_is_held_back(cached: Memory, bits: int) -> None:
    store(cached, TABLE, NEW, 1, bits)
    assert cached.seen(TABLE) == OLD
    write_back(cached, TABLE, 2)
    assert cached.seen(TABLE) == NEW


def test_a_write_back_leaves_the_neighbouring_line(cached: Memory) -> None:
    store(cached, NEXT_LINE, NEW, 1)
    write_back(cached, LAST_OF_LINE, 2)
    assert cached.seen(NEXT_LINE) == OLD


def test_a_value_that_was_overwritten_in_the_cache_is_never_seen(cached: Memory) -> None:
    store(cached, TABLE, NEW, 1)
    store(cached, TABLE, NEWEST, 2)
    write_back(cached, TABLE, 3)
    assert list(cached.history(TABLE)) == [Version(0, 0, OLD), Version(1, inf, NEW), Version(2, 3, NEWEST)]
    assert cached.seen(TABLE) == NEWEST


def test_a_store_after_the_write_back_is_held_back_again(cached: Memory) -> None:
    store(cached, TABLE, NEW, 1)
    write_back(cached, TABLE, 2)
    store(cached, TABLE, NEWEST, 3)
    assert cached.seen(TABLE) == NEW


def test_a_second_write_back_changes_nothing(cached: Memory) -> None:
    store(cached, TABLE, NEW, 1)
    write_back(cached, TABLE, 2)
    write_back(cached, TABLE, 3)
    assert cached.history(TABLE)[-1] == Version(1, 2, NEW)


def test_draining_a_write_buffer_writes_no_cache_line_back(cached: Memory) -> None:
    store(cached, TABLE, NEW, 1)
    drain(cached, 2)
    assert cached.seen(TABLE) == OLD


@pytest.mark.parametrize("empty", [drain, begin])
def test_a_buffered_store_is_seen_from_the_step_of_a_drain_or_of_an_invalidations_begin(
    buffered: Memory, empty: Callable[[Memory, int], None]
) -> None:
    store(buffered, TABLE, NEW, 4)
    empty(buffered, 9)
    assert buffered.seen(TABLE) == NEW
    assert buffered.history(TABLE)[-1] == Version(4, 9, NEW)


def test_a_drain_shows_every_line_at_once(buffered: Memory) -> None:
    store(buffered, TABLE, NEW, 1)
    store(buffered, NEXT_LINE, NEW, 2)
    drain(buffered, 3)
    assert [buffered.history(address)[-1].visible for address in (TABLE, NEXT_LINE)] == [3, 3]


def test_a_value_that_was_overwritten_in_the_buffer_is_never_seen(buffered: Memory) -> None:
    store(buffered, TABLE, NEW, 1)
    store(buffered, TABLE, NEWEST, 2)
    drain(buffered, 3)
    assert list(buffered.history(TABLE)) == [Version(0, 0, OLD), Version(1, inf, NEW), Version(2, 3, NEWEST)]


def test_a_second_drain_changes_nothing(buffered: Memory) -> None:
    store(buffered, TABLE, NEW, 1)
    drain(buffered, 2)
    drain(buffered, 3)
    assert buffered.history(TABLE)[-1] == Version(1, 2, NEW)


def test_a_store_after_the_drain_is_held_back_again(buffered: Memory) -> None:
    store(buffered, TABLE, NEW, 1)
    drain(buffered, 2)
    store(buffered, TABLE, NEWEST, 3)
    assert buffered.seen(TABLE) == NEW


def test_with_caches_and_a_buffer_a_store_has_to_leave_both(both: Memory) -> None:
    store(both, TABLE, NEW, 1)
    write_back(both, TABLE, 2)
    assert both.seen(TABLE) == OLD
    drain(both, 3)
    assert both.history(TABLE)[-1] == Version(1, 3, NEW)


def test_with_caches_and_a_buffer_a_drain_before_the_write_back_shows_nothing(both: Memory) -> None:
    store(both, TABLE, NEW, 1)
    drain(both, 2)
    write_back(both, TABLE, 3)
    assert both.seen(TABLE) == OLD


def test_what_lies_in_the_buffer_is_drained_though_the_cache_holds_something_newer(both: Memory) -> None:
    store(both, TABLE, NEW, 1)
    write_back(both, TABLE, 2)
    store(both, TABLE, NEWEST, 3)
    drain(both, 4)
    assert list(both.history(TABLE)) == [Version(0, 0, OLD), Version(1, 4, NEW), Version(3, inf, NEWEST)]


def test_a_newer_value_of_the_same_word_replaces_the_one_in_the_buffer(both: Memory) -> None:
    store(both, TABLE, NEW, 1)
    write_back(both, TABLE, 2)
    store(both, TABLE, NEWEST, 3)
    write_back(both, TABLE, 4)
    drain(both, 5)
    assert list(both.history(TABLE)) == [Version(0, 0, OLD), Version(1, inf, NEW), Version(3, 5, NEWEST)]


def test_a_write_back_is_a_write_of_every_word_of_its_line(cached: Memory) -> None:
    first = word_number(TABLE)
    assert tuple(WriteBack(cached, LAST_OF_LINE).accesses()) == (Access(WORDS, first, first + 7, Kind.WRITE),)


@pytest.mark.parametrize("name", ["buffered", "both"])
def test_what_drains_the_buffer_is_a_write_of_every_table_word(name: str, request: pytest.FixtureRequest) -> None:
    memory: Memory = request.getfixturevalue(name)
    for operation in (DrainWriteBuffer(memory), Begin(memory, {})):
        assert tuple(operation.accesses()) == (Access(WORDS, *TABLE_WORDS, Kind.WRITE),)


def test_an_invalidation_that_has_no_buffer_to_drain_only_reads_the_table_words(cached: Memory) -> None:
    assert tuple(Begin(cached, {}).accesses()) == (Access(WORDS, *TABLE_WORDS, Kind.READ),)
