"""Stream table entries and commands, word by word: golden words are computed by hand from the layout (IHI 0070)."""

import pytest

from emu.errors import ScenarioError
from emu.iommus.smmu.v3.formats import (
    ABORT,
    Command,
    Config,
    InvalidateAll,
    InvalidatePage,
    InvalidateStream,
    InvalidateStreams,
    InvalidateVmid,
    Prefetch,
    StreamTableEntry,
    Sync,
    decode_command,
    decode_entry,
    decode_l1_descriptor,
    encode_command,
    encode_entry,
    encode_l1_descriptor,
    translating,
)
from emu.units import Dfn, Maddr

ROOT = Maddr(0x12_3456_7000)

GOLDEN_ENTRIES = [
    # V, Config 000; SHCFG 01 in bits 109:108.
    (ABORT, (0x1, 1 << 44, 0, 0)),
    (StreamTableEntry(is_valid=False), (0x0, 1 << 44, 0, 0)),
    # V, Config 100.
    (StreamTableEntry(config=Config.BYPASS), (0x9, 1 << 44, 0, 0)),
    # V, Config 110. S2VMID 0x1234; T0SZ 24 (0x18), SL0 1, IR0 and OR0 1, SH0 3, TG 0, PS 2 at bits 50:32:
    # 0x18 | 1 << 6 | 1 << 8 | 1 << 10 | 3 << 12 | 2 << 16 = 0x23558; AA64 bit 51, PTW 54, R 58.
    (translating(0x1234, 40, ROOT), (0xD, 1 << 44, 0x0448_0000_0000_1234 | 0x23558 << 32, 0x12_3456_7000)),
    # T0SZ 16 (0x10), SL0 2, PS 5: 0x10 | 2 << 6 | 1 << 8 | 1 << 10 | 3 << 12 | 5 << 16 = 0x53590.
    (translating(1, 48, ROOT), (0xD, 1 << 44, 0x0448_0000_0000_0001 | 0x53590 << 32, 0x12_3456_7000)),
]


@pytest.mark.parametrize(("entry", "words"), GOLDEN_ENTRIES)
def test_an_entry_has_the_words_of_the_manual(entry: StreamTableEntry, words: tuple[int, ...]) -> None:
    assert encode_entry(entry) == words


@pytest.mark.parametrize("entry", [entry for entry, _ in GOLDEN_ENTRIES])
def test_an_entry_that_is_written_is_read_again(entry: StreamTableEntry) -> None:
    first, _, third, fourth = encode_entry(entry)
    assert decode_entry(first, third, fourth) == entry


def test_an_entry_that_does_not_translate_is_read_from_its_first_word_alone() -> None:
    assert decode_entry(0x1, (1 << 64) - 1, (1 << 64) - 1) == ABORT
    assert decode_entry(0xD, 0, int(ROOT)) == StreamTableEntry(config=Config.STAGE_2, root=ROOT)


def test_an_entry_that_is_not_valid_does_not_translate_whatever_its_configuration_says() -> None:
    assert not decode_entry(0xC, 0, 0).translates
    assert decode_entry(0xD, 0, 0).translates
    assert not decode_entry(0x9, 0, 0).translates


def test_bits_of_the_second_stage_that_are_not_part_of_the_address_do_not_count() -> None:
    assert decode_entry(0xD, 0, 0xFFF0_0000_0000_000F | ROOT).root == ROOT


def test_a_vmid_of_more_than_16_bits_is_refused() -> None:
    with pytest.raises(ScenarioError, match="vmid 0x10000 does not fit into the 16 bits"):
        encode_entry(translating(1 << 16, 40, ROOT))


def test_a_level_1_descriptor_has_a_span_of_nine_and_the_address() -> None:
    assert encode_l1_descriptor(Maddr(0x1_0000_4000)) == 0x1_0000_4009
    assert decode_l1_descriptor(0x1_0000_4009) == 0x1_0000_4000
    assert decode_l1_descriptor(0) is None
    assert decode_l1_descriptor(0x1_0000_4008) is None


GOLDEN_COMMANDS: list[tuple[Command, int, int]] = [
    (Sync(), 0x2046, 0),
    (InvalidateStream(0xF8), 0xF8_0000_0003, 1),
    (InvalidateStream(0xFFFF_FFFF, leaf=False), 0xFFFF_FFFF_0000_0003, 0),
    (InvalidateStreams(), 0x04, 31),
    (InvalidateVmid(0x1234), 0x1234_0000_0028, 0),
    (InvalidatePage(1, Dfn(0x1_0000), leaf=True), 0x1_0000_002A, 0x1000_0001),
    (InvalidatePage(0xFFFF, Dfn((1 << 40) - 1)), 0xFFFF_0000_002A, 0xF_FFFF_FFFF_F000),
    (InvalidateAll(), 0x30, 0),
    (Prefetch(0xF8), 0xF8_0000_0001, 0),
]


@pytest.mark.parametrize(("command", "low", "high"), GOLDEN_COMMANDS)
def test_a_command_has_the_words_of_the_manual(command: Command, low: int, high: int) -> None:
    assert encode_command(command) == low | high << 64


@pytest.mark.parametrize("command", [command for command, _, _ in GOLDEN_COMMANDS])
def test_a_command_that_is_written_is_read_again(command: Command) -> None:
    assert decode_command(encode_command(command)) == command


@pytest.mark.parametrize("bits", [0, 0x02, 0x10, 0xFF, 0x04, 0x04 | 30 << 64])
def test_what_is_no_command_of_the_model_is_not_executed(bits: int) -> None:
    assert decode_command(bits) is None


@pytest.mark.parametrize(
    ("command", "named"),
    [
        (InvalidateStream(1 << 32), "stream_id"),
        (InvalidateVmid(1 << 16), "vmid"),
        (InvalidatePage(1, Dfn(1 << 40)), "dfn"),
    ],
)
def test_a_field_that_is_too_wide_is_refused_by_name(command: Command, named: str) -> None:
    with pytest.raises(ScenarioError, match=f"^{named} 0x1"):
        encode_command(command)
