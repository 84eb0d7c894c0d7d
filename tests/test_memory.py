"""Host memory: words, what they have held, and who is told when they change."""

import pytest

from emu.engine import Access, Kind
from emu.errors import InternalError, LimitReached, ScenarioError
from emu.memory import (
    FIRST_DATA_FRAME,
    FIRST_TABLE_FRAME,
    FRAMES_MAX,
    TABLE_WORDS,
    TABLES_PER_OWNER,
    WORDS,
    Load,
    Memory,
    Store,
    Version,
    word_number,
)
from emu.units import PAGE_SIZE, WORD_BYTES, Maddr, Mfn, frame_address

ADDRESS = 0x1000
LOW, HIGH = 0x1111_2222, 0x3333_4444
WORD = HIGH << 32 | LOW


def store(memory: Memory, address: int, value: int, bits: int = 64, *, step: int = 1) -> int:
    """Store as an agent does, and return what was there."""
    return Store(memory, address, value, bits, "memory.store", {}).perform(step)


def load(memory: Memory, address: int) -> int:
    return Load(memory, address, "memory.load", {}).perform(1)


def holding(value: int, address: int = ADDRESS) -> Memory:
    """Return a memory with one word set before the first step."""
    memory = Memory()
    memory.put(address, value)
    return memory


def test_memory_is_zeroed() -> None:
    assert load(Memory(), ADDRESS) == 0


def test_a_load_returns_what_was_stored() -> None:
    memory = Memory()
    store(memory, ADDRESS, WORD)
    assert load(memory, ADDRESS) == WORD


def test_a_store_changes_no_other_word() -> None:
    memory = Memory()
    store(memory, ADDRESS, WORD)
    assert (load(memory, ADDRESS - WORD_BYTES), load(memory, ADDRESS + WORD_BYTES)) == (0, 0)


def test_a_store_of_64_bits_returns_what_was_there() -> None:
    memory = holding(WORD)
    assert store(memory, ADDRESS, 5) == WORD


def test_a_store_of_32_bits_changes_the_low_half() -> None:
    memory = holding(WORD)
    store(memory, ADDRESS, 0xAAAA_BBBB, 32)
    assert memory.peek(ADDRESS) == HIGH << 32 | 0xAAAA_BBBB


def test_a_store_of_32_bits_four_bytes_on_changes_the_high_half() -> None:
    memory = holding(WORD)
    store(memory, ADDRESS + 4, 0xAAAA_BBBB, 32)
    assert memory.peek(ADDRESS) == 0xAAAA_BBBB << 32 | LOW


def test_a_store_of_32_bits_returns_the_half_that_was_there() -> None:
    memory = holding(WORD)
    assert store(memory, ADDRESS, 1, 32) == LOW
    assert store(memory, ADDRESS + 4, 1, 32) == HIGH


def test_a_store_of_128_bits_changes_two_words() -> None:
    memory = Memory()
    store(memory, ADDRESS, 7 << 64 | WORD, 128)
    assert (memory.peek(ADDRESS), memory.peek(ADDRESS + WORD_BYTES)) == (WORD, 7)


def test_a_store_of_128_bits_returns_both_words() -> None:
    memory = holding(WORD)
    memory.put(ADDRESS + WORD_BYTES, 9)
    assert store(memory, ADDRESS, 0, 128) == 9 << 64 | WORD


def test_a_store_of_128_bits_is_one_access_to_two_words() -> None:
    first = word_number(ADDRESS)
    operation = Store(Memory(), ADDRESS, 0, 128, "memory.store", {})
    assert tuple(operation.accesses()) == (Access(WORDS, first, first + 1, Kind.WRITE),)


def test_a_store_of_128_bits_is_one_step_for_both_words() -> None:
    memory = Memory()
    store(memory, ADDRESS, 7 << 64 | 5, 128, step=4)
    assert [memory.history(address)[-1] for address in (ADDRESS, ADDRESS + WORD_BYTES)] == [
        Version(4, 4, 5),
        Version(4, 4, 7),
    ]


@pytest.mark.parametrize(("address", "bits"), [(ADDRESS, 64), (ADDRESS, 32), (ADDRESS + 4, 32)])
def test_a_shorter_store_is_an_access_to_its_word(address: int, bits: int) -> None:
    operation = Store(Memory(), address, 0, bits, "memory.store", {})
    assert tuple(operation.accesses()) == (Access.to(WORDS, word_number(ADDRESS), Kind.WRITE),)


