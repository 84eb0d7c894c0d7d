"""What the ledger calls legal, one rule at a time. Three levels of tables; page 3 is mapped before the first step."""

from math import inf
from typing import NamedTuple

import pytest

from emu.engine import Kind, Space
from emu.engine.execution import ReadRecorder
from emu.iommus.formats import FAULT
from emu.iommus.ledger import Ledger
from emu.iommus.objects import leaf_space, object_number, table_space
from emu.iommus.paths import Tables
from emu.iommus.vtd.formats import READ, VTD_FORMAT, WRITE, encode_leaf, encode_table
from emu.memory import WORDS, Memory, Version, word_number
from emu.units import Dfn, Maddr
from tests.iommus import six_levels

TOP, MIDDLE, BOTTOM, SPARE = Maddr(0x1000), Maddr(0x2000), Maddr(0x3000), Maddr(0x4000)
TAG, OTHER_TAG = 7, 8
TABLES = Tables(TAG, TOP, 3)
PAGE, NEIGHBOUR, FAR = Dfn(3), Dfn(4), Dfn(512)

OLD = encode_leaf(Maddr(0xA000), read=True, write=True)
NEW = encode_leaf(Maddr(0xB000), read=True, write=True)
NEWEST = encode_leaf(Maddr(0xC000), read=True, write=True)
LARGE = encode_leaf(Maddr(0x20_0000), read=True, write=True, level=2)
ABSENT = 0
FAULTS = FAULT.leaf

LEAF_WORD = BOTTOM + 8 * PAGE
SPARE_WORD = SPARE + 8 * PAGE


class Unit(NamedTuple):
    memory: Memory
    ledger: Ledger

    def leaves(self, dfn: Dfn = PAGE, tag: int = TAG) -> set[int]:
        return {translation.leaf for translation in self.ledger.legal(Tables(tag, TOP, 3), dfn)}

    def rights(self) -> set[tuple[bool, bool]]:
        return {(translation.read, translation.write) for translation in self.ledger.legal(TABLES, PAGE)}


@pytest.fixture
def unit() -> Unit:
    memory = Memory()
    memory.put(TOP, encode_table(MIDDLE))
    memory.put(MIDDLE, encode_table(BOTTOM))
    memory.put(LEAF_WORD, OLD)
    return Unit(memory, Ledger("vtd0", memory, VTD_FORMAT, recorder=ReadRecorder()))


def test_what_the_tables_hold_is_legal(unit: Unit) -> None:
    assert unit.leaves() == {OLD}


def test_a_page_that_was_never_mapped_may_only_fault(unit: Unit) -> None:
    assert unit.leaves(FAR) == {FAULTS}


def test_a_new_leaf_is_legal_at_once_and_the_old_one_still(unit: Unit) -> None:
    unit.memory.put(LEAF_WORD, NEW, step=1)
    assert unit.leaves() == {OLD, NEW}


def test_a_removed_leaf_stays_legal_until_an_invalidation(unit: Unit) -> None:
    unit.memory.put(LEAF_WORD, ABSENT, step=1)
    assert unit.leaves() == {OLD, FAULTS}
    unit.ledger.complete(2, TAG, PAGE, 0)
    assert unit.leaves() == {FAULTS}


def test_an_old_leaf_stays_legal_until_an_invalidation_that_began_after_its_replacement_completes(unit: Unit) -> None:
    unit.memory.put(LEAF_WORD, NEW, step=1)
    start = 2
    assert OLD in unit.leaves()
    unit.ledger.complete(start, TAG, PAGE, 0)
    assert unit.leaves() == {NEW}


def test_an_invalidation_that_began_before_the_store_does_not_count(unit: Unit) -> None:
    start = 1
    unit.memory.put(LEAF_WORD, NEW, step=2)
    unit.ledger.complete(start, TAG, PAGE, 0)
    assert unit.leaves() == {OLD, NEW}


