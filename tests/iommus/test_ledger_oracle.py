"""The ledger against an oracle that keeps, eagerly, every cache content that some hardware could hold.

Whatever can be cached is cached, after every store and every invalidation: from the present memory and from every
cached table entry. While an invalidation executes, the oracle keeps two contents: one as if it had not begun, which
is what counts until it completes, and one as if it had dropped all that it covers when it began, which is what counts
then.

That a page has no translation is cached with the leaves by a unit that caches non-present entries; any other unit may
refuse an access only if a walk, from the root table or from a cached table entry, finds a word not present now.

A world is a table format with tables, pages and stores. There are three here, and one more in smmu/: VT-d's tables,
six levels that may be skipped, and AMD-Vi's, which are such levels with leaves that say their size. An entry that skips
levels leads to its table for those dfns only whose index at each of these levels is 0; for any other dfn it is a word
that is not present.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, chain
from typing import NamedTuple

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.iommus.amd import formats as amd
from emu.iommus.formats import FAULT, TableFormat, Translation
from emu.iommus.ledger import Ledger
from emu.iommus.paths import PathEntry, Tables
from emu.iommus.vtd import formats as vtd
from emu.memory import WORDS, Memory, word_number
from emu.units import Dfn, Maddr
from tests.iommus import six_levels

INDEXES = (0, 1)
ABSENT = 0


class Store(NamedTuple):
    address: int
    value: int


class Invalidation(NamedTuple):
    """An invalidation, and what is stored while it executes."""

    tag: int | None
    dfn: Dfn
    order: int | None
    leaf_only: bool
    meanwhile: Sequence[Store]

    def covers(self, tag: int, first: int, last: int) -> bool:
        if self.tag not in {None, tag}:
            return False
        return self.order is None or (self.dfn <= last and first < self.dfn + 2**self.order)


@attrs.frozen(eq=False)
class World:
    """A table format, and what the histories are made of.

    Attributes:
        questions: which pages are asked about, by which tables.
        orders: of the ranges that are invalidated.
        images: words of tables, before the first step.
        bits: how many bits of a dfn a table of level 1, 2, ... and the tables below it translate; for level 0 none.
    """

    format: TableFormat
    questions: Sequence[tuple[Tables, Dfn]]
    orders: Sequence[int]
    stores: st.SearchStrategy[Store]
    images: Sequence[Mapping[int, int]]
    bits: Sequence[int] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "bits", [*accumulate(self.format.index_bits, initial=0)])

    def index(self, dfn: int, level: int) -> int:
        return (dfn >> self.bits[level - 1]) % (1 << self.format.index_bits[level - 1])

    def leads_there(self, dfn: int, level: int, next_level: int) -> bool:
        """Whether an entry of a level that leads to a table of another level does so for a dfn."""
        return all(self.index(dfn, skipped) == 0 for skipped in range(next_level + 1, level))


class CachedTable(NamedTuple):
    address: int
    read: bool
    write: bool


@attrs.define
class Caches:
    """Everything that could be cached now.

    Attributes:
        tables: by (tag, level of the table, number of the 2^bits dfns that it translates).
        leaves: by (tag, dfn).
        faults: each (tag, dfn) for which a walk finds a word that is not present now.
        keeps_faults: they are cached, with the leaves.
    """

    world: World
    keeps_faults: bool

    tables: defaultdict[tuple[int, int, int], set[CachedTable]] = attrs.field(factory=lambda: defaultdict(set))
    leaves: defaultdict[tuple[int, int], set[Translation]] = attrs.field(factory=lambda: defaultdict(set))
    faults: set[tuple[int, int]] = attrs.field(factory=set)

    def dropped(self, invalidation: Invalidation) -> "Caches":
        """Return what is left after an invalidation, before anything is cached anew."""
        left = Caches(self.world, self.keeps_faults)
        for (tag, dfn), translations in self.leaves.items():
            if not invalidation.covers(tag, dfn, dfn):
                left.leaves[tag, dfn] = set(translations)
        for (tag, level, number), tables in self.tables.items():
            size = 1 << self.world.bits[level]
            if invalidation.leaf_only or not invalidation.covers(tag, number * size, (number + 1) * size - 1):
                left.tables[tag, level, number] = set(tables)
        return left

    def fill(self, words: Mapping[int, int]) -> None:
        self.faults.clear()
        for (tag, root, levels, *_), dfn in self.world.questions:
            above = {CachedTable(root, read=True, write=True)}
            for level in range(levels, 0, -1):
                for table in above:
                    self.read(words, table, tag, dfn, level)
                above = self.tables[tag, level - 1, dfn >> self.world.bits[level - 1]]

    def read(self, words: Mapping[int, int], table: CachedTable, tag: int, dfn: int, level: int) -> None:
        word = words.get(table.address + 8 * self.world.index(dfn, level), ABSENT)
        entry = self.world.format.decode(word, level)
        if entry is None or not (entry.is_leaf or self.world.leads_there(dfn, level, entry.next_level)):
            self.faults.add((tag, dfn))
            if self.keeps_faults:
                self.leaves[tag, dfn].add(FAULT)
            return
        read, write = table.read and entry.read, table.write and entry.write
        if entry.is_leaf:
            self.leaves[tag, dfn].add(Translation(word, entry.order, read, write, entry.address))
        else:
            number = dfn >> self.world.bits[entry.next_level]
            self.tables[tag, entry.next_level, number].add(CachedTable(entry.address, read, write))

    def legal(self, tag: int, dfn: int) -> set[Translation]:
        return self.leaves[tag, dfn] | ({FAULT} if (tag, dfn) in self.faults else set())


class History:
    """One history, told step by step to the ledger and to the oracle."""

    def __init__(self, world: World, image: Mapping[int, int], *, caches_non_present: bool) -> None:
        self.world = world
        self.memory = Memory()
        self.ledger = Ledger("unit", self.memory, world.format, caches_non_present)
        self.step = 0
        self.words = dict(image)
        self.cached = [Caches(world, caches_non_present)]
        for address, value in image.items():
            self.memory.put(address, value)
        self.cached[0].fill(self.words)

    def store(self, store: Store) -> None:
        self.step += 1
        self.memory.put(store.address, store.value, step=self.step)
        self.words[store.address] = store.value
        for caches in self.cached:
            caches.fill(self.words)
        self.compare()

    def begin(self, invalidation: Invalidation) -> int:
        self.step += 1
        dropped = self.cached[0].dropped(invalidation)
        dropped.fill(self.words)
        self.cached.append(dropped)
        self.compare()
        return self.step

    def complete(self, invalidation: Invalidation, start: int) -> None:
        self.step += 1
        tag, dfn, order, leaf_only, _ = invalidation
        self.ledger.complete(start, tag, dfn, order, leaf_only=leaf_only)
        del self.cached[0]
        self.compare()

    def invalidate(self, invalidation: Invalidation) -> None:
        start = self.begin(invalidation)
        for store in invalidation.meanwhile:
            self.store(store)
        self.complete(invalidation, start)

    def run(self, events: Sequence[Store | Invalidation]) -> None:
        for event in events:
            if isinstance(event, Store):
                self.store(event)
            else:
                self.invalidate(event)

    def compare(self) -> None:
        for tables, dfn in self.world.questions:
            expected = self.cached[0].legal(tables.tag, dfn)
            assert self.ledger.legal(tables, dfn) == expected, (self.step, tables, dfn)

    def unaffected(self, store: Store, changed: int) -> list[tuple[Tables, Dfn]]:
        """Return the pages whose old paths, by their own account, do not depend on a word."""
        word = word_number(store.address)
        return [page for page in self.world.questions if (WORDS, word) not in self.ledger.objects_read(*page, changed)]


def old_paths(ledger: Ledger, tables: Tables, dfn: Dfn, changed: int) -> list[tuple[Translation, PathEntry | None]]:
    return [(path.translation, path.overwritten_by(changed)) for path in ledger.old_paths(tables, dfn, changed)]


def stores_into(tables: Sequence[Maddr], values: Sequence[int]) -> st.SearchStrategy[Store]:
    addresses = [table + 8 * index for table in tables for index in INDEXES]
    return st.builds(Store, st.sampled_from(addresses), st.sampled_from(values))


def vtd_world() -> World:
    top, middles, bottoms = Maddr(0x1000), (Maddr(0x2000), Maddr(0x3000)), (Maddr(0x4000), Maddr(0x5000), Maddr(0x6000))
    low = [Dfn(middle << 9 | low) for middle in INDEXES for low in INDEXES]
    pages = {2: low, 3: [Dfn(high << 18 | dfn) for high in INDEXES for dfn in low]}
    tables = (Tables(1, top, 3), Tables(2, top, 3), Tables(3, middles[0], 2))
    leaves = (
        vtd.encode_leaf(Maddr(0x10_0000), read=True, write=True),
        vtd.encode_leaf(Maddr(0x10_1000), read=True, write=True),
        vtd.encode_leaf(Maddr(0x10_1000), read=True, write=False),
        vtd.encode_leaf(Maddr(0x10_2000), read=False, write=True),
    )
    large = (
        vtd.encode_leaf(Maddr(0x20_0000), read=True, write=True, level=2),
        vtd.encode_leaf(Maddr(0x40_0000), read=True, write=False, level=2),
    )
    huge = (
        vtd.encode_leaf(Maddr(0x4000_0000), read=True, write=True, level=3),
        vtd.encode_leaf(Maddr(0x8000_0000), read=False, write=True, level=3),
    )

    def links(tables: Sequence[Maddr]) -> Iterator[int]:
        for table in tables:
            yield vtd.encode_table(table)
        yield vtd.encode_table(tables[0]) & ~vtd.WRITE

    linked = {
        top: vtd.encode_table(middles[0]),
        top + 8: vtd.encode_table(middles[1]),
        middles[0]: vtd.encode_table(bottoms[0]),
        middles[0] + 8: vtd.encode_table(bottoms[1]),
        middles[1]: vtd.encode_table(bottoms[2]),
        middles[1] + 8: vtd.encode_table(bottoms[0]),
        bottoms[0]: leaves[0],
        bottoms[1] + 8: leaves[1],
    }
    lower = (*middles, *bottoms)
    return World(
        vtd.VTD_FORMAT,
        questions=[(each, dfn) for each in tables for dfn in pages[each.levels]],
        orders=(0, 1, 9, 10, 18),
        stores=st.one_of(
            stores_into([top], [*links(middles), *huge, ABSENT]),
            stores_into(middles, [*links(bottoms), *large, ABSENT]),
            stores_into(bottoms, [*leaves, ABSENT]),
            stores_into([top, *lower], [*links(lower), *leaves, *large, *huge, ABSENT]),
        ),
        images=[linked, {}],
    )


def six_level_world(format_: TableFormat, *sized: int) -> World:
    """Return the world of six levels: an entry may lead to any lower level.

    Args:
        sized: leaves of level 1 of a size that is none of a level.
    """
    of_level = {
        6: (Maddr(0x6000),),
        5: (Maddr(0x5000),),
        4: (Maddr(0x4000),),
        3: (Maddr(0x3000),),
        2: (Maddr(0x2000), Maddr(0x2_2000)),
        1: (Maddr(0x1000), Maddr(0x1_1000)),
    }
    (top,), (fifth,), (fourth,), (third,), middles, bottoms = of_level.values()
    zero, *ones = Dfn(0), *(Dfn(1 << shift) for shift in (0, 9, 18, 27, 36, 45))
    pages = [zero, *ones, Dfn(ones[1] | ones[0]), Dfn(ones[3] | ones[2])]
    leaves = {
        1: (
            format_.encode_leaf(Maddr(0x10_0000), read=True, write=True),
            format_.encode_leaf(Maddr(0x10_1000), read=True, write=False),
            *sized,
        ),
        2: (format_.encode_leaf(Maddr(0x20_0000), read=True, write=True, level=2),),
        3: (format_.encode_leaf(Maddr(0x4000_0000), read=False, write=True, level=3),),
    }

    def links(level: int) -> Iterator[int]:
        for lower in range(1, level):
            for table in of_level[lower]:
                yield format_.encode_table(table, lower)
        if level > 1:
            yield format_.encode_table(of_level[level - 1][0], level - 1) & ~six_levels.READ

    mapped = {
        middles[0]: format_.encode_table(bottoms[0], 1),
        middles[0] + 8: format_.encode_table(bottoms[1], 1),
        middles[1]: format_.encode_table(bottoms[1], 1),
        bottoms[0]: leaves[1][0],
        bottoms[0] + 8: leaves[1][1],
        bottoms[1]: leaves[1][1],
    }
    unskipped = mapped | {
        top: format_.encode_table(fifth, 5),
        fifth: format_.encode_table(fourth, 4),
        fourth: format_.encode_table(third, 3),
        third: format_.encode_table(middles[0], 2),
        third + 8: format_.encode_table(middles[1], 2),
    }
    skipping = mapped | {
        top: format_.encode_table(fourth, 4),
        top + 8: format_.encode_table(third, 3),
        fourth: format_.encode_table(middles[0], 2),
        fourth + 8: format_.encode_table(bottoms[0], 1),
        third: format_.encode_table(bottoms[0], 1),
        third + 8: format_.encode_table(middles[1], 2),
    }
    values = {level: [*links(level), *leaves.get(level, ()), ABSENT] for level in of_level}
    return World(
        format_,
        questions=[
            *((Tables(1, top, 6), dfn) for dfn in pages),
            *((Tables(2, third, 3), dfn) for dfn in pages if dfn < ones[3]),
        ],
        orders=(0, 9, 18, 27),
        stores=st.one_of(
            *(stores_into(of_level[level], values[level]) for level in of_level),
            stores_into([*chain(*of_level.values())], [*chain(*values.values())]),
        ),
        images=[unskipped, skipping],
    )


@st.composite
def invalidations(draw: st.DrawFn, world: World) -> Invalidation:
    tag = draw(st.sampled_from([None, *sorted({tables.tag for tables, _ in world.questions})]))
    order = None if tag is None else draw(st.sampled_from([*world.orders, None]))
    dfns = sorted({dfn for _, dfn in world.questions})
    dfn = Dfn(0) if order is None else Dfn(draw(st.sampled_from(dfns)) >> order << order)
    return Invalidation(tag, dfn, order, draw(st.booleans()), draw(st.lists(world.stores, max_size=3)))


def events(world: World) -> st.SearchStrategy[list[Store | Invalidation]]:
    return st.lists(st.one_of(world.stores, world.stores, invalidations(world)), min_size=8, max_size=40)


VTD, SIX = vtd_world(), six_level_world(six_levels.SIX_LEVELS)
AMD = six_level_world(amd.AMD_FORMAT, amd.encode_sized_leaf(Maddr(0x30_0000), 4, read=True, write=True))


def compare_with_caches(world: World, examples: int) -> None:
    """Hold the ledger against what some cache could hold."""

    @settings(max_examples=examples, deadline=None, derandomize=True)
    @given(image=st.sampled_from(world.images), events=events(world), caches_non_present=st.booleans())
    def holds(image: Mapping[int, int], events: Sequence[Store | Invalidation], caches_non_present: bool) -> None:
        History(world, image, caches_non_present=caches_non_present).run(events)

    holds()


@pytest.mark.parametrize(
    ("world", "examples"), [(VTD, 400), (SIX, 250), (AMD, 150)], ids=["VT-d", "six levels", "AMD-Vi"]
)
def test_the_ledger_allows_exactly_what_some_cache_could_hold(world: World, examples: int) -> None:
    compare_with_caches(world, examples)


def test_the_invalidation_of_a_page_for_which_an_entry_does_not_stand_leaves_what_is_cached_of_the_entry() -> None:
    third, bottom, skipped_page = Maddr(0x3000), Maddr(0x1000), Dfn(1 << 9)
    old = six_levels.encode_leaf(Maddr(0x10_0000), read=True, write=True)
    new = six_levels.encode_leaf(Maddr(0x20_0000), read=True, write=True)
    image: dict[int, int] = {third: six_levels.encode_table(bottom, 1), bottom: old}
    invalidation = Invalidation(2, skipped_page, 0, leaf_only=False, meanwhile=[])
    History(SIX, image, caches_non_present=False).run([Store(third, ABSENT), invalidation, Store(bottom, new)])


def compare_after_other_stores(world: World, examples: int) -> None:
    """Hold old paths against what they are after stores to words on which they do not depend."""

    @settings(max_examples=examples, deadline=None, derandomize=True)
    @given(
        image=st.sampled_from(world.images),
        events=events(world),
        caches_non_present=st.booleans(),
        part=st.floats(0, 1),
        stores=st.lists(world.stores, min_size=5, max_size=20),
    )
    def holds(
        image: Mapping[int, int],
        events: Sequence[Store | Invalidation],
        caches_non_present: bool,
        part: float,
        stores: Sequence[Store],
    ) -> None:
        history = History(world, image, caches_non_present=caches_non_present)
        history.run(events)
        changed = int(part * history.step)
        for store in stores:
            before = [(page, old_paths(history.ledger, *page, changed)) for page in history.unaffected(store, changed)]
            history.store(store)
            assert before == [(page, old_paths(history.ledger, *page, changed)) for page, _ in before]

    holds()


@pytest.mark.parametrize(("world", "examples"), [(VTD, 60), (SIX, 40), (AMD, 30)], ids=["VT-d", "six levels", "AMD-Vi"])
def test_only_a_store_to_the_words_read_changes_the_old_paths(world: World, examples: int) -> None:
    compare_after_other_stores(world, examples)