def test_a_load_is_a_read_of_its_word() -> None:
    operation = Load(Memory(), ADDRESS, "memory.load", {})
    assert tuple(operation.accesses()) == (Access.to(WORDS, word_number(ADDRESS), Kind.READ),)


def test_a_store_takes_effect_when_it_is_performed_and_not_before() -> None:
    memory = Memory()
    operation = Store(memory, ADDRESS, 5, 64, "memory.store", {})
    assert memory.peek(ADDRESS) == 0
    operation.perform(1)
    assert memory.peek(ADDRESS) == 5


def test_a_store_shows_its_label_its_details_and_the_new_value() -> None:
    operation = Store(Memory(), ADDRESS, 5, 64, "pte.write", {"dfn": 3})
    operation.perform(1)
    name, keys = operation.describe()
    assert name == "pte.write"
    assert {"dfn": 3, "address": ADDRESS, "value": 5}.items() <= keys.items()


def test_a_load_shows_the_value_that_it_found() -> None:
    operation = Load(holding(WORD), ADDRESS, "pte.read", {"dfn": 3})
    operation.perform(1)
    assert operation.describe() == ("pte.read", {"dfn": 3, "address": ADDRESS, "value": WORD})


def test_the_history_of_an_untouched_word_is_zero_from_the_start() -> None:
    assert list(Memory().history(ADDRESS)) == [Version(0, 0, 0)]


def test_a_history_keeps_every_value_with_the_step_of_its_store() -> None:
    memory = Memory()
    store(memory, ADDRESS, 5, step=3)
    store(memory, ADDRESS, 6, step=8)
    assert list(memory.history(ADDRESS)) == [Version(0, 0, 0), Version(3, 3, 5), Version(8, 8, 6)]


def test_a_history_keeps_a_value_that_was_stored_again() -> None:
    memory = Memory()
    store(memory, ADDRESS, 5, step=3)
    store(memory, ADDRESS, 5, step=8)
    assert [version.stored for version in memory.history(ADDRESS)] == [0, 3, 8]


def test_a_history_keeps_whole_words_of_a_store_to_one_half() -> None:
    memory = holding(WORD)
    store(memory, ADDRESS + 4, 0, 32, step=2)
    assert list(memory.history(ADDRESS)) == [Version(0, 0, WORD), Version(2, 2, LOW)]


def test_what_is_put_before_the_first_step_is_there_from_the_start() -> None:
    memory = holding(5)
    memory.put(ADDRESS, 6)
    assert list(memory.history(ADDRESS)) == [Version(0, 0, 6)]


@pytest.mark.parametrize(("address", "bits"), [(0x1001, 32), (0x1002, 32), (0x1004, 64), (0x1008, 128)])
def test_a_store_must_be_aligned_to_its_size(address: int, bits: int) -> None:
    with pytest.raises(ScenarioError, match=f"address {address:#x} cannot be accessed as {bits // 8} bytes"):
        Store(Memory(), address, 0, bits, "memory.store", {})


@pytest.mark.parametrize(("address", "bits"), [(0x1004, 32), (0x1008, 64), (0x1010, 128)])
def test_a_store_need_not_be_aligned_to_more_than_its_size(address: int, bits: int) -> None:
    memory = Memory()
    store(memory, address, 1, bits)
    assert memory.peek(address & ~7) in {1, 1 << 32}


def test_a_load_must_be_aligned() -> None:
    with pytest.raises(ScenarioError, match="address 0x1004 cannot be accessed as 8 bytes"):
        Load(Memory(), ADDRESS + 4, "memory.load", {})


@pytest.mark.parametrize("address", [-8, 1 << 52])
def test_an_address_must_lie_below_2_to_the_52(address: int) -> None:
    with pytest.raises(ScenarioError, match="keep it below 2"):
        Load(Memory(), address, "memory.load", {})


@pytest.mark.parametrize("bits", [32, 64, 128])
def test_a_value_must_fit_into_the_store(bits: int) -> None:
    with pytest.raises(ScenarioError, match=f"does not fit into a store of {bits} bits"):
        Store(Memory(), ADDRESS, 1 << bits, bits, "memory.store", {})