def test_a_leaf_that_stood_only_while_an_invalidation_executed_stays_legal_after_it(unit: Unit) -> None:
    start = 1
    unit.memory.put(LEAF_WORD, NEW, step=2)
    unit.memory.put(LEAF_WORD, NEWEST, step=3)
    unit.ledger.complete(start, TAG, PAGE, 0)
    assert NEW in unit.leaves()


def test_a_page_selective_invalidation_leaves_other_pages(unit: Unit) -> None:
    unit.memory.put(LEAF_WORD, NEW, step=1)
    unit.ledger.complete(2, TAG, NEIGHBOUR, 0)
    assert unit.leaves() == {OLD, NEW}


@pytest.mark.parametrize(("dfn", "order"), [(Dfn(2), 1), (Dfn(0), 2), (Dfn(0), 9), (Dfn(0), None)])
def test_an_invalidation_covers_every_page_of_its_order(unit: Unit, dfn: Dfn, order: int | None) -> None:
    unit.memory.put(LEAF_WORD, NEW, step=1)
    unit.ledger.complete(2, TAG, dfn, order)
    assert unit.leaves() == {NEW}


@pytest.mark.parametrize(("dfn", "order"), [(Dfn(0), 1), (Dfn(4), 2), (Dfn(512), 9)])
def test_an_invalidation_covers_no_page_beyond_its_order(unit: Unit, dfn: Dfn, order: int) -> None:
    unit.memory.put(LEAF_WORD, NEW, step=1)
    unit.ledger.complete(2, TAG, dfn, order)
    assert unit.leaves() == {OLD, NEW}


def test_an_invalidation_of_one_tag_leaves_another_tag_of_the_same_tables(unit: Unit) -> None:
    unit.memory.put(LEAF_WORD, NEW, step=1)
    unit.ledger.complete(2, TAG, Dfn(0), None)
    assert unit.leaves(tag=OTHER_TAG) == {OLD, NEW}


@pytest.mark.parametrize("tag", [TAG, OTHER_TAG])
def test_a_global_invalidation_covers_every_tag(unit: Unit, tag: int) -> None:
    unit.memory.put(LEAF_WORD, NEW, step=1)
    unit.ledger.complete(2, None, Dfn(0), None)
    assert unit.leaves(tag=tag) == {NEW}


def test_a_leaf_only_invalidation_drops_the_leaf(unit: Unit) -> None:
    unit.memory.put(LEAF_WORD, NEW, step=1)
    unit.ledger.complete(2, TAG, PAGE, 0, leaf_only=True)
    assert unit.leaves() == {NEW}


def test_a_leaf_stored_into_an_unlinked_table_is_legal_through_the_cached_table_entry(unit: Unit) -> None:
    unit.memory.put(MIDDLE, encode_table(SPARE), step=1)
    unit.memory.put(LEAF_WORD, NEW, step=2)
    assert unit.leaves() == {OLD, NEW, FAULTS}


def test_a_cached_table_entry_keeps_an_unlinked_tables_leaf_legal_after_a_leaf_only_invalidation(unit: Unit) -> None:
    unit.memory.put(MIDDLE, encode_table(SPARE), step=1)
    unit.ledger.complete(2, TAG, PAGE, 0, leaf_only=True)
    assert unit.leaves() == {OLD, FAULTS}


def test_an_invalidation_that_is_not_leaf_only_ends_an_unlinked_tables_leaf(unit: Unit) -> None:
    unit.memory.put(MIDDLE, encode_table(SPARE), step=1)
    unit.ledger.complete(2, TAG, PAGE, 0, leaf_only=True)
    unit.ledger.complete(3, TAG, PAGE, 0)
    assert unit.leaves() == {FAULTS}


def test_the_invalidation_of_a_neighbour_drops_the_table_entry_that_the_pages_share(unit: Unit) -> None:
    unit.memory.put(MIDDLE, encode_table(SPARE), step=1)
    unit.ledger.complete(2, TAG, NEIGHBOUR, 0)
    unit.memory.put(LEAF_WORD, NEW, step=3)
    assert unit.leaves() == {OLD, FAULTS}


