"""SMMU's words against their layouts, and encoding against decoding.

Words are checked by hand against the layouts, which stand above them as comments.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.errors import ScenarioError
from emu.iommus.formats import Entry
from emu.iommus.smmu.formats import (
    ACCESS_FLAG,
    CONTIGUOUS,
    S2AP_READ,
    S2AP_WRITE,
    S2CR_BYPASS,
    S2CR_FAULT,
    S2CR_TRANSLATE,
    TABLE,
    VALID,
    encode_leaf,
    encode_smr,
    encode_table,
    encode_ttbcr,
    ipa_bits_of,
    levels_of,
    matches,
    root_tables,
    smmu_format,
    top_level,
)
from emu.units import Dfn, Maddr

FORMAT = smmu_format(40, 9)
FOUR_LEVELS = smmu_format(48, 9)
decode = FOUR_LEVELS.decode

RELIABLY = settings(deadline=None, derandomize=True)
FRAMES = st.integers(0, (1 << 36) - 1)
STREAM_IDS = st.integers(0, 0x7FFF)


# Stage-2 descriptors: the valid bit is bit 0, the table bit is bit 1, MemAttr is bits 5:2, S2AP is bits 7:6, SH is bits
# 9:8, AF is bit 10, the address is bits 47:12, XN is bit 54

# MemAttr 0xF is 0x3C; S2AP 3 is 0xC0, 1 is 0x40, 2 is 0x80; SH 3 is 0x300; AF is 0x400
RW_PAGE, RO_PAGE, WO_PAGE = 0x1_2345_67FF, 0x1_2345_677F, 0x1_2345_67BF
# without the table bit, 0x7FF is 0x7FD
BLOCK_OF_2M, BLOCK_OF_1G = 0x1_2340_07FD, 0x1_4000_07FD
LEVEL_OF = {RW_PAGE: 1, BLOCK_OF_2M: 2, BLOCK_OF_1G: 3}


@pytest.mark.parametrize(
    ("word", "read", "write"),
    [(RW_PAGE, True, True), (RO_PAGE, True, False), (WO_PAGE, False, True), (RO_PAGE & ~S2AP_READ, False, False)],
)
def test_a_page_has_the_bits_of_its_layout(word: int, read: bool, write: bool) -> None:
    assert encode_leaf(Maddr(0x1_2345_6000), read=read, write=write) == word
    assert decode(word, 1) == Entry(Maddr(0x1_2345_6000), next_level=0, order=0, read=read, write=write)


@pytest.mark.parametrize(
    ("word", "address", "level", "order"), [(BLOCK_OF_2M, 0x1_2340_0000, 2, 9), (BLOCK_OF_1G, 0x1_4000_0000, 3, 18)]
)
def test_a_block_is_a_leaf_without_the_table_bit(word: int, address: int, level: int, order: int) -> None:
    assert encode_leaf(Maddr(address), read=True, write=True, level=level) == word
    assert decode(word, level) == Entry(Maddr(address), 0, order, read=True, write=True)


@pytest.mark.parametrize("level", [2, 3, 4])
def test_what_is_a_page_at_level_1_leads_to_a_table_of_the_next_level_above(level: int) -> None:
    assert encode_table(Maddr(0x1_2345_6000), level - 1) == RW_PAGE
    assert decode(RW_PAGE, level) == Entry(Maddr(0x1_2345_6000), level - 1, 0, read=True, write=True)


@pytest.mark.parametrize("level", [1, 2, 3, 4])
@pytest.mark.parametrize("word", [RW_PAGE, BLOCK_OF_2M])
def test_a_word_without_the_valid_bit_is_not_present_whatever_else_it_says(word: int, level: int) -> None:
    assert decode(word & ~VALID, level) is None


def test_at_level_1_a_valid_word_without_the_table_bit_faults() -> None:
    assert decode(RW_PAGE & ~TABLE, 1) is None


def test_no_block_stands_at_level_4() -> None:
    assert decode(BLOCK_OF_1G, 4) is None
    for level in (0, 4):
        with pytest.raises(ScenarioError, match=f"no leaf can stand at level {level}"):
            encode_leaf(Maddr(0), read=True, write=True, level=level)


@pytest.mark.parametrize(("word", "level"), LEVEL_OF.items())
def test_a_leaf_whose_access_flag_is_clear_faults(word: int, level: int) -> None:
    assert decode(word & ~ACCESS_FLAG, level) is None


@pytest.mark.parametrize("level", [2, 3, 4])
@pytest.mark.parametrize("bits", [ACCESS_FLAG, S2AP_READ, S2AP_WRITE, S2AP_READ | S2AP_WRITE])
def test_the_access_flag_and_s2ap_count_in_leaves_alone(bits: int, level: int) -> None:
    assert decode(RW_PAGE & ~bits, level) == decode(RW_PAGE, level)


@pytest.mark.parametrize(("word", "level"), LEVEL_OF.items())
def test_the_contiguous_hint_is_ignored(word: int, level: int) -> None:
    assert decode(word | CONTIGUOUS, level) == decode(word, level)


@pytest.mark.parametrize(("level", "order"), [(2, 9), (3, 18)])
def test_address_bits_below_a_blocks_size_are_ignored(level: int, order: int) -> None:
    below = sum(1 << bit for bit in range(12, 12 + order))
    word = encode_leaf(Maddr(1 << 12 + order), read=True, write=True, level=level)
    assert decode(word | below, level) == decode(word, level)


NOTHING = Entry(Maddr(0), 0, 0, read=False, write=False)
PRESENT = VALID | TABLE | ACCESS_FLAG


@pytest.mark.parametrize(
    ("bits", "entry"),
    [
        (range(2, 6), NOTHING),  # MemAttr
        (range(6, 7), NOTHING._replace(read=True)),
        (range(7, 8), NOTHING._replace(write=True)),
        (range(8, 10), NOTHING),  # SH
        (range(11, 12), NOTHING),
        (range(12, 48), NOTHING._replace(address=Maddr((1 << 48) - (1 << 12)))),
        (range(48, 64), NOTHING),  # the contiguous hint, XN, and what software may use
    ],
)
def test_each_field_of_a_page_is_read_from_its_own_bits(bits: range, entry: Entry) -> None:
    assert decode(PRESENT | sum(1 << bit for bit in bits), 1) == entry


@RELIABLY
@given(level=st.integers(1, 3), number=FRAMES, read=st.booleans(), write=st.booleans())
def test_a_leaf_decodes_to_what_was_encoded(level: int, number: int, read: bool, write: bool) -> None:
    order = 9 * (level - 1)
    address = Maddr(number >> order << order + 12)
    word = encode_leaf(address, read=read, write=write, level=level)
    assert decode(word, level) == Entry(address, 0, order, read=read, write=write)


@RELIABLY
@given(number=FRAMES, level=st.integers(2, 4))
def test_a_table_entry_decodes_to_its_table(number: int, level: int) -> None:
    address = Maddr(number << 12)
    assert decode(encode_table(address, level - 1), level) == Entry(address, level - 1, 0, read=True, write=True)


@RELIABLY
@given(word=st.integers(0, (1 << 64) - 1), level=st.integers(1, 4))
def test_any_word_decodes_to_a_leaf_of_its_levels_size_or_to_the_next_table_or_to_nothing(
    word: int, level: int
) -> None:
    entry = decode(word, level)
    if entry is not None:
        assert (entry.next_level, entry.order) in {(level - 1, 0), (0, 9 * (level - 1))}
        assert entry.address % (0x1000 << entry.order) == 0


@pytest.mark.parametrize(("address", "level"), [(0x1800, 1), (0x10_0000, 2), (0x20_0000, 3), (1 << 48, 1), (-4096, 1)])
def test_a_leaf_cannot_map_an_address_that_is_not_aligned_to_its_size_or_too_large(address: int, level: int) -> None:
    with pytest.raises(ScenarioError, match="align it"):
        encode_leaf(Maddr(address), read=True, write=True, level=level)


@pytest.mark.parametrize(("bits", "pages"), [(1, (1, 2, 4)), (3, (1, 8, 64)), (9, (1, 512, 512 * 512))])
def test_a_setting_says_how_many_pages_a_block_has(bits: int, pages: tuple[int, ...]) -> None:
    small = smmu_format(40, bits)
    assert tuple(1 << order for order in small.leaf_orders) == pages
    for level, count in enumerate(pages, start=1):
        word = small.encode_leaf(Maddr(0x1000 * count), read=True, write=False, level=level)
        assert small.decode(word, level) == Entry(Maddr(0x1000 * count), 0, small.orders[level], read=True, write=False)
        with pytest.raises(ScenarioError, match=f"align it to {0x1000 * count:#x}"):
            small.encode_leaf(Maddr(0x1000 * count + 0x800), read=True, write=True, level=level)


# The width of addresses: T0SZ is 64 minus the width, in bits 5:0 of TTBCR; SL0, in bits 7:6, is 1 where walks start at
# the architecture's level 1, and 2 where they start at its level 0


@pytest.mark.parametrize(
    ("ipa_bits", "levels", "tables", "top", "t0sz", "sl0"),
    [
        (32, 3, 1, 2, 32, 1),
        (36, 3, 1, 6, 28, 1),
        (39, 3, 1, 9, 25, 1),
        (40, 3, 2, 10, 24, 1),
        (42, 3, 8, 12, 22, 1),
        (43, 3, 16, 13, 21, 1),
        (44, 4, 1, 5, 20, 2),
        (48, 4, 1, 9, 16, 2),
    ],
)
def test_the_width_of_addresses_says_the_levels_and_the_tables_side_by_side_at_the_top(
    ipa_bits: int, levels: int, tables: int, top: int, t0sz: int, sl0: int
) -> None:
    format_, ttbcr = smmu_format(ipa_bits, 9), encode_ttbcr(ipa_bits)
    assert (top_level(ipa_bits), root_tables(ipa_bits)) == (levels, tables)
    assert format_.depths == (levels, levels)
    assert format_.index_bits == (*[9] * (levels - 1), top)
    assert format_.reach(levels) == 1 << ipa_bits - 12
    assert (ttbcr & 0x3F, ttbcr >> 6 & 3) == (t0sz, sl0)
    assert (levels_of(ttbcr), ipa_bits_of(ttbcr)) == (levels, ipa_bits)


def test_the_control_register_of_stage_2_has_the_bits_of_its_layout() -> None:
    # EAE is bit 31, PASize bits 18:16, SH0 bits 13:12, ORGN0 bits 11:10, IRGN0 bits 9:8
    # PASize 2 is 0x2_0000, SH0 3 is 0x3000, ORGN0 and IRGN0 1 are 0x500; SL0 1 is 0x40, T0SZ 24 is 0x18
    assert encode_ttbcr(40) == 0x8002_3558
    # PASize 5; SL0 2 is 0x80; T0SZ 16 is 0x10
    assert encode_ttbcr(48) == 0x8005_3590


@pytest.mark.parametrize("ipa_bits", range(32, 49))
def test_the_tables_at_the_top_are_one_table_as_long_as_all_of_them(ipa_bits: int) -> None:
    format_ = smmu_format(ipa_bits, 9)
    last = Dfn((1 << ipa_bits - 12) - 1)
    words = root_tables(ipa_bits) * 512 if root_tables(ipa_bits) > 1 else 1 << format_.index_bits[-1]
    assert format_.entry_address(Maddr(0), last, format_.depths[0]) == 8 * (words - 1)


def test_the_second_of_two_tables_begins_with_bit_39_of_an_address() -> None:
    assert FORMAT.entry_address(Maddr(0x5000), Dfn((1 << 27) - 1), 3) == 0x5FF8
    assert FORMAT.entry_address(Maddr(0x5000), Dfn(1 << 27), 3) == 0x6000


def test_smaller_blocks_leave_the_levels_above_them_as_they_are() -> None:
    assert smmu_format(40, 1).index_bits == (1, 1, 10)
    assert smmu_format(48, 1).index_bits == (1, 1, 9, 9)


# Stream match registers: VALID is bit 31, MASK is bits 30:16, ID is bits 14:0


def test_a_stream_match_register_has_the_bits_of_its_layout() -> None:
    assert encode_smr(0x00F8) == 0x8000_00F8
    assert encode_smr(0x7FFF, 0x0007) == 0x8007_7FFF


@RELIABLY
@given(stream_id=STREAM_IDS, other=STREAM_IDS, mask=STREAM_IDS)
def test_a_stream_matches_if_it_equals_the_id_in_all_bits_that_the_mask_leaves(
    stream_id: int, other: int, mask: int
) -> None:
    differing = [bit for bit in range(15) if (stream_id ^ other) >> bit & 1]
    assert matches(encode_smr(stream_id, mask), other) is all(mask >> bit & 1 for bit in differing)
    assert matches(encode_smr(stream_id, mask), stream_id)


@pytest.mark.parametrize("mask", [0, 0x7FFF])
def test_a_register_without_the_valid_bit_matches_nothing(mask: int) -> None:
    assert not matches(encode_smr(0xF8, mask) & ~(1 << 31), 0xF8)


@pytest.mark.parametrize(("stream_id", "mask"), [(0x8000, 0), (-1, 0), (0, 0x8000), (0, -1)])
def test_a_stream_id_or_a_mask_of_more_than_15_bits_is_refused(stream_id: int, mask: int) -> None:
    with pytest.raises(ScenarioError, match="does not fit into 15 bits"):
        encode_smr(stream_id, mask)


def test_the_types_of_a_stream_are_numbered_from_bit_16_on() -> None:
    assert (S2CR_TRANSLATE, S2CR_BYPASS, S2CR_FAULT) == (0, 0x1_0000, 0x2_0000)
