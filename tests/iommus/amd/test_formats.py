"""AMD-Vi's words against their layouts, and encoding against decoding."""

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.errors import ScenarioError
from emu.iommus.amd.formats import (
    AMD_FORMAT,
    Command,
    CompletionWait,
    DeviceTableEntry,
    InvalidateAll,
    InvalidateDeviceEntry,
    InvalidateDeviceTlb,
    InvalidatePages,
    amd_format,
    decode_command,
    decode_device_entry,
    encode_command,
    encode_device_entry,
    encode_leaf,
    encode_sized_leaf,
    encode_table,
)
from emu.iommus.formats import Entry
from emu.units import Dfn, Maddr

decode = AMD_FORMAT.decode

PAGE_ADDRESSES = st.integers(0, (1 << 40) - 1).map(lambda frame: Maddr(frame << 12))
RELIABLY = settings(deadline=None, derandomize=True)
SIXTEEN_BITS = st.integers(0, 0xFFFF)

DEVICE_ENTRIES = st.builds(
    DeviceTableEntry,
    st.booleans(),
    st.booleans(),
    st.integers(0, 6),
    PAGE_ADDRESSES,
    st.booleans(),
    st.booleans(),
    SIXTEEN_BITS,
    st.booleans(),
)


@st.composite
def of_pages(draw: st.DrawFn) -> Command:
    """Return a command about a range of pages that it can name."""
    order = draw(st.one_of(st.none(), st.integers(0, 51)))
    dfn = Dfn(0) if order is None else Dfn(draw(st.integers(0, (1 << 52 - order) - 1)) << order)
    number = draw(SIXTEEN_BITS)
    if draw(st.booleans()):
        return InvalidatePages(number, dfn, order, draw(st.booleans()))
    return InvalidateDeviceTlb(number, dfn, order, draw(SIXTEEN_BITS), draw(st.integers(0, 0xFF)))


COMMANDS = st.one_of(
    st.builds(
        CompletionWait,
        st.integers(0, (1 << 49) - 1).map(lambda number: Maddr(8 * number)),
        st.integers(0, (1 << 64) - 1),
        st.booleans(),
        st.booleans(),
        st.booleans(),
    ),
    st.builds(InvalidateDeviceEntry, SIXTEEN_BITS),
    of_pages(),
    st.just(InvalidateAll()),
)


# Entries of page tables: PR is bit 0, the next level bits 11:9, the address bits 51:12, FC, IR and IW bits 60 to 62

# FC | IR | IW is 7 << 60, and PR is 1
RW_LEAF = 0x7000_0001_2345_6001
# FC | IR is 3 << 60, FC | IW is 5 << 60
RO_LEAF, WO_LEAF = 0x3000_0001_2345_6001, 0x5000_0001_2345_6001
# IR | IW is 6 << 60, and the next level, 1 << 9 or 3 << 9, is 0x200 or 0x600
TABLE_OF_LEAVES, TABLE_OF_LEVEL_3 = 0x6000_0001_2345_6201, 0x6000_0001_2345_6601


@pytest.mark.parametrize(
    ("word", "read", "write"), [(RW_LEAF, True, True), (RO_LEAF, True, False), (WO_LEAF, False, True)]
)
def test_a_leaf_has_the_bits_of_its_layout(word: int, read: bool, write: bool) -> None:
    assert encode_leaf(Maddr(0x1_2345_6000), read=read, write=write) == word
    assert decode(word, 1) == Entry(Maddr(0x1_2345_6000), next_level=0, order=0, read=read, write=write)


@pytest.mark.parametrize(
    ("word", "address", "level", "order"),
    [(0x7000_0001_3440_0001, 0x1_3440_0000, 2, 9), (0x7000_0001_4000_0001, 0x1_4000_0000, 3, 18)],
)
def test_a_superpage_is_a_leaf_at_a_higher_level(word: int, address: int, level: int, order: int) -> None:
    assert encode_leaf(Maddr(address), read=True, write=True, level=level) == word
    assert decode(word, level) == Entry(Maddr(address), 0, order, read=True, write=True)