def test_the_invalidation_of_a_far_page_leaves_the_table_entry(unit: Unit) -> None:
    unit.memory.put(MIDDLE, encode_table(SPARE), step=1)
    unit.ledger.complete(2, TAG, FAR, 0)
    unit.memory.put(LEAF_WORD, NEW, step=3)
    assert unit.leaves() == {OLD, NEW, FAULTS}


def test_a_table_that_was_linked_after_its_leaf_was_removed_never_gave_that_leaf(unit: Unit) -> None:
    unit.memory.put(SPARE_WORD, NEW, step=1)
    unit.memory.put(SPARE_WORD, ABSENT, step=2)
    unit.memory.put(MIDDLE, encode_table(SPARE), step=3)
    assert unit.leaves() == {OLD, FAULTS}


def test_a_superpage_translates_every_page_that_it_spans(unit: Unit) -> None:
    unit.memory.put(MIDDLE, LARGE, step=1)
    unit.ledger.complete(2, TAG, Dfn(511), 0)
    assert unit.leaves(Dfn(511)) == {LARGE}


def test_after_a_change_of_page_size_both_sizes_are_legal(unit: Unit) -> None:
    unit.memory.put(MIDDLE, LARGE, step=1)
    assert unit.leaves() == {OLD, LARGE}


def test_the_invalidation_of_one_page_of_a_superpage_leaves_the_others(unit: Unit) -> None:
    unit.memory.put(MIDDLE, LARGE, step=1)
    unit.memory.put(MIDDLE, ABSENT, step=2)
    unit.ledger.complete(3, TAG, PAGE, 0)
    assert (unit.leaves(PAGE), unit.leaves(NEIGHBOUR)) == ({FAULTS}, {LARGE, FAULTS})


def test_a_translation_permits_what_every_level_grants(unit: Unit) -> None:
    unit.memory.put(MIDDLE, encode_table(BOTTOM) & ~WRITE)
    assert unit.rights() == {(True, False)}


def test_levels_that_grant_nothing_in_common_permit_nothing(unit: Unit) -> None:
    unit.memory.put(TOP, encode_table(MIDDLE) & ~READ)
    unit.memory.put(MIDDLE, encode_table(BOTTOM) & ~WRITE)
    assert unit.rights() == {(False, False)}


def test_one_leaf_is_legal_with_the_permissions_of_the_old_and_of_the_new_table_entry(unit: Unit) -> None:
    unit.memory.put(MIDDLE, encode_table(BOTTOM) & ~WRITE, step=1)
    assert unit.rights() == {(True, True), (True, False)}


def test_paths_come_with_the_newest_values_first(unit: Unit) -> None:
    unit.memory.put(LEAF_WORD, NEW, step=1)
    unit.memory.put(LEAF_WORD, NEWEST, step=2)
    assert [path.translation.leaf for path in unit.ledger.paths(TABLES, PAGE)] == [NEWEST, NEW, OLD]


def test_a_path_names_the_word_that_it_reads_at_each_level(unit: Unit) -> None:
    (path,) = unit.ledger.paths(TABLES, PAGE)
    assert [(entry.level, entry.address) for entry in path.entries] == [(3, TOP), (2, MIDDLE), (1, LEAF_WORD)]


def test_old_paths_are_only_those_replaced_at_or_before_the_step(unit: Unit) -> None:
    unit.memory.put(LEAF_WORD, NEW, step=1)
    unit.memory.put(LEAF_WORD, NEWEST, step=2)
    old = [{path.translation.leaf for path in unit.ledger.old_paths(TABLES, PAGE, step)} for step in range(3)]
    assert old == [set(), {OLD}, {OLD, NEW}]


def test_a_path_through_a_replaced_table_entry_is_old_though_its_leaf_still_stands(unit: Unit) -> None:
    unit.memory.put(MIDDLE, encode_table(SPARE), step=1)
    assert [path.translation.leaf for path in unit.ledger.old_paths(TABLES, PAGE, 1)] == [OLD]


