"""The stream table and its cache: what may be used of an entry that was replaced, or was read in pieces."""

from math import inf

import pytest

from emu.iommus.paths import UNTRANSLATED, Tables
from emu.iommus.smmu.v3.formats import (
    ABORT,
    Config,
    StreamTableEntry,
    encode_entry,
    encode_l1_descriptor,
    translating,
)
from emu.iommus.smmu.v3.stream_table import StreamTable
from emu.memory import Memory
from emu.units import Maddr, frame_address, parse_source_id

DEVICE = parse_source_id("00:1f.0")
OTHER_BUS = parse_source_id("01:00.0")
OLD, NEW = translating(1, 40, Maddr(0xA000)), translating(2, 40, Maddr(0xB000))
INVALID = StreamTableEntry(is_valid=False)
CLEARED = StreamTableEntry(config=Config.STAGE_2, root=OLD.root)
"""What a walker finds that reads the first word before a detach, and the third one after."""


def table_with(entry: StreamTableEntry = OLD, *, is_coherent: bool = True, aarch32: bool = False) -> StreamTable:
    """Return a table with the entries of bus 0, one of which is written."""
    memory = Memory(is_coherent=is_coherent)
    base, bus = (frame_address(memory.allocate_table()) for _ in range(2))
    table = StreamTable("smmuv30", memory, base, ipa_bits=40, aarch32=aarch32)
    memory.put(table.l1_address(DEVICE), encode_l1_descriptor(bus))
    write(table, entry, 0)
    return table


def write(table: StreamTable, entry: StreamTableEntry, step: int) -> None:
    """Write all words of an entry at once."""
    for address, word in zip(table.words(DEVICE), encode_entry(entry), strict=True):
        table.memory.put(address, word, step=step)


def detach(table: StreamTable) -> None:
    """Write an entry that aborts as Xen's detach does: word 0 at step 1, word 1 at step 2, word 2 at step 3."""
    for number, word in enumerate(encode_entry(ABORT)[:3]):
        table.memory.put(table.words(DEVICE)[number], word, step=number + 1)


def invalidate(table: StreamTable, source_id: int | None, start: int, step: int) -> int:
    """Drop entries and complete at once; return how many were dropped."""
    dropped = table.remove(source_id, start)
    table.complete(source_id, start, step)
    return dropped


def legal(table: StreamTable) -> list[StreamTableEntry]:
    """Return the entries that the unit may use now, the newest first."""
    return [entry for entry, _, until in table.lifetimes(DEVICE) if until == inf]


def test_entries_lie_64_bytes_apart_below_the_descriptor_of_their_bus() -> None:
    table = table_with()
    bus = table.address(0)
    assert bus is not None
    assert [table.address(source_id) for source_id in (1, 0xFF)] == [bus + 0x40, bus + 0x3FC0]
    assert table.l1_address(OTHER_BUS) == table.base + 8


def test_a_stream_to_whose_entry_no_descriptor_leads_is_aborted() -> None:
    table = table_with()
    assert table.address(OTHER_BUS) is None
    assert list(table.lifetimes(OTHER_BUS)) == [(ABORT, 0, inf)]
    assert table.entry_seen(OTHER_BUS) == ABORT


def test_what_the_table_holds_is_legal_and_a_replaced_entry_until_an_invalidation_completes() -> None:
    table = table_with()
    assert legal(table) == [OLD] == [table.entry_seen(DEVICE)]
    write(table, NEW, 1)
    assert legal(table)[0] == NEW == table.entry_seen(DEVICE)
    assert OLD in legal(table)
    table.remove(DEVICE, 2)
    assert OLD in legal(table), "it is dropped, and its requests may still be in flight"
    table.complete(DEVICE, 2, 3)
    assert legal(table) == [NEW]


@pytest.mark.parametrize("replaced", [INVALID, ABORT])
def test_an_entry_that_lets_no_request_through_is_cached_like_any_other(replaced: StreamTableEntry) -> None:
    table = table_with(replaced)
    write(table, NEW, 1)
    assert [table.tables_of(entry) for entry in legal(table)][-1] is None
    invalidate(table, DEVICE, 2, 3)
    assert legal(table) == [NEW]