@pytest.mark.parametrize(("word", "next_level"), [(TABLE_OF_LEAVES, 1), (TABLE_OF_LEVEL_3, 3)])
def test_an_entry_that_leads_to_a_table_says_the_tables_level(word: int, next_level: int) -> None:
    assert encode_table(Maddr(0x1_2345_6000), next_level) == word
    assert decode(word, 4) == Entry(Maddr(0x1_2345_6000), next_level, 0, read=True, write=True)


@pytest.mark.parametrize(
    ("word", "address", "order", "level"),
    [
        (0x7000_0001_2345_6E01, 0x1_2345_6000, 1, 1),  # the next level is 7 << 9 = 0xE00; bit 12 is clear
        (0x7000_0001_2345_7E01, 0x1_2345_0000, 4, 1),  # bits 14:12 are set, bit 15 is clear
        (0x7000_0001_2347_FE01, 0x1_2340_0000, 8, 1),  # bits 18:12 are set, bit 19 is clear
        (0x7000_0001_345F_FE01, 0x1_3440_0000, 10, 2),  # bits 20:12 are set, bit 21 is clear
    ],
)
def test_a_leaf_of_next_level_7_says_its_size_by_the_lowest_clear_bit_of_its_address(
    word: int, address: int, order: int, level: int
) -> None:
    assert encode_sized_leaf(Maddr(address), order, read=True, write=True) == word
    assert decode(word, level) == Entry(Maddr(address), 0, order, read=True, write=True)


@pytest.mark.parametrize(
    ("word", "level"),
    [
        (0x7000_0001_344F_FE01, 1),  # bits 19:12 are set, bit 20 is clear: order 9, the size of a leaf of level 2
        (0x7000_0001_344F_FE01, 2),
        (0x7000_0001_2345_7E01, 2),  # order 4, smaller than a leaf of level 2
        (0x7000_0001_345F_FE01, 1),  # order 10, larger than a table of level 1 maps
        (0x7000_0001_345F_FE01, 4),
    ],
)
def test_a_sized_leaf_faults_where_its_size_is_none_between_its_level_and_the_next(word: int, level: int) -> None:
    assert decode(word, level) is None


@pytest.mark.parametrize("order", [0, 9, 18, 27, -1])
def test_a_size_that_a_level_has_or_that_none_reaches_is_not_said_by_an_address(order: int) -> None:
    with pytest.raises(ScenarioError, match=f"order {order}"):
        encode_sized_leaf(Maddr(0), order, read=True, write=True)


@pytest.mark.parametrize("level", [1, 2, 3, 4, 5, 6])
def test_a_word_without_pr_is_not_present(level: int) -> None:
    assert decode(RW_LEAF & ~1, level) is None


@pytest.mark.parametrize("bit", range(52, 59))
@pytest.mark.parametrize("word", [RW_LEAF, TABLE_OF_LEAVES])
def test_a_reserved_bit_faults(word: int, bit: int) -> None:
    assert decode(word | 1 << bit, 2) is None


@pytest.mark.parametrize(("level", "next_level"), [(1, 1), (1, 6), (2, 2), (3, 3), (3, 6), (6, 6)])
def test_a_next_level_that_is_not_below_the_entrys_own_faults(level: int, next_level: int) -> None:
    assert decode(encode_table(Maddr(0x5000), next_level), level) is None


@pytest.mark.parametrize(("level", "next_level"), [(2, 1), (3, 2), (3, 1), (6, 5), (6, 1)])
def test_a_next_level_below_the_entrys_own_leads_to_a_table(level: int, next_level: int) -> None:
    entry = decode(encode_table(Maddr(0x5000), next_level), level)
    assert entry == Entry(Maddr(0x5000), next_level, 0, read=True, write=True)


@pytest.mark.parametrize("level", [4, 5, 6])
def test_no_leaf_stands_above_level_3(level: int) -> None:
    assert decode(RW_LEAF, level) is None
    with pytest.raises(ScenarioError, match=f"level {level}"):
        encode_leaf(Maddr(0), read=True, write=True, level=level)


NOTHING = Entry(Maddr(0), 0, 0, read=False, write=False)