def test_a_path_is_overwritten_by_the_entry_that_was_replaced_first(unit: Unit) -> None:
    unit.memory.put(LEAF_WORD, NEW, step=1)
    unit.memory.put(MIDDLE, encode_table(SPARE), step=2)
    replaced = {
        path.translation.leaf: entry.address
        for path in unit.ledger.old_paths(TABLES, PAGE, 2)
        if (entry := path.overwritten_by(2)) is not None
    }
    assert replaced == {OLD: LEAF_WORD, NEW: MIDDLE}


def test_the_question_for_old_paths_reads_the_object_of_the_page(unit: Unit) -> None:
    unit.ledger.recorder.is_on = True
    list(unit.ledger.old_paths(TABLES, PAGE, 0))
    assert unit.ledger.recorder.reads == [(unit.ledger.space, object_number(TAG, PAGE))]


def test_the_question_for_old_paths_reads_the_words_below_a_replaced_table_entry(unit: Unit) -> None:
    unit.memory.put(MIDDLE, encode_table(SPARE), step=1)
    unit.ledger.recorder.is_on = True
    list(unit.ledger.old_paths(TABLES, PAGE, 1))
    assert [number for space, number in unit.ledger.recorder.reads if space == WORDS] == [word_number(LEAF_WORD)]


def words(reads: list[tuple[Space, int]]) -> list[int]:
    return [number for space, number in reads if space == WORDS]


def test_the_words_read_are_those_below_a_replaced_table_entry(unit: Unit) -> None:
    unit.memory.put(MIDDLE, encode_table(SPARE), step=1)
    assert words(unit.ledger.objects_read(TABLES, PAGE, 1)) == [word_number(LEAF_WORD)]


def test_the_words_read_below_a_replaced_top_entry_are_those_of_every_lower_level(unit: Unit) -> None:
    unit.memory.put(TOP, encode_table(SPARE), step=1)
    assert words(unit.ledger.objects_read(TABLES, PAGE, 1)) == [word_number(MIDDLE), word_number(LEAF_WORD)]


def test_asking_for_the_words_read_records_nothing(unit: Unit) -> None:
    unit.ledger.recorder.is_on = True
    unit.ledger.objects_read(TABLES, PAGE, 0)
    assert unit.ledger.recorder.reads == []


def test_leaf_at_is_what_the_tables_held_at_the_step(unit: Unit) -> None:
    unit.memory.put(LEAF_WORD, NEW, step=2)
    assert [unit.ledger.leaf_at(TABLES, PAGE, step) for step in range(4)] == [OLD, OLD, NEW, NEW]


def test_leaf_at_follows_the_table_that_was_linked_at_the_step(unit: Unit) -> None:
    unit.memory.put(SPARE_WORD, NEW, step=1)
    unit.memory.put(MIDDLE, encode_table(SPARE), step=2)
    assert [unit.ledger.leaf_at(TABLES, PAGE, step) for step in (1, 2)] == [OLD, NEW]


def test_leaf_at_finds_a_superpage(unit: Unit) -> None:
    unit.memory.put(MIDDLE, LARGE, step=1)
    assert unit.ledger.leaf_at(TABLES, PAGE, 1) == LARGE


def test_leaf_at_is_zero_where_a_level_is_not_present(unit: Unit) -> None:
    unit.memory.put(MIDDLE, ABSENT, step=1)
    assert unit.ledger.leaf_at(TABLES, PAGE, 1) == 0


def test_a_page_that_is_mapped_may_fault_no_more(unit: Unit) -> None:
    unit.memory.put(LEAF_WORD, ABSENT, step=1)
    unit.memory.put(LEAF_WORD, NEW, step=2)
    assert unit.leaves() == {OLD, NEW}


@pytest.fixture
def caching(unit: Unit) -> Unit:
    """Return a unit that caches non-present entries."""
    return Unit(unit.memory, Ledger("vtd0", unit.memory, VTD_FORMAT, caches_non_present=True))


def test_a_cached_fault_stays_legal_after_the_page_is_mapped(caching: Unit) -> None:
    caching.memory.put(LEAF_WORD, ABSENT, step=1)
    caching.memory.put(LEAF_WORD, NEW, step=2)
    assert caching.leaves() == {OLD, NEW, FAULTS}


