"""The ledger against an oracle that keeps, eagerly, every cache content that some hardware could hold.

Whatever can be cached is cached, after every store and every invalidation: from the present memory and from every
cached table entry. While an invalidation executes, the oracle keeps two contents: one as if it had not begun, which
is what counts until it completes, and one as if it had dropped all that it covers when it began, which is what counts
then.

That a page has no translation is cached with the leaves by a unit that caches non-present entries; any other unit may
refuse an access only if a walk, from the root table or from a cached table entry, finds a word not present now.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import NamedTuple

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.iommus.formats import FAULT, Translation
from emu.iommus.ledger import Ledger
from emu.iommus.paths import PathEntry, Tables
from emu.iommus.vtd.formats import VTD_FORMAT, WRITE, decode_pte, encode_leaf, encode_table
from emu.memory import WORDS, Memory, word_number
from emu.units import Dfn, Maddr

TOP = Maddr(0x1000)
MIDDLES = (Maddr(0x2000), Maddr(0x3000))
BOTTOMS = (Maddr(0x4000), Maddr(0x5000), Maddr(0x6000))
INDEXES = (0, 1)

TABLES = (Tables(1, TOP, 3), Tables(2, TOP, 3), Tables(3, MIDDLES[0], 2))
PAGES = {
    2: [Dfn(middle << 9 | low) for middle in INDEXES for low in INDEXES],
    3: [Dfn(high << 18 | middle << 9 | low) for high in INDEXES for middle in INDEXES for low in INDEXES],
}
QUESTIONS = [(tables, dfn) for tables in TABLES for dfn in PAGES[tables.levels]]

LEAVES = (
    encode_leaf(Maddr(0x10_0000), read=True, write=True),
    encode_leaf(Maddr(0x10_1000), read=True, write=True),
    encode_leaf(Maddr(0x10_1000), read=True, write=False),
    encode_leaf(Maddr(0x10_2000), read=False, write=True),
)
LARGE = (
    encode_leaf(Maddr(0x20_0000), read=True, write=True, level=2),
    encode_leaf(Maddr(0x40_0000), read=True, write=False, level=2),
)
HUGE = (
    encode_leaf(Maddr(0x4000_0000), read=True, write=True, level=3),
    encode_leaf(Maddr(0x8000_0000), read=False, write=True, level=3),
)
ABSENT = 0

LINKED = {
    TOP: encode_table(MIDDLES[0]),
    TOP + 8: encode_table(MIDDLES[1]),
    MIDDLES[0]: encode_table(BOTTOMS[0]),
    MIDDLES[0] + 8: encode_table(BOTTOMS[1]),
    MIDDLES[1]: encode_table(BOTTOMS[2]),
    MIDDLES[1] + 8: encode_table(BOTTOMS[0]),
    BOTTOMS[0]: LEAVES[0],
    BOTTOMS[1] + 8: LEAVES[1],
}


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


class CachedTable(NamedTuple):
    address: int
    read: bool
    write: bool


@attrs.define
class Caches:
    """Everything that could be cached now.

    Attributes:
        tables: by (tag, level, number of the 2^(9 * (level - 1)) dfns that the cached entry stands for).
        leaves: by (tag, dfn).
        faults: each (tag, dfn) for which a walk finds a word that is not present now.
        keeps_faults: they are cached, with the leaves.
    """

    keeps_faults: bool

    tables: defaultdict[tuple[int, int, int], set[CachedTable]] = attrs.field(factory=lambda: defaultdict(set))
    leaves: defaultdict[tuple[int, int], set[Translation]] = attrs.field(factory=lambda: defaultdict(set))
    faults: set[tuple[int, int]] = attrs.field(factory=set)

    def fill(self, words: Mapping[int, int]) -> None:
        self.faults.clear()
        for (tag, root, levels, *_), dfn in QUESTIONS:
            above = {CachedTable(root, read=True, write=True)}
            for level in range(levels, 0, -1):
                number = dfn >> (9 * (level - 1))
                for table in above:
                    self.read(words, table, tag, dfn, level, number)
                above = self.tables[tag, level, number]

    def read(self, words: Mapping[int, int], table: CachedTable, tag: int, dfn: int, level: int, number: int) -> None:
        word = words.get(table.address + 8 * (number % 512), ABSENT)
        entry = decode_pte(word, level)
        if entry is None:
            self.faults.add((tag, dfn))
            if self.keeps_faults:
                self.leaves[tag, dfn].add(FAULT)
            return
        read, write = table.read and entry.read, table.write and entry.write
        if entry.is_leaf:
            self.leaves[tag, dfn].add(Translation(word, entry.order, read, write, entry.address))
        else:
            self.tables[tag, level, number].add(CachedTable(entry.address, read, write))

    def legal(self, tag: int, dfn: int) -> set[Translation]:
        return self.leaves[tag, dfn] | ({FAULT} if (tag, dfn) in self.faults else set())

    def drop(self, invalidation: Invalidation) -> None:
        for tag, dfn in list(self.leaves):
            if invalidation.covers(tag, dfn, dfn):
                del self.leaves[tag, dfn]
        for tag, level, number in list(self.tables):
            size = 2 ** (9 * (level - 1))
            if not invalidation.leaf_only and invalidation.covers(tag, number * size, (number + 1) * size - 1):
                del self.tables[tag, level, number]


class History:
    """One history, told step by step to the ledger and to the oracle."""

    def __init__(self, image: Mapping[int, int], *, caches_non_present: bool) -> None:
        self.memory = Memory()
        self.ledger = Ledger("vtd0", self.memory, VTD_FORMAT, caches_non_present)
        self.step = 0
        self.words = dict(image)
        self.cached = [Caches(caches_non_present)]
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
        dropped = deepcopy(self.cached[0])
        dropped.drop(invalidation)
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
        for tables, dfn in QUESTIONS:
            expected = self.cached[0].legal(tables.tag, dfn)
            assert self.ledger.legal(tables, dfn) == expected, (self.step, tables, dfn)

    def unaffected(self, store: Store, changed: int) -> list[tuple[Tables, Dfn]]:
        """Return the pages whose old paths, by their own account, do not depend on a word."""
        word = word_number(store.address)
        return [page for page in QUESTIONS if (WORDS, word) not in self.ledger.objects_read(*page, changed)]


def old_paths(ledger: Ledger, tables: Tables, dfn: Dfn, changed: int) -> list[tuple[Translation, PathEntry | None]]:
    return [(path.translation, path.overwritten_by(changed)) for path in ledger.old_paths(tables, dfn, changed)]


def stores_into(tables: Sequence[Maddr], values: Sequence[int]) -> st.SearchStrategy[Store]:
    addresses = [table + 8 * index for table in tables for index in INDEXES]
    return st.builds(Store, st.sampled_from(addresses), st.sampled_from(values))


def links(tables: Sequence[Maddr]) -> Iterator[int]:
    for table in tables:
        yield encode_table(table)
    yield encode_table(tables[0]) & ~WRITE


STORES = st.one_of(
    stores_into([TOP], [*links(MIDDLES), *HUGE, ABSENT]),
    stores_into(MIDDLES, [*links(BOTTOMS), *LARGE, ABSENT]),
    stores_into(BOTTOMS, [*LEAVES, ABSENT]),
    stores_into([TOP, *MIDDLES, *BOTTOMS], [*links([*MIDDLES, *BOTTOMS]), *LEAVES, *LARGE, *HUGE, ABSENT]),
)


@st.composite
def invalidations(draw: st.DrawFn) -> Invalidation:
    tag = draw(st.sampled_from([None, 1, 2, 3]))
    order = None if tag is None else draw(st.sampled_from([0, 1, 9, 10, 18, None]))
    dfn = Dfn(0) if order is None else Dfn(draw(st.sampled_from(PAGES[3])) >> order << order)
    return Invalidation(tag, dfn, order, draw(st.booleans()), draw(st.lists(STORES, max_size=3)))


EVENTS = st.lists(st.one_of(STORES, STORES, invalidations()), min_size=8, max_size=40)
IMAGES = st.sampled_from([LINKED, {}])


@settings(max_examples=400, deadline=None, derandomize=True)
@given(image=IMAGES, events=EVENTS, caches_non_present=st.booleans())
def test_the_ledger_allows_exactly_what_some_cache_could_hold(
    image: Mapping[int, int], events: Sequence[Store | Invalidation], caches_non_present: bool
) -> None:
    History(image, caches_non_present=caches_non_present).run(events)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    image=IMAGES,
    events=EVENTS,
    caches_non_present=st.booleans(),
    part=st.floats(0, 1),
    stores=st.lists(STORES, min_size=5, max_size=20),
)
def test_only_a_store_to_the_words_read_changes_the_old_paths(
    image: Mapping[int, int],
    events: Sequence[Store | Invalidation],
    caches_non_present: bool,
    part: float,
    stores: Sequence[Store],
) -> None:
    history = History(image, caches_non_present=caches_non_present)
    history.run(events)
    changed = int(part * history.step)
    for store in stores:
        before = [(page, old_paths(history.ledger, *page, changed)) for page in history.unaffected(store, changed)]
        history.store(store)
        assert before == [(page, old_paths(history.ledger, *page, changed)) for page, _ in before]