@pytest.mark.parametrize("bits", [32, 64, 128])
def test_the_greatest_value_fits_into_the_store(bits: int) -> None:
    greatest = (1 << bits) - 1
    memory = Memory()
    store(memory, ADDRESS, greatest, bits)
    assert store(memory, ADDRESS, 0, bits) == greatest


def test_a_negative_value_cannot_be_stored() -> None:
    with pytest.raises(ScenarioError, match="does not fit"):
        Store(Memory(), ADDRESS, -1, 64, "memory.store", {})


def test_a_store_of_another_width_is_a_bug_of_emu() -> None:
    with pytest.raises(InternalError, match="a store of 16 bits"):
        store(Memory(), ADDRESS, 1, 16)


def test_a_latch_is_set_when_the_awaited_value_is_stored() -> None:
    memory = Memory()
    latch = memory.latch(Maddr(ADDRESS), 1)
    assert not latch.is_set
    store(memory, ADDRESS, 1, 32)
    assert latch.is_set


def test_a_latch_is_not_set_by_another_value() -> None:
    memory = Memory()
    latch = memory.latch(Maddr(ADDRESS), 1)
    store(memory, ADDRESS, 2, 32)
    assert not latch.is_set


def test_a_latch_is_set_at_once_if_the_word_holds_the_value() -> None:
    memory = Memory()
    store(memory, ADDRESS, 1, 32, step=3)
    latch = memory.latch(Maddr(ADDRESS), 1)
    assert (latch.is_set, latch.set_at) == (True, 3)


def test_it_was_set_by_the_store_since_which_its_half_holds_the_value() -> None:
    memory = Memory()
    for step, (address, value) in enumerate(
        [(ADDRESS + 4, 1), (ADDRESS + 4, 2), (ADDRESS + 4, 1), (ADDRESS, 7), (ADDRESS + 4, 1)], start=1
    ):
        store(memory, address, value, 32, step=step)
    assert memory.latch(Maddr(ADDRESS + 4), 1).set_at == 3
    assert memory.latch(Maddr(ADDRESS), 7).set_at == 4


def test_what_a_word_held_before_the_first_step_sets_a_latch_too() -> None:
    latch = holding(0x2A).latch(Maddr(ADDRESS), 0x2A)
    assert (latch.is_set, latch.set_at) == (True, 0)


def test_a_latch_is_not_set_by_a_value_that_was_overwritten_before_it_was_made() -> None:
    memory = Memory()
    store(memory, ADDRESS, 1, 32)
    store(memory, ADDRESS, 0, 32)
    latch = memory.latch(Maddr(ADDRESS), 1)
    assert not latch.is_set
    store(memory, ADDRESS, 1, 32)
    assert latch.is_set


def test_a_latch_stays_set_when_the_value_is_overwritten() -> None:
    memory = Memory()
    latch = memory.latch(Maddr(ADDRESS), 1)
    store(memory, ADDRESS, 1, 32)
    store(memory, ADDRESS, 0, 32)
    assert latch.is_set


def test_a_latch_is_not_set_by_a_store_to_another_word() -> None:
    memory = Memory()
    latch = memory.latch(Maddr(ADDRESS), 1)
    store(memory, ADDRESS + WORD_BYTES, 1, 32)
    assert not latch.is_set


def test_a_latch_on_the_high_half_awaits_the_high_half() -> None:
    memory = Memory()
    latch = memory.latch(Maddr(ADDRESS + 4), 1)
    store(memory, ADDRESS, 1, 32)
    assert not latch.is_set
    store(memory, ADDRESS + 4, 1, 32)
    assert latch.is_set


def test_a_latch_on_the_low_half_does_not_look_at_the_high_half() -> None:
    memory = Memory()
    latch = memory.latch(Maddr(ADDRESS), 1)
    store(memory, ADDRESS + 4, 1, 32)
    assert not latch.is_set


@pytest.mark.parametrize(("bits", "value"), [(64, HIGH << 32 | 1), (128, 9 << 64 | 1)])
def test_a_latch_is_set_by_a_wider_store_too(bits: int, value: int) -> None:
    memory = Memory()
    latch = memory.latch(Maddr(ADDRESS), 1)
    store(memory, ADDRESS, value, bits)
    assert latch.is_set


