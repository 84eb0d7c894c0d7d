"""The concrete IOTLB against a plain dictionary."""

from collections.abc import Sequence
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.engine import Kind
from emu.iommus.formats import Translation
from emu.iommus.iotlb import Iotlb, IotlbEntry
from emu.iommus.vtd.formats import VTD_FORMAT
from emu.units import Dfn, Mfn, frame_address

NETWORK, DISK = 0xF8, 0x10
TAG, OTHER_TAG = 7, 8
ROOMY = 64

SOURCES = (NETWORK, DISK)
TAGS = (TAG, OTHER_TAG)
PAGES = tuple(Dfn(base + page) for base in (0, 512, 1 << 18) for page in (0, 1, 511))


def cached(source_id: int, tag: int, dfn: int, level: int = 1, mfn: int = 0x1000) -> IotlbEntry:
    order = 9 * (level - 1)
    address = frame_address(Mfn(mfn - (dfn & ((1 << order) - 1))))
    return IotlbEntry(source_id, tag, Dfn(dfn), Translation(address | 3, order, True, True, address), ())


class Insertion(NamedTuple):
    entry: IotlbEntry


class Invalidation(NamedTuple):
    tag: int | None
    first: Dfn
    last: Dfn


class Model:
    """The entries by (source-id, level, number of the page of that size)."""

    def __init__(self) -> None:
        self.entries: dict[tuple[int, int, int], IotlbEntry] = {}

    def insert(self, entry: IotlbEntry) -> None:
        level = 1 + entry.translation.order // 9
        self.entries[entry.user, level, entry.dfn // 512 ** (level - 1)] = entry

    def find(self, source_id: int, dfn: Dfn) -> IotlbEntry | None:
        keys = [(source_id, level, dfn // 512 ** (level - 1)) for level in (1, 2, 3)]
        return next((self.entries[key] for key in keys if key in self.entries), None)

    def invalidate(self, tag: int | None, first: Dfn, last: Dfn) -> int:
        before = len(self.entries)
        self.entries = {
            (source_id, level, number): entry
            for (source_id, level, number), entry in self.entries.items()
            if (tag is not None and entry.tag != tag)
            or last < number * 512 ** (level - 1)
            or (number + 1) * 512 ** (level - 1) <= first
        }
        return before - len(self.entries)


INSERTIONS = st.builds(
    cached,
    st.sampled_from(SOURCES),
    st.sampled_from(TAGS),
    st.sampled_from(PAGES),
    st.integers(1, 3),
    st.integers(0x1000, 0x1003),
).map(Insertion)


@st.composite
def invalidations(draw: st.DrawFn) -> Invalidation:
    first, last = sorted((draw(st.sampled_from(PAGES)), draw(st.sampled_from(PAGES))))
    tag = draw(st.sampled_from([*TAGS, None]))
    return Invalidation(tag, first, last) if tag is not None else Invalidation(None, Dfn(0), Dfn((1 << 52) - 1))


@settings(deadline=None, derandomize=True)
@given(events=st.lists(st.one_of(INSERTIONS, INSERTIONS, invalidations()), min_size=5, max_size=40))
def test_lookups_find_what_a_dictionary_would_hold(events: Sequence[Insertion | Invalidation]) -> None:
    iotlb, model = Iotlb("vtd0", ROOMY, VTD_FORMAT), Model()
    for event in events:
        if isinstance(event, Insertion):
            iotlb.insert(event.entry)
            model.insert(event.entry)
        else:
            assert len(iotlb.invalidate(*event)) == model.invalidate(*event)
        for source_id in SOURCES:
            for dfn in PAGES:
                assert iotlb.find(source_id, dfn) == model.find(source_id, dfn)


@pytest.fixture
def iotlb() -> Iotlb:
    return Iotlb("vtd0", ROOMY, VTD_FORMAT)


def test_an_entry_is_found_only_for_its_device(iotlb: Iotlb) -> None:
    iotlb.insert(cached(NETWORK, TAG, 5))
    assert iotlb.find(DISK, Dfn(5)) is None


def test_two_devices_of_one_domain_may_hold_different_entries_for_a_page(iotlb: Iotlb) -> None:
    old, new = cached(NETWORK, TAG, 5, mfn=0x1000), cached(DISK, TAG, 5, mfn=0x2000)
    iotlb.insert(old)
    iotlb.insert(new)
    assert (iotlb.find(NETWORK, Dfn(5)), iotlb.find(DISK, Dfn(5))) == (old, new)


def test_one_page_selective_invalidation_drops_the_entries_of_both_devices(iotlb: Iotlb) -> None:
    iotlb.insert(cached(NETWORK, TAG, 5))
    iotlb.insert(cached(DISK, TAG, 5))
    assert len(iotlb.invalidate(TAG, Dfn(5), Dfn(5))) == 2
    assert (iotlb.find(NETWORK, Dfn(5)), iotlb.find(DISK, Dfn(5))) == (None, None)


@pytest.mark.parametrize("dfn", [3, 8])
def test_the_invalidation_of_a_range_leaves_the_pages_beside_it(iotlb: Iotlb, dfn: int) -> None:
    iotlb.insert(cached(NETWORK, TAG, dfn))
    assert len(iotlb.invalidate(TAG, Dfn(4), Dfn(7))) == 0
    assert iotlb.find(NETWORK, Dfn(dfn)) is not None


def test_an_invalidation_leaves_another_tag(iotlb: Iotlb) -> None:
    iotlb.insert(cached(NETWORK, OTHER_TAG, 5))
    assert len(iotlb.invalidate(TAG, Dfn(0), Dfn(511))) == 0


def test_an_invalidation_of_every_tag_empties_the_cache(iotlb: Iotlb) -> None:
    iotlb.insert(cached(NETWORK, TAG, 5))
    iotlb.insert(cached(DISK, OTHER_TAG, 600, level=2))
    assert len(iotlb.invalidate(None, Dfn(0), Dfn((1 << 52) - 1))) == 2
    assert len(iotlb) == 0


def test_a_superpage_is_dropped_by_the_invalidation_of_any_page_in_it(iotlb: Iotlb) -> None:
    iotlb.insert(cached(NETWORK, TAG, 512, level=2))
    assert len(iotlb.invalidate(TAG, Dfn(1000), Dfn(1000))) == 1


@pytest.mark.parametrize(("dropped", "left"), [(1000, [513, 514]), (513, [514]), (None, [])])
def test_of_a_superpage_that_is_cached_page_by_page_an_invalidation_drops_the_pages_that_it_names(
    iotlb: Iotlb, dropped: int | None, left: list[int]
) -> None:
    for dfn in (513, 514):
        iotlb.insert(cached(NETWORK, TAG, dfn, level=2)._replace(is_fractured=True))
    first, last = (512, 1023) if dropped is None else (dropped, dropped)
    assert len(iotlb.invalidate(TAG, Dfn(first), Dfn(last))) == 2 - len(left)
    assert [dfn for dfn in range(512, 1024) if iotlb.find(NETWORK, Dfn(dfn)) is not None] == left


def test_one_page_of_a_superpage_is_cached_for_that_page_alone_and_gives_its_frame(iotlb: Iotlb) -> None:
    iotlb.insert(cached(NETWORK, TAG, 515, level=2, mfn=0x2003)._replace(is_fractured=True))
    found = iotlb.find(NETWORK, Dfn(515))
    assert found is not None
    assert found.frame(Dfn(515)) == 0x2003
    assert iotlb.find(NETWORK, Dfn(514)) is iotlb.find(NETWORK, Dfn(516)) is None


def test_a_superpage_gives_each_page_its_own_frame(iotlb: Iotlb) -> None:
    iotlb.insert(cached(NETWORK, TAG, 515, level=2, mfn=0x2003))
    found = iotlb.find(NETWORK, Dfn(520))
    assert found is not None
    assert found.frame(Dfn(520)) == 0x2008


def test_the_smallest_page_size_is_found_first(iotlb: Iotlb) -> None:
    small = cached(NETWORK, TAG, 513)
    iotlb.insert(small)
    iotlb.insert(cached(NETWORK, TAG, 512, level=2))
    assert iotlb.find(NETWORK, Dfn(513)) == small


def test_a_device_holds_one_entry_for_a_page_whatever_its_tag(iotlb: Iotlb) -> None:
    iotlb.insert(cached(NETWORK, TAG, 5))
    iotlb.insert(cached(NETWORK, OTHER_TAG, 5))
    assert len(iotlb) == 1


def test_a_full_cache_takes_no_new_entry() -> None:
    iotlb = Iotlb("vtd0", 1, VTD_FORMAT)
    iotlb.insert(cached(NETWORK, TAG, 5))
    iotlb.insert(cached(NETWORK, TAG, 6))
    assert iotlb.find(NETWORK, Dfn(6)) is None


def test_a_full_cache_replaces_the_entry_of_the_same_page() -> None:
    iotlb, new = Iotlb("vtd0", 1, VTD_FORMAT), cached(NETWORK, TAG, 5, mfn=0x2000)
    iotlb.insert(cached(NETWORK, TAG, 5, mfn=0x1000))
    iotlb.insert(new)
    assert iotlb.find(NETWORK, Dfn(5)) == new


def test_users_of_32_bits_are_told_apart() -> None:
    iotlb = Iotlb("smmu0", ROOMY, VTD_FORMAT, user_bits=32)
    near, far = (iotlb.access(5, 5, Kind.WRITE, user) for user in (0x1F8, 0x8000_01F8))
    assert not near.conflicts(far)
    assert all(one.conflicts(iotlb.access(5, 5, Kind.WRITE)) for one in (near, far))
    assert not far.conflicts(iotlb.access(6, 6, Kind.WRITE))
    iotlb.insert(cached(0x8000_01F8, TAG, 5))
    assert iotlb.find(0x1F8, Dfn(5)) is None
    assert len(iotlb.invalidate(TAG, Dfn(5), Dfn(5))) == 1
