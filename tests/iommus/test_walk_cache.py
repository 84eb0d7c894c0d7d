"""The cached table entries of a unit, by themselves: what is found, what is dropped, and where a walk may start."""

import pytest

from emu.engine import Kind, Latch
from emu.engine.accesses import Access
from emu.iommus.iotlb import Iotlb
from emu.iommus.paths import Tables
from emu.iommus.requests import Request, TableRead
from emu.iommus.vtd.formats import VTD_FORMAT, encode_leaf, encode_table
from emu.iommus.walk_cache import FindStarts, ReachedTable, WalkCache
from emu.memory import Memory
from emu.units import PAGE_SIZE, Dfn, Maddr
from tests.iommus import six_levels

NETWORK, DISK = 0xF8, 0x10
TAG, OTHER_TAG = 7, 8
TOP, MIDDLE, BOTTOM, NEW = Maddr(0x1000), Maddr(0x2000), Maddr(0x3000), Maddr(0x4000)
TABLES = Tables(TAG, TOP, 3)
G = Dfn(1 << 18 | 1 << 9 | 1)
IN_BOTTOM, IN_MIDDLE, ELSEWHERE = Dfn(G + 1), Dfn(G + (1 << 9)), Dfn(G + (1 << 18))
TOP_WORD, MIDDLE_WORD, LEAF = (VTD_FORMAT.entry_address(*one) for one in ((TOP, G, 3), (MIDDLE, G, 2), (BOTTOM, G, 1)))
EVERYTHING = (Dfn(0), Dfn((1 << 52) - 1))


def reads_of_walk(step: int = 0) -> tuple[TableRead, ...]:
    words = ((3, TOP_WORD), (2, MIDDLE_WORD), (1, LEAF))
    return tuple(TableRead(level, VTD_FORMAT.orders[level], word, step, level == 1) for level, word in words)


@pytest.fixture
def memory() -> Memory:
    memory = Memory()
    memory.put(TOP_WORD, encode_table(MIDDLE))
    memory.put(MIDDLE_WORD, encode_table(BOTTOM))
    memory.put(LEAF, encode_leaf(Maddr(0x10_0000), read=True, write=True))
    return memory


@pytest.fixture
def cache(memory: Memory) -> WalkCache:
    """A cache that holds both table entries of a walk for G."""
    cache = WalkCache(Iotlb("vtd0", None, VTD_FORMAT), memory, lambda _: False)
    cache.insert_walk(NETWORK, TABLES, G, reads_of_walk())
    return cache


def tables(found: list[ReachedTable]) -> list[Maddr]:
    return [one.tables.root for one in found]


def test_every_table_entry_of_a_walk_is_cached_and_its_leaf_is_not(cache: WalkCache) -> None:
    assert tables(cache.find(NETWORK, G)) == [BOTTOM, MIDDLE]


def test_an_entry_is_cached_though_no_leaf_below_it_is_valid(memory: Memory) -> None:
    memory.put(LEAF, 0)
    cache = WalkCache(Iotlb("vtd0", None, VTD_FORMAT), memory, lambda _: False)
    cache.insert_walk(NETWORK, TABLES, G, reads_of_walk())
    assert tables(cache.find(NETWORK, G)) == [BOTTOM, MIDDLE]


@pytest.mark.parametrize(
    ("page", "found"), [(IN_BOTTOM, [BOTTOM, MIDDLE]), (IN_MIDDLE, [MIDDLE]), (ELSEWHERE, []), (Dfn(0), [])]
)
def test_an_entry_is_found_for_every_page_that_its_table_translates(
    cache: WalkCache, page: Dfn, found: list[Maddr]
) -> None:
    assert tables(cache.find(NETWORK, page)) == found


def test_an_entry_is_found_only_for_its_device(cache: WalkCache) -> None:
    assert cache.find(DISK, G) == []