def test_several_latches_may_await_values_of_one_word() -> None:
    memory = Memory()
    latches = [memory.latch(Maddr(ADDRESS), value) for value in (1, 2, 1)]
    store(memory, ADDRESS, 1, 32)
    assert [latch.is_set for latch in latches] == [True, False, True]


def test_a_latch_tells_which_word_is_to_become_what() -> None:
    latch = Memory().latch(Maddr(ADDRESS + 4), 0x2A)
    assert latch.name == "the 32-bit word at 0x1004 to become 0x2a"


def test_waiting_for_a_latch_reads_the_word() -> None:
    latch = Memory().latch(Maddr(ADDRESS + 4), 1)
    assert latch.touch == Access.to(WORDS, word_number(ADDRESS), Kind.READ)


def test_a_latch_must_be_aligned() -> None:
    with pytest.raises(ScenarioError, match="address 0x1002 cannot be accessed as 4 bytes"):
        Memory().latch(Maddr(0x1002), 1)


def test_tables_get_a_frame_each() -> None:
    memory = Memory()
    assert [memory.allocate_table() for _ in range(3)] == [FIRST_TABLE_FRAME + i for i in range(3)]


def test_data_frames_do_not_overlap() -> None:
    memory = Memory()
    frames: list[int] = []
    for order in (0, 3, 0, 2, 0):
        first = memory.allocate_data(order)
        frames.extend(range(first, first + (1 << order)))
    assert len(set(frames)) == len(frames) == 15


@pytest.mark.parametrize("page_order", [0, 1, 4, 9, 18])
def test_data_frames_are_naturally_aligned(page_order: int) -> None:
    memory = Memory()
    memory.allocate_data()
    assert memory.allocate_data(page_order) % (1 << page_order) == 0


def test_tables_and_data_come_from_disjoint_regions() -> None:
    memory = Memory()
    last_owner = FRAMES_MAX // TABLES_PER_OWNER - 1
    tables = [memory.allocate_table(), *(memory.allocate_table(last_owner) for _ in range(TABLES_PER_OWNER))]
    assert min(tables) == FIRST_TABLE_FRAME
    data = [memory.allocate_data(), memory.allocate_data(9)]
    assert max(tables) < min(data)


@pytest.mark.parametrize("offset", [0, PAGE_SIZE - WORD_BYTES])
def test_the_range_of_table_words_holds_every_table(offset: int) -> None:
    first, last = TABLE_WORDS
    for frame in (FIRST_TABLE_FRAME, Mfn(FIRST_DATA_FRAME - 1)):
        assert first <= word_number(frame_address(frame) + offset) <= last


def test_the_range_of_table_words_holds_no_data() -> None:
    first, last = TABLE_WORDS
    assert not first <= word_number(frame_address(Memory().allocate_data())) <= last


def test_too_many_tables_reach_the_limit_named_frames() -> None:
    memory = Memory()
    for _ in range(TABLES_PER_OWNER):
        memory.allocate_table(3)
    with pytest.raises(LimitReached, match=rf"all {TABLES_PER_OWNER} table frames .* are in use \(limit 'frames'\)"):
        memory.allocate_table(3)


def test_too_many_owners_of_tables_reach_the_limit_named_frames() -> None:
    with pytest.raises(LimitReached, match=r"limit 'frames'"):
        Memory().allocate_table(FRAMES_MAX // TABLES_PER_OWNER)


def test_which_table_frame_an_owner_gets_does_not_depend_on_others() -> None:
    alone, crowded = Memory(), Memory()
    crowded.allocate_table(1)
    assert alone.allocate_table(2) == crowded.allocate_table(2)


def test_too_many_data_frames_reach_the_limit_named_frames() -> None:
    memory = Memory()
    memory.next_data = Mfn(FIRST_DATA_FRAME + FRAMES_MAX - 1)
    memory.allocate_data()
    with pytest.raises(LimitReached, match=rf"all {FRAMES_MAX} data frames are in use \(limit 'frames'\)"):
        memory.allocate_data()


def test_an_allocation_that_does_not_fit_leaves_room_for_one_that_does() -> None:
    memory = Memory()
    memory.allocate_data()
    with pytest.raises(LimitReached):
        memory.allocate_data(19)
    assert memory.allocate_data() == FIRST_DATA_FRAME + 1