@pytest.mark.parametrize("leaf_only", [False, True])
def test_an_invalidation_ends_a_cached_fault(caching: Unit, leaf_only: bool) -> None:
    caching.memory.put(LEAF_WORD, ABSENT, step=1)
    caching.memory.put(LEAF_WORD, NEW, step=2)
    caching.ledger.complete(3, TAG, PAGE, 0, leaf_only=leaf_only)
    assert caching.leaves() == {NEW}


@pytest.mark.parametrize(("tag", "dfn"), [(OTHER_TAG, PAGE), (TAG, NEIGHBOUR)])
def test_an_invalidation_of_something_else_leaves_a_cached_fault(caching: Unit, tag: int, dfn: Dfn) -> None:
    caching.memory.put(LEAF_WORD, ABSENT, step=1)
    caching.memory.put(LEAF_WORD, NEW, step=2)
    caching.ledger.complete(3, tag, dfn, 0)
    assert FAULTS in caching.leaves()


def test_a_missing_table_may_be_cached_as_a_fault_of_each_of_its_pages(caching: Unit) -> None:
    caching.memory.put(MIDDLE + 8, encode_table(BOTTOM), step=1)
    caching.memory.put(BOTTOM, NEW, step=2)
    assert caching.leaves(FAR) == {NEW, FAULTS}


def test_a_word_that_may_wait_in_a_cache_leads_to_what_was_there_before_and_to_the_new_value(unit: Unit) -> None:
    unit.memory.put(LEAF_WORD, ABSENT, step=1)
    unit.ledger.complete(2, TAG, PAGE, 0)
    unit.memory.versions[LEAF_WORD].append(Version(3, inf, NEW))
    assert unit.leaves() == {FAULTS, NEW}


def test_a_value_that_was_overwritten_before_its_line_was_written_back_may_have_been_read(unit: Unit) -> None:
    unit.memory.versions[LEAF_WORD] = [Version(0, 0, OLD), Version(1, inf, NEW), Version(2, 5, NEWEST)]
    assert unit.leaves() == {OLD, NEW, NEWEST}
    unit.ledger.complete(4, TAG, PAGE, 0)
    assert unit.leaves() == {OLD, NEW, NEWEST}
    unit.ledger.complete(5, TAG, PAGE, 0)
    assert unit.leaves() == {NEWEST}


@pytest.mark.parametrize("tag", [TAG, OTHER_TAG])
def test_the_access_to_every_tag_covers_the_pages_of_each(unit: Unit, tag: int) -> None:
    everything = unit.ledger.access(None, 0, 0, Kind.COMMUTE)
    assert everything.covers(unit.ledger.space, object_number(tag, PAGE))


def test_the_access_to_a_range_of_one_tag_covers_no_other_tag(unit: Unit) -> None:
    whole_tag = unit.ledger.access(TAG, 0, (1 << 52) - 1, Kind.COMMUTE)
    assert not whole_tag.covers(unit.ledger.space, object_number(OTHER_TAG, PAGE))


def test_an_invalidation_of_a_page_declares_all_of_the_ledger_that_a_check_of_the_page_reads() -> None:
    memory = Memory()
    ledger = Ledger("unit", memory, six_levels.SIX_LEVELS)
    dfn = Dfn(sum((level + 10) << 9 * (level - 1) for level in range(1, 7)))
    words = {level: six_levels.encode_table(Maddr((level - 1) << 12), level - 1) for level in range(2, 7)}
    words[1] = six_levels.encode_leaf(Maddr(0xA000), read=True, write=True)
    for level, word in words.items():
        memory.put((level << 12) + 8 * (level + 10), word)
    read = [each for each in ledger.objects_read(Tables(TAG, Maddr(6 << 12), 6), dfn, inf) if each[0] != WORDS]
    declared = [ledger.access(TAG, dfn, dfn, Kind.COMMUTE), *ledger.drop_accesses(TAG, dfn, dfn)]
    assert {space for space, _ in read} == {leaf_space("unit"), *(table_space("unit", level) for level in range(2, 7))}
    assert [each for each in read if not any(access.covers(*each) for access in declared)] == []