@pytest.mark.parametrize(
    ("tag", "page", "left"),
    [
        (TAG, G, []),
        (TAG, IN_BOTTOM, []),
        (TAG, IN_MIDDLE, [BOTTOM]),
        (TAG, ELSEWHERE, [BOTTOM, MIDDLE]),
        (OTHER_TAG, G, [BOTTOM, MIDDLE]),
        (None, G, []),
    ],
)
def test_an_invalidation_drops_the_entries_of_its_tag_that_stand_for_one_of_its_pages(
    cache: WalkCache, tag: int | None, page: Dfn, left: list[Maddr]
) -> None:
    assert cache.invalidate(tag, page, page) == 2 - len(left)
    assert tables(cache.find(NETWORK, G)) == left


def test_one_invalidation_drops_the_entries_of_all_devices(cache: WalkCache) -> None:
    cache.insert_walk(DISK, TABLES, G, reads_of_walk())
    assert cache.invalidate(TAG, *EVERYTHING) == 4
    assert cache.entries == {}


def test_another_value_of_an_entry_is_cached_beside_the_first_and_both_are_dropped(
    cache: WalkCache, memory: Memory
) -> None:
    memory.put(MIDDLE_WORD, encode_table(NEW))
    cache.insert_walk(NETWORK, TABLES, G, reads_of_walk())
    assert tables(cache.find(NETWORK, G)) == [NEW, BOTTOM, MIDDLE]
    assert cache.invalidate(TAG, G, G) == 3


def test_an_entry_that_is_read_again_is_cached_once_with_the_later_reads(cache: WalkCache) -> None:
    bottom, _ = cache.find(NETWORK, G)
    later = bottom._replace(reads=reads_of_walk(9)[:2])
    cache.insert(later)
    assert cache.find(NETWORK, G)[0] == later
    assert len(cache.find(NETWORK, G)) == 2


def test_an_entry_has_the_permissions_that_all_entries_above_it_grant(memory: Memory) -> None:
    memory.put(TOP_WORD, encode_table(MIDDLE) & ~2)
    cache = WalkCache(Iotlb("vtd0", None, VTD_FORMAT), memory, lambda _: False)
    cache.insert_walk(NETWORK, TABLES, G, reads_of_walk())
    assert [(one.read, one.write) for one in cache.find(NETWORK, G)] == [(True, False), (True, False)]


def test_an_entry_that_skips_levels_stands_for_the_pages_of_its_table_alone() -> None:
    format_, word = six_levels.SIX_LEVELS, Maddr(TOP + 8 * 3)
    page = Dfn(3 << 18 | 5)
    memory = Memory()
    memory.put(word, six_levels.encode_table(BOTTOM, 1))
    cache = WalkCache(Iotlb("amd0", None, format_), memory, lambda _: False)
    read = TableRead(3, format_.orders[3], word, 0, is_leaf=False)
    cache.insert_walk(NETWORK, Tables(TAG, TOP, 3), page, (read,))
    assert tables(cache.find(NETWORK, page)) == [BOTTOM]
    assert cache.find(NETWORK, Dfn(page + (1 << 9))) == []
    assert cache.invalidate(TAG, Dfn(page + (1 << 9)), Dfn(page + (1 << 9))) == 0
    assert cache.invalidate(TAG, Dfn(page + 1), Dfn(page + 1)) == 1


@pytest.mark.parametrize(
    ("replaced", "starts"),
    [
        ([], []),
        ([MIDDLE_WORD], [BOTTOM]),
        ([TOP_WORD], [MIDDLE]),
        ([TOP_WORD, MIDDLE_WORD], [BOTTOM, MIDDLE]),
        ([LEAF], []),
    ],
)
def test_a_walk_may_start_where_it_may_find_what_it_finds_nowhere_else(
    cache: WalkCache, memory: Memory, replaced: list[Maddr], starts: list[Maddr]
) -> None:
    for word in replaced:
        memory.put(word, 0, step=5)
    assert tables(cache.starts(request(G), 4)) == []
    assert tables(cache.starts(request(G), 6)) == starts


