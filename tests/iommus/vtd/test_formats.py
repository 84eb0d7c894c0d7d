"""VT-d's words against their layouts, and encoding against decoding."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.errors import ScenarioError
from emu.iommus.formats import Entry
from emu.iommus.vtd.formats import (
    VTD_FORMAT,
    ContextEntry,
    ContextInvalidation,
    Descriptor,
    Granularity,
    IotlbInvalidation,
    WaitDescriptor,
    decode_context_entry,
    decode_descriptor,
    decode_pte,
    decode_root_entry,
    encode_context_entry,
    encode_descriptor,
    encode_leaf,
    encode_root_entry,
    encode_table,
    vtd_format,
)
from emu.units import Dfn, Maddr

PAGE_ADDRESSES = st.integers(0, (1 << 40) - 1).map(lambda frame: Maddr(frame << 12))
RELIABLY = settings(deadline=None, derandomize=True)

SIXTEEN_BITS = st.integers(0, 0xFFFF)

CONTEXT_ENTRIES = st.builds(ContextEntry, SIXTEEN_BITS, PAGE_ADDRESSES, st.sampled_from([3, 4]))

DESCRIPTORS = st.one_of(
    st.builds(ContextInvalidation, st.sampled_from(Granularity), SIXTEEN_BITS, SIXTEEN_BITS, st.integers(0, 3)),
    st.builds(
        IotlbInvalidation,
        st.just(Granularity.NARROW),
        SIXTEEN_BITS,
        st.integers(0, (1 << 52) - 1).map(Dfn),
        st.integers(0, 63),
        st.booleans(),
        st.booleans(),
        st.booleans(),
    ),
    st.builds(
        IotlbInvalidation,
        st.sampled_from([Granularity.GLOBAL, Granularity.DOMAIN]),
        SIXTEEN_BITS,
        drain_reads=st.booleans(),
        drain_writes=st.booleans(),
    ),
    st.builds(
        WaitDescriptor,
        st.integers(0, (1 << 62) - 1).map(lambda number: Maddr(4 * number)),
        st.integers(0, (1 << 32) - 1),
        st.booleans(),
        st.booleans(),
        st.booleans(),
    ),
)


def test_a_real_leaf_decodes_to_its_frame() -> None:
    assert decode_pte(0x0000_0001_539F_B803, 1) == Entry(
        Maddr(0x1_539F_B000), next_level=0, order=0, read=True, write=True
    )


def test_a_real_leaf_is_encoded_bit_for_bit() -> None:
    assert encode_leaf(Maddr(0x1_539F_B000), read=True, write=True, snoop=True) == 0x0000_0001_539F_B803


def test_a_real_2_mib_superpage_decodes_to_its_first_frame() -> None:
    assert decode_pte(0x0000_0001_3440_0883, 2) == Entry(
        Maddr(0x1_3440_0000), next_level=0, order=9, read=True, write=True
    )


def test_a_real_2_mib_superpage_is_encoded_bit_for_bit() -> None:
    assert encode_leaf(Maddr(0x1_3440_0000), read=True, write=True, snoop=True, level=2) == 0x0000_0001_3440_0883


def test_a_superpage_may_stand_at_level_3() -> None:
    assert decode_pte(0x0000_0001_4000_0081, 3) == Entry(
        Maddr(0x1_4000_0000), next_level=0, order=18, read=True, write=False
    )


def test_a_superpage_bit_at_level_4_makes_no_leaf() -> None:
    assert decode_pte(0x0000_0001_4000_0083, 4) == Entry(Maddr(0x1_4000_0000), 3, 0, read=True, write=True)


def test_the_address_bits_below_a_superpages_size_read_as_zero() -> None:
    assert decode_pte(0x0000_0001_345F_F083, 2) == Entry(
        Maddr(0x1_3440_0000), next_level=0, order=9, read=True, write=True
    )


def test_bits_52_and_above_are_no_part_of_the_address() -> None:
    assert decode_pte(0xFFF0_0001_539F_B003, 1) == Entry(
        Maddr(0x1_539F_B000), next_level=0, order=0, read=True, write=True
    )


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_a_word_without_read_and_write_is_not_present(level: int) -> None:
    assert decode_pte(0xFFFF_FFFF_FFFF_FFFC, level) is None


@pytest.mark.parametrize(("word", "read", "write"), [(0x5001, True, False), (0x5002, False, True)])
def test_either_permission_makes_a_word_present(word: int, read: bool, write: bool) -> None:
    assert decode_pte(word, 1) == Entry(Maddr(0x5000), next_level=0, order=0, read=read, write=write)


@RELIABLY
@given(
    level=st.integers(1, 3),
    number=st.integers(0, (1 << 22) - 1),
    rights=st.sampled_from([(True, False), (False, True), (True, True)]),
    snoop=st.booleans(),
)
def test_a_leaf_decodes_to_what_was_encoded(level: int, number: int, rights: tuple[bool, bool], snoop: bool) -> None:
    address = Maddr(number << (12 + 9 * (level - 1)))
    word = encode_leaf(address, read=rights[0], write=rights[1], snoop=snoop, level=level)
    assert decode_pte(word, level) == Entry(
        address, next_level=0, order=9 * (level - 1), read=rights[0], write=rights[1]
    )


@RELIABLY
@given(address=PAGE_ADDRESSES, level=st.integers(2, 4))
def test_a_table_entry_decodes_to_its_table(address: Maddr, level: int) -> None:
    assert decode_pte(encode_table(address), level) == Entry(
        address, next_level=level - 1, order=0, read=True, write=True
    )


@pytest.mark.parametrize(("bits", "pages"), [(1, (1, 2, 4)), (3, (1, 8, 64)), (9, (1, 512, 512 * 512))])
def test_a_setting_says_how_many_pages_a_superpage_has(bits: int, pages: tuple[int, ...]) -> None:
    small = vtd_format(bits)
    assert tuple(1 << order for order in small.leaf_orders) == pages
    assert tuple(small.span(level) for level in (1, 2, 3)) == pages
    for level, count in enumerate(pages, start=1):
        word = small.encode_leaf(Maddr(0x1000 * count), read=True, write=False, level=level)
        entry = small.decode(word, level)
        assert entry == Entry(Maddr(0x1000 * count), 0, small.orders[level], read=True, write=False)
        with pytest.raises(ScenarioError, match=f"align it to {0x1000 * count:#x}"):
            small.encode_leaf(Maddr(0x1000 * count + 0x800), read=True, write=True, level=level)


def test_tables_above_all_superpages_keep_their_size() -> None:
    assert vtd_format(1).index_bits == (1, 1, 9, 9, 9)
    assert vtd_format(9) is VTD_FORMAT


@pytest.mark.parametrize("bits", [1, 8])
@pytest.mark.parametrize("word", [0, 0x1_539F_B803, 0x1_3440_0883])
def test_entries_of_level_1_are_the_same_whatever_the_size_of_a_superpage(word: int, bits: int) -> None:
    assert vtd_format(bits).decode(word, 1) == decode_pte(word, 1)


@pytest.mark.parametrize(("address", "level"), [(0x1800, 1), (0x10_0000, 2), (0x20_0000, 3), (1 << 52, 1), (-4096, 1)])
def test_a_leaf_cannot_map_an_address_that_is_not_aligned_to_its_size_or_too_large(address: int, level: int) -> None:
    with pytest.raises(ScenarioError, match="align it"):
        encode_leaf(Maddr(address), read=True, write=True, level=level)


def test_a_root_entry_is_present_and_points_to_a_context_table() -> None:
    assert encode_root_entry(Maddr(0x1_2345_6000)) == 0x1_2345_6001


@RELIABLY
@given(table=PAGE_ADDRESSES)
def test_a_root_entry_decodes_to_what_was_encoded(table: Maddr) -> None:
    assert decode_root_entry(encode_root_entry(table)) == table


def test_a_root_entry_without_its_present_bit_has_no_context_table() -> None:
    assert decode_root_entry(0x1_2345_6000) is None


def test_the_high_half_of_a_root_entry_is_ignored() -> None:
    assert decode_root_entry(0xFFFF_FFFF_FFFF_FFFF_0000_0001_2345_6001) == 0x1_2345_6000


def test_a_context_entry_holds_its_domain_id_and_width_in_the_high_half() -> None:
    context = ContextEntry(0xABCD, Maddr(0x1_2345_6000), 4)
    assert encode_context_entry(context) == 0x0000_0000_00AB_CD02_0000_0001_2345_6001


@RELIABLY
@given(context=CONTEXT_ENTRIES)
def test_a_context_entry_decodes_to_what_was_encoded(context: ContextEntry) -> None:
    assert decode_context_entry(encode_context_entry(context)) == context


@pytest.mark.parametrize(
    ("high", "low"),
    [(0x0701, 0x6000), (0x0701, 0x6005), (0x0701, 0x6009), (0x0700, 0x6001), (0x0703, 0x6001)],
    ids=["not present", "TT 1", "TT 2", "AW 0", "AW 3"],
)
def test_a_context_entry_that_does_not_translate_decodes_to_none(high: int, low: int) -> None:
    assert decode_context_entry(high << 64 | low) is None


@pytest.mark.parametrize(("did", "levels"), [(-1, 3), (0x1_0000, 3), (1, 2), (1, 5)])
def test_a_context_entry_refuses_a_domain_id_or_width_that_does_not_fit(did: int, levels: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        ContextEntry(did, Maddr(0x6000), levels)


@pytest.mark.parametrize(
    ("descriptor", "high", "low"),
    [
        (IotlbInvalidation(Granularity.GLOBAL, drain_reads=False, drain_writes=False), 0x0, 0x12),
        (IotlbInvalidation(Granularity.DOMAIN, 0xABCD, drain_reads=False, drain_writes=False), 0x0, 0xABCD_0022),
        (IotlbInvalidation(Granularity.DOMAIN, 1, drain_reads=False), 0x0, 0x1_0062),
        (IotlbInvalidation(Granularity.DOMAIN, 1, drain_writes=False), 0x0, 0x1_00A2),
        (IotlbInvalidation(Granularity.NARROW, 0xABCD, Dfn(0x12345)), 0x1234_5000, 0xABCD_00F2),
        (IotlbInvalidation(Granularity.NARROW, 1, Dfn(0x200), 9), 0x20_0009, 0x1_00F2),
        (IotlbInvalidation(Granularity.NARROW, 1, Dfn(1), 0, leaf_only=True), 0x1040, 0x1_00F2),
        (ContextInvalidation(Granularity.GLOBAL), 0x0, 0x11),
        (ContextInvalidation(Granularity.DOMAIN, 0xABCD), 0x0, 0xABCD_0021),
        (ContextInvalidation(Granularity.NARROW, 0xABCD, 0x1234, 3), 0x0, 0x0003_1234_ABCD_0031),
        (WaitDescriptor(Maddr(0x1_2345_6784), 0xDEAD_BEEF, fence=False), 0x1_2345_6784, 0xDEAD_BEEF_0000_0025),
        (WaitDescriptor(Maddr(0x1000), 1), 0x1000, 0x1_0000_0065),
        (WaitDescriptor(status_write=False, fence=False, interrupt=True), 0x0, 0x15),
        (WaitDescriptor(status_write=False), 0x0, 0x45),
    ],
)
def test_a_descriptor_has_the_bits_of_its_layout(descriptor: Descriptor, high: int, low: int) -> None:
    assert encode_descriptor(descriptor) == high << 64 | low


@RELIABLY
@given(descriptor=DESCRIPTORS)
def test_a_descriptor_decodes_to_what_was_encoded(descriptor: Descriptor) -> None:
    assert decode_descriptor(encode_descriptor(descriptor)) == descriptor


def test_only_a_page_selective_descriptor_has_an_address() -> None:
    assert decode_descriptor(0x1234_5000 << 64 | 0xE2) == IotlbInvalidation(Granularity.DOMAIN)


@pytest.mark.parametrize("entry", [0x0, 0x3, 0x1F, 0x1_0002, 0x1_0001])
def test_a_descriptor_of_no_type_or_granularity_that_is_executed_decodes_to_none(entry: int) -> None:
    assert decode_descriptor(entry) is None
