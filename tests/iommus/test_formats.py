"""What follows from a table format, whichever it is: two levels of different widths, and six that may be skipped."""

import pytest

from emu.iommus.formats import FAULT, Entry, TableFormat, Translation, base_of_order
from emu.units import Dfn, Maddr
from tests.iommus.six_levels import SIX_LEVELS, encode_leaf, encode_table
from tests.toy import FORMAT as TWO_LEVELS

DFN = Dfn(0b1_0110_0001_0000101)  # nine bits index level 2, seven bits level 1
TABLE = Maddr(0x5000)


@pytest.mark.parametrize(("level", "index"), [(1, 0b0000101), (2, 0b1_0110_0001)])
def test_the_index_at_a_level_is_the_bits_of_the_dfn_that_are_of_this_level(level: int, index: int) -> None:
    assert TWO_LEVELS.index(DFN, level) == index


def test_bits_of_a_dfn_above_all_levels_index_nothing() -> None:
    assert TWO_LEVELS.index(Dfn(1 << 16 | DFN), 2) == TWO_LEVELS.index(DFN, 2)


@pytest.mark.parametrize(("level", "base"), [(1, DFN), (2, 0b1_0110_0001_0000000)])
def test_the_base_at_a_level_has_no_bits_below_the_index(level: int, base: int) -> None:
    assert TWO_LEVELS.base(DFN, level) == base


@pytest.mark.parametrize(("level", "span"), [(1, 1), (2, 1 << 7)])
def test_an_entry_spans_what_a_table_of_the_level_below_translates(level: int, span: int) -> None:
    assert TWO_LEVELS.span(level) == span


@pytest.mark.parametrize(("levels", "reach"), [(1, 1 << 7), (2, 1 << 16)])
def test_tables_reach_as_far_as_the_indexes_of_all_their_levels(levels: int, reach: int) -> None:
    assert TWO_LEVELS.reach(levels) == reach


@pytest.mark.parametrize(("level", "address"), [(1, 0x5000 + 8 * 0b0000101), (2, 0x5000 + 8 * 0b1_0110_0001)])
def test_the_word_of_a_dfn_lies_eight_bytes_for_each_index_into_the_table(level: int, address: int) -> None:
    assert TWO_LEVELS.entry_address(TABLE, DFN, level) == address


@pytest.mark.parametrize(("format_", "levels"), [(TWO_LEVELS, 2), (SIX_LEVELS, 6)], ids=["two", "six"])
def test_a_devices_own_entry_is_told_from_the_tables_of_every_level(format_: TableFormat, levels: int) -> None:
    assert format_.device_level > levels


@pytest.mark.parametrize(("format_", "levels"), [(TWO_LEVELS, (2,)), (SIX_LEVELS, (2, 3, 4, 5, 6))], ids=["two", "six"])
def test_every_level_but_the_lowest_may_lead_to_a_table(format_: TableFormat, levels: tuple[int, ...]) -> None:
    assert format_.table_levels == levels


@pytest.mark.parametrize(("format_", "orders"), [(TWO_LEVELS, (0,)), (SIX_LEVELS, (0, 9, 18))], ids=["two", "six"])
def test_a_leaf_may_map_what_an_entry_spans_at_the_levels_of_leaves(
    format_: TableFormat, orders: tuple[int, ...]
) -> None:
    assert format_.leaf_orders == orders


def test_a_word_that_is_not_present_is_read_as_none() -> None:
    assert SIX_LEVELS.read(0, 3, Dfn(0)) is None


@pytest.mark.parametrize("dfn", [Dfn(0), Dfn((1 << 52) - 1)])
def test_an_entry_that_leads_to_the_next_level_is_read_alike_for_every_dfn(dfn: Dfn) -> None:
    assert SIX_LEVELS.read(encode_table(TABLE, 4), 5, dfn) == Entry(TABLE, 4, 0, read=True, write=True)


@pytest.mark.parametrize("dfn", [Dfn(0), Dfn((1 << 52) - 1)])
def test_a_leaf_above_the_lowest_level_is_read_alike_for_every_dfn(dfn: Dfn) -> None:
    leaf = encode_leaf(Maddr(1 << 30), read=True, write=False, level=3)
    assert SIX_LEVELS.read(leaf, 3, dfn) == Entry(Maddr(1 << 30), 0, 18, read=True, write=False)


SKIPS_4_AND_3 = encode_table(TABLE, 2)
"""Stands at level 5."""


@pytest.mark.parametrize("bit", [0, 17, 36, 51])
def test_an_entry_that_skips_levels_is_read_whatever_the_other_levels_indexes(bit: int) -> None:
    assert SIX_LEVELS.read(SKIPS_4_AND_3, 5, Dfn(1 << bit)) == Entry(TABLE, 2, 0, read=True, write=True)


@pytest.mark.parametrize("bit", [18, 26, 27, 35])
def test_an_entry_that_skips_levels_leads_nowhere_for_a_dfn_with_an_index_at_one_of_them(bit: int) -> None:
    assert SIX_LEVELS.read(SKIPS_4_AND_3, 5, Dfn(1 << bit)) is None


@pytest.mark.parametrize(("dfn", "frame"), [(0x200, 0x1200), (0x2FF, 0x12FF), (0x7FF, 0x13FF)])
def test_a_translation_gives_each_dfn_the_frame_at_its_place_in_the_page(dfn: int, frame: int) -> None:
    assert Translation(1, 9, read=True, write=True, address=Maddr(0x120_0000)).frame(Dfn(dfn)) == frame


def test_a_fault_gives_no_frame() -> None:
    assert FAULT.frame(DFN) is None


@pytest.mark.parametrize(("order", "base"), [(0, 0x2FF), (4, 0x2F0), (9, 0x200), (10, 0)])
def test_a_dfn_lies_among_those_that_share_its_bits_from_an_order_on(order: int, base: int) -> None:
    assert base_of_order(Dfn(0x2FF), order) == base