def test_where_the_entry_above_is_not_cached_any_more_a_walk_may_start_at_the_one_below(
    cache: WalkCache, memory: Memory
) -> None:
    memory.put(TOP_WORD, 0, step=5)
    cache.invalidate(TAG, IN_MIDDLE, IN_MIDDLE)
    assert tables(cache.starts(request(G), 6)) == [BOTTOM]


def request(dfn: Dfn) -> Request:
    return Request(1, NETWORK, NETWORK, dfn, False, Latch("done", Access.to(("request",), 1, Kind.WRITE)))


@pytest.mark.parametrize("page", [G, IN_BOTTOM, IN_MIDDLE, ELSEWHERE])
@pytest.mark.parametrize("dropped", [G, IN_BOTTOM, IN_MIDDLE, ELSEWHERE])
def test_a_lookup_and_a_drop_conflict_where_the_drop_changes_the_answer(
    cache: WalkCache, page: Dfn, dropped: Dfn
) -> None:
    lookup, before = list(FindStarts(cache, request(page)).accesses()), cache.find(NETWORK, page)
    drop = list(cache.drop_accesses(dropped, dropped))
    cache.invalidate(TAG, dropped, dropped)
    is_changed = cache.find(NETWORK, page) != before
    assert any(one.conflicts(other) for one in lookup for other in drop) >= is_changed


def test_a_walk_that_starts_at_an_entry_counts_as_begun_when_the_first_word_of_that_was_read(cache: WalkCache) -> None:
    bottom, _ = cache.find(NETWORK, G)
    one = request(G)
    one.begin_walk(20)
    bottom._replace(reads=reads_of_walk(9)[:2]).go_on(one)
    assert (one.tag, one.began) == (TAG, 9)
    assert [(read.level, read.order, read.step) for read in one.reads] == [(3, 9, 9), (2, 9, 9)]


def test_a_walk_from_another_root_finds_nothing_of_it_again(cache: WalkCache) -> None:
    one = request(G)
    one.tables = Tables(TAG, Maddr(TOP_WORD & -PAGE_SIZE), 3)
    assert cache.starts(one, 6) == []
    one.tables = Tables(TAG, BOTTOM, 3)
    assert tables(cache.starts(one, 6)) == [MIDDLE]


def test_where_devices_share_entries_a_devices_own_entry_does_not_count(cache: WalkCache) -> None:
    (found, *_) = cache.find(NETWORK, G)
    own = TableRead(cache.iotlb.format.device_level, 0, 0, 1, is_leaf=False)
    cache.iotlb.is_by_tag = True
    cache.insert(found._replace(reads=(own, *found.reads)))
    assert cache.find(NETWORK, G)[0].reads == found.reads


def test_a_walk_that_starts_at_an_entry_need_not_start_at_what_another_such_walk_has_found_below(
    cache: WalkCache, memory: Memory
) -> None:
    level = VTD_FORMAT.device_level
    of_device = TableRead(level, VTD_FORMAT.orders[level], Maddr(0x9000), 0, is_leaf=False)
    cache.entries.clear()
    cache.insert_walk(NETWORK, TABLES, G, (of_device, reads_of_walk()[0]))
    (middle,) = cache.find(NETWORK, G)
    one, entry = request(G), VTD_FORMAT.read(memory.peek(MIDDLE_WORD), 2, G)
    assert entry is not None
    one.begin_walk(8)
    middle.go_on(one)
    one.reads.append(TableRead(2, 9, MIDDLE_WORD, 9, is_leaf=False))
    cache.insert(middle.below(VTD_FORMAT, G, entry, tuple(one.reads)))
    memory.put(TOP_WORD, 0, step=12)
    assert tables(cache.find(NETWORK, G)) == [BOTTOM, MIDDLE]
    assert tables(cache.starts(one, 13)) == [MIDDLE]