@pytest.mark.parametrize(("start", "ends"), [(0, False), (1, True)])
def test_an_invalidation_counts_only_if_it_began_when_the_first_word_was_replaced_or_later(
    start: int, ends: bool
) -> None:
    table = table_with()
    detach(table)
    invalidate(table, DEVICE, start, 9)
    assert (OLD not in legal(table)) is ends


def test_words_read_before_and_after_a_detach_make_an_entry_that_was_never_stored() -> None:
    table = table_with()
    detach(table)
    assert legal(table) == [CLEARED, ABORT, OLD]
    lives = {entry: (since, until) for entry, since, until in table.lifetimes(DEVICE)}
    assert lives[CLEARED] == (3, inf), "not before the third word was cleared"
    invalidate(table, DEVICE, 4, 6)
    assert legal(table) == [ABORT]
    assert {entry: until for entry, _, until in table.lifetimes(DEVICE)}[CLEARED] == 6


def test_words_are_read_from_the_lowest_on_so_no_entry_has_an_old_word_behind_a_new_one() -> None:
    table = table_with(ABORT)
    for number in (2, 3, 1, 0):
        table.memory.put(table.words(DEVICE)[number], encode_entry(NEW)[number], step=4 - number)
    assert legal(table) == [NEW, ABORT]


def test_no_entry_is_torn_by_words_that_an_invalidation_lies_between() -> None:
    table = table_with()
    first, second, third, _ = table.words(DEVICE)
    cleared = encode_entry(ABORT)
    table.memory.put(first, cleared[0], step=1)
    invalidate(table, DEVICE, 2, 3)
    table.memory.put(second, cleared[1], step=4)
    table.memory.put(third, cleared[2], step=5)
    assert CLEARED not in [entry for entry, _, _ in table.lifetimes(DEVICE)]


def test_a_unit_that_does_not_snoop_may_use_the_old_entry_until_its_line_is_written_back_and_invalidated() -> None:
    table = table_with(is_coherent=False)
    write(table, ABORT, 1)
    invalidate(table, DEVICE, 2, 3)
    assert table.entry_seen(DEVICE) == OLD
    assert OLD in legal(table)
    table.memory.write_back(table.words(DEVICE)[0], 4)
    assert table.entry_seen(DEVICE) == ABORT
    assert OLD in legal(table)
    invalidate(table, DEVICE, 5, 6)
    assert legal(table) == [ABORT]


def test_an_entry_names_tables_by_its_vmid_or_lets_requests_pass_or_aborts_them() -> None:
    table = table_with()
    assert table.tables_of(OLD) == Tables(1, Maddr(0xA000), 3)
    assert table.tables_of(StreamTableEntry(config=Config.BYPASS)) == Tables(UNTRANSLATED, Maddr(0), 0)
    for entry in (ABORT, INVALID, StreamTableEntry(is_valid=False, config=Config.BYPASS), StreamTableEntry(config=5)):
        assert table.tables_of(entry) is None


def test_an_entry_without_aa64_is_legal_only_where_the_unit_walks_tables_of_aarch32() -> None:
    assert table_with().tables_of(CLEARED) is None
    assert table_with(aarch32=True).tables_of(CLEARED) == Tables(0, OLD.root, 2)


def test_an_entry_for_addresses_of_another_width_aborts() -> None:
    assert table_with().tables_of(translating(1, 48, OLD.root)) is None


def test_an_invalidation_of_one_stream_drops_its_cached_entry_alone_and_says_how_many() -> None:
    table = table_with()
    table.entries = {DEVICE: (OLD, ()), OTHER_BUS: (NEW, ())}
    assert invalidate(table, DEVICE, 1, 2) == 1
    assert list(table.entries) == [OTHER_BUS]
    assert invalidate(table, None, 3, 4) == 1
