"""The ledger against the oracle on stage-2 tables: two tables side by side at the top, and invalidations of all pages.

Pages are of both of them. Two VMIDs have the same tables, and a third one begins a level lower.
"""

from collections.abc import Iterator, Sequence

from hypothesis import strategies as st

from emu.iommus.paths import Tables
from emu.iommus.smmu.formats import ACCESS_FLAG, S2AP_WRITE, encode_leaf, encode_table, smmu_format
from emu.units import PAGE_SIZE, Dfn, Maddr
from tests.iommus.test_ledger_oracle import (
    ABSENT,
    INDEXES,
    World,
    compare_after_other_stores,
    compare_with_caches,
    stores_into,
)

TOP, MIDDLES = Maddr(0x1000), (Maddr(0x3000), Maddr(0x4000))
SECOND_TOP = Maddr(TOP + PAGE_SIZE)
BOTTOMS = (Maddr(0x5000), Maddr(0x6000), Maddr(0x7000))
SECOND = 1 << 27
"""The first page of the second table at the top."""

LEAVES = (
    encode_leaf(Maddr(0x10_0000), read=True, write=True),
    encode_leaf(Maddr(0x10_1000), read=True, write=True),
    encode_leaf(Maddr(0x10_1000), read=True, write=True) & ~S2AP_WRITE,
    encode_leaf(Maddr(0x10_2000), read=True, write=True) & ~ACCESS_FLAG,
)
BLOCKS = (
    encode_leaf(Maddr(0x20_0000), read=True, write=True, level=2),
    encode_leaf(Maddr(0x40_0000), read=True, write=False, level=2),
)
HUGE = (
    encode_leaf(Maddr(0x4000_0000), read=True, write=True, level=3),
    encode_leaf(Maddr(0x8000_0000), read=False, write=True, level=3),
)


def links(tables: Sequence[Maddr]) -> Iterator[int]:
    """Yield words that lead to tables; S2AP and AF do not count in them."""
    yield from map(encode_table, tables)
    yield encode_table(tables[0]) & ~(S2AP_WRITE | ACCESS_FLAG)


def world() -> World:
    low = [Dfn(middle << 9 | page) for middle in INDEXES for page in INDEXES]
    high = [Dfn(top | page) for top in (0, 1 << 18, SECOND) for page in low]
    tops, lower = (TOP, SECOND_TOP), (*MIDDLES, *BOTTOMS)
    linked = {
        TOP: encode_table(MIDDLES[0]),
        TOP + 8: encode_table(MIDDLES[1]),
        SECOND_TOP: encode_table(MIDDLES[1]),
        MIDDLES[0]: encode_table(BOTTOMS[0]),
        MIDDLES[0] + 8: encode_table(BOTTOMS[1]),
        MIDDLES[1]: encode_table(BOTTOMS[2]),
        MIDDLES[1] + 8: encode_table(BOTTOMS[0]),
        BOTTOMS[0]: LEAVES[0],
        BOTTOMS[1] + 8: LEAVES[1],
    }
    return World(
        smmu_format(40, 9),
        questions=[
            *((Tables(tag, TOP, 3), dfn) for tag in (1, 2) for dfn in high),
            *((Tables(3, MIDDLES[0], 2), dfn) for dfn in low),
        ],
        orders=(),
        stores=st.one_of(
            stores_into(tops, [*links(MIDDLES), *HUGE, ABSENT]),
            stores_into(MIDDLES, [*links(BOTTOMS), *BLOCKS, ABSENT]),
            stores_into(BOTTOMS, [*LEAVES, ABSENT]),
            stores_into([*tops, *lower], [*links(lower), *LEAVES, *BLOCKS, *HUGE, ABSENT]),
        ),
        images=[linked, {}],
    )


def test_the_ledger_allows_exactly_what_some_cache_could_hold() -> None:
    compare_with_caches(world(), 120)


def test_only_a_store_to_the_words_read_changes_the_old_paths() -> None:
    compare_after_other_stores(world(), 30)