@pytest.mark.parametrize(
    ("bits", "entry"),
    [
        (range(1, 9), NOTHING),  # A, D and ignored bits
        (range(12, 52), NOTHING._replace(address=Maddr((1 << 52) - (1 << 12)))),
        (range(59, 61), NOTHING),  # U and FC
        (range(61, 62), NOTHING._replace(read=True)),
        (range(62, 63), NOTHING._replace(write=True)),
        (range(63, 64), NOTHING),
    ],
)
def test_each_field_of_an_entry_is_read_from_its_own_bits(bits: range, entry: Entry) -> None:
    assert decode(1 | sum(1 << bit for bit in bits), 1) == entry


@RELIABLY
@given(level=st.integers(1, 3), number=st.integers(0, (1 << 22) - 1), read=st.booleans(), write=st.booleans())
def test_a_leaf_decodes_to_what_was_encoded(level: int, number: int, read: bool, write: bool) -> None:
    address = Maddr(number << (12 + 9 * (level - 1)))
    word = encode_leaf(address, read=read, write=write, level=level)
    assert decode(word, level) == Entry(address, 0, 9 * (level - 1), read=read, write=write)


@RELIABLY
@given(
    order=st.integers(1, 26).filter(lambda order: order % 9), number=st.integers(0, (1 << 14) - 1), read=st.booleans()
)
def test_a_sized_leaf_decodes_to_what_was_encoded(order: int, number: int, read: bool) -> None:
    address = Maddr(number << 12 + order)
    word = encode_sized_leaf(address, order, read=read, write=not read)
    assert decode(word, 1 + order // 9) == Entry(address, 0, order, read=read, write=not read)


@RELIABLY
@given(address=PAGE_ADDRESSES, level=st.integers(2, 6), below=st.integers(1, 5))
def test_a_table_entry_decodes_to_its_table(address: Maddr, level: int, below: int) -> None:
    next_level = max(1, level - below)
    assert decode(encode_table(address, next_level), level) == Entry(address, next_level, 0, read=True, write=True)


@pytest.mark.parametrize(("address", "level"), [(0x1800, 1), (0x10_0000, 2), (0x20_0000, 3), (1 << 52, 1), (-4096, 1)])
def test_a_leaf_cannot_map_an_address_that_is_not_aligned_to_its_size_or_too_large(address: int, level: int) -> None:
    with pytest.raises(ScenarioError, match="align it"):
        encode_leaf(Maddr(address), read=True, write=True, level=level)


@pytest.mark.parametrize(("bits", "pages"), [(1, (1, 2, 4)), (3, (1, 8, 64)), (9, (1, 512, 512 * 512))])
def test_a_setting_says_how_many_pages_a_superpage_has(bits: int, pages: tuple[int, ...]) -> None:
    small = amd_format(bits)
    assert tuple(1 << order for order in small.leaf_orders) == pages
    for level, count in enumerate(pages, start=1):
        word = small.encode_leaf(Maddr(0x1000 * count), read=True, write=False, level=level)
        assert small.decode(word, level) == Entry(Maddr(0x1000 * count), 0, small.orders[level], read=True, write=False)
        with pytest.raises(ScenarioError, match=f"align it to {0x1000 * count:#x}"):
            small.encode_leaf(Maddr(0x1000 * count + 0x800), read=True, write=True, level=level)


def test_tables_above_all_superpages_keep_their_size_and_six_levels_index_all_64_bits_of_an_address() -> None:
    assert amd_format(1).index_bits == (1, 1, 9, 9, 9, 7)
    assert amd_format(9) is AMD_FORMAT
    assert 12 + sum(AMD_FORMAT.index_bits) == 64


# Device table entries: V and TV are bits 0 and 1, the mode bits 11:9, the root bits 51:12, IR and IW bits 61 and 62;
# the domain id is bits 15:0 of the second word, I is its bit 32


def test_a_device_table_entry_has_the_bits_of_its_layout() -> None:
    # V | TV is 3, mode 4 is 4 << 9 = 0x800, IR | IW is 6 << 60
    entry = DeviceTableEntry(mode=4, root=Maddr(0x1_2345_6000), domain_id=0xABCD, ats=True)
    assert encode_device_entry(entry) == (0x6000_0001_2345_6803, 0x0000_0001_0000_ABCD, 0, 0)


@RELIABLY
@given(entry=DEVICE_ENTRIES)
def test_a_device_table_entry_decodes_to_what_was_encoded(entry: DeviceTableEntry) -> None:
    words = encode_device_entry(entry)
    assert decode_device_entry(sum(word << 64 * number for number, word in enumerate(words))) == entry


UNSET = DeviceTableEntry(is_valid=False, translates=False, read=False, write=False)


@pytest.mark.parametrize(
    ("bits", "entry"),
    [
        (range(1), attrs.evolve(UNSET, is_valid=True)),
        (range(1, 2), attrs.evolve(UNSET, translates=True)),
        (range(2, 9), UNSET),
        (range(9, 12), attrs.evolve(UNSET, mode=7)),
        (range(12, 52), attrs.evolve(UNSET, root=Maddr((1 << 52) - (1 << 12)))),
        (range(52, 61), UNSET),  # page requests and guest translation
        (range(61, 62), attrs.evolve(UNSET, read=True)),
        (range(62, 63), attrs.evolve(UNSET, write=True)),
        (range(63, 64), UNSET),
        (range(64, 80), attrs.evolve(UNSET, domain_id=0xFFFF)),
        (range(80, 96), UNSET),
        (range(96, 97), attrs.evolve(UNSET, ats=True)),
        (range(97, 256), UNSET),
    ],
)
def test_each_field_of_a_device_table_entry_is_read_from_its_own_bits(bits: range, entry: DeviceTableEntry) -> None:
    assert decode_device_entry(sum(1 << bit for bit in bits)) == entry


def test_the_zero_entry_is_not_valid() -> None:
    assert decode_device_entry(0) == UNSET


@pytest.mark.parametrize("bit", [2, 3, 4, 5, 6, 63])
def test_a_reserved_bit_makes_a_valid_entry_illegal(bit: int) -> None:
    assert decode_device_entry(0b11 | 1 << bit) is None
    assert decode_device_entry(1 << bit) == UNSET


def test_mode_7_makes_a_valid_entry_illegal() -> None:
    assert decode_device_entry(0b11 | 7 << 9) is None


@pytest.mark.parametrize(("mode", "domain_id"), [(8, 1), (-1, 1), (4, 0x1_0000), (4, -1)])
def test_a_device_table_entry_refuses_a_mode_or_a_domain_id_that_does_not_fit(mode: int, domain_id: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        DeviceTableEntry(mode=mode, domain_id=domain_id)


# Commands: the opcode is bits 63:60 of the low word


@pytest.mark.parametrize(
    ("command", "high", "low"),
    [
        (CompletionWait(), 0, 0x1000_0000_0000_0000),
        (
            CompletionWait(Maddr(0x1_2345_6788), 0xDEAD_BEEF_0000_0001, store=True),
            0xDEAD_BEEF_0000_0001,
            0x1 << 60 | 0x1_2345_6789,
        ),
        (CompletionWait(interrupt=True), 0, 0x1000_0000_0000_0002),
        (CompletionWait(flush=True), 0, 0x1000_0000_0000_0004),
        (InvalidateDeviceEntry(0x00F8), 0, 0x2000_0000_0000_00F8),
        (InvalidatePages(0xABCD, Dfn(0x1_2345)), 0x1234_5000, 0x3000_ABCD_0000_0000),
        (InvalidateDeviceTlb(0x00F8, Dfn(0x1_2345), 0, 0xABCD, 0x12), 0x1234_5000, 0x4000_ABCD_1200_00F8),
        (InvalidateDeviceTlb(0x00F8, Dfn(0), None), 0x7FFF_FFFF_FFFF_F001, 0x4000_0000_0000_00F8),
        (InvalidateAll(), 0, 0x8000_0000_0000_0000),
    ],
)
def test_a_command_has_the_bits_of_its_layout(command: Command, high: int, low: int) -> None:
    assert encode_command(command) == high << 64 | low


@pytest.mark.parametrize(
    ("dfn", "order", "address"),
    [
        (0x1_2345, 0, 0x1234_5000),  # S is clear
        (0x1_2344, 1, 0x1234_4001),  # S is set; bit 12 is clear
        (0x200, 9, 0x2F_F001),  # bits 19:12 are set, bit 20 is clear
        (0x4_0000, 18, 0x5FFF_F001),  # bits 28:12 are set, bit 29 is clear
        (0, None, 0x7FFF_FFFF_FFFF_F001),  # bits 62:12 are set
    ],
)
@pytest.mark.parametrize("directory", [False, True])
def test_the_size_of_an_invalidation_is_the_lowest_clear_bit_of_its_address_and_pde_stands_beside_it(
    dfn: int, order: int | None, address: int, directory: bool
) -> None:
    command = InvalidatePages(1, Dfn(dfn), order, directory)
    assert encode_command(command) == (address | directory << 1) << 64 | 0x3000_0001_0000_0000
    assert decode_command(encode_command(command)) == command


def test_all_ones_in_every_bit_of_the_address_are_all_pages_too() -> None:
    assert decode_command(0xFFFF_FFFF_FFFF_F001 << 64 | 0x3 << 60) == InvalidatePages(0, Dfn(0), None)


@RELIABLY
@given(command=COMMANDS)
def test_a_command_decodes_to_what_was_encoded(command: Command) -> None:
    assert decode_command(encode_command(command)) == command


@pytest.mark.parametrize(
    ("opcode", "bits", "expected"),
    [
        (1, range(1), CompletionWait(store=True)),
        (1, range(1, 2), CompletionWait(interrupt=True)),
        (1, range(2, 3), CompletionWait(flush=True)),
        (1, range(3, 52), CompletionWait(Maddr((1 << 52) - 8))),
        (1, range(52, 60), CompletionWait()),
        (1, range(64, 128), CompletionWait(store_data=(1 << 64) - 1)),
        (2, range(16), InvalidateDeviceEntry(0xFFFF)),
        (2, range(16, 60), InvalidateDeviceEntry(0)),
        (3, range(32), InvalidatePages(0)),
        (3, range(32, 48), InvalidatePages(0xFFFF)),
        (3, range(48, 60), InvalidatePages(0)),
        (3, range(64, 65), InvalidatePages(0, order=1)),
        (3, range(65, 66), InvalidatePages(0, directory=True)),
        (3, range(66, 76), InvalidatePages(0)),
        (3, range(76, 128), InvalidatePages(0, Dfn((1 << 52) - 1))),
        (4, range(16), InvalidateDeviceTlb(0xFFFF)),
        (4, range(16, 24), InvalidateDeviceTlb(0)),
        (4, range(24, 32), InvalidateDeviceTlb(0, max_pending=0xFF)),
        (4, range(32, 48), InvalidateDeviceTlb(0, queue_id=0xFFFF)),
        (4, range(64, 65), InvalidateDeviceTlb(0, order=1)),
        (4, range(76, 128), InvalidateDeviceTlb(0, Dfn((1 << 52) - 1))),
        (8, range(60), InvalidateAll()),
    ],
)
def test_each_field_of_a_command_is_read_from_its_own_bits(opcode: int, bits: range, expected: Command) -> None:
    assert decode_command(opcode << 60 | sum(1 << bit for bit in bits)) == expected


@pytest.mark.parametrize("opcode", [0, 5, 6, 7, 9, 15])
def test_an_opcode_that_is_not_executed_decodes_to_none(opcode: int) -> None:
    assert decode_command(opcode << 60) is None


@pytest.mark.parametrize(
    ("command", "named"),
    [
        (CompletionWait(Maddr(4)), "0x4"),
        (CompletionWait(Maddr(1 << 52)), "0x10000000000000"),
        (CompletionWait(store_data=1 << 64), "store_data"),
        (InvalidateDeviceEntry(0x1_0000), "device_id"),
        (InvalidatePages(0x1_0000), "domain_id"),
        (InvalidatePages(-1), "domain_id"),
        (InvalidatePages(1, Dfn(1 << 52)), "dfn"),
        (InvalidatePages(1, Dfn(0), 52), "order"),
        (InvalidatePages(1, Dfn(0), 64), "order"),
        (InvalidatePages(1, Dfn(0), -1), "order"),
        (InvalidateDeviceTlb(1, queue_id=0x1_0000), "queue_id"),
        (InvalidateDeviceTlb(1, max_pending=0x100), "max_pending"),
    ],
)
def test_a_field_that_does_not_fit_is_refused_by_its_name(command: Command, named: str) -> None:
    with pytest.raises(ScenarioError, match=named):
        encode_command(command)
