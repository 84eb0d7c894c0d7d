"""The words of a p2m against their layout: the descriptor of hardware, with the page type in bits that it ignores.

Words are checked by hand: the type is bits 58:55, so type 1 is 0x0080 << 48 and type 10 is 0x0500 << 48; XN is bit 54,
0x0040 << 48.
"""

import pytest

from emu.hypervisor.ops import MapFlags
from emu.hypervisor.p2m_types import P2mType
from emu.hypervisor.smmu.entries import (
    is_lpae_valid,
    is_p2m_valid,
    is_table,
    next_table,
    p2m_word,
    table_word,
    type_of,
)
from emu.units import Maddr, Mfn
from tests.smmu import smmu_machine

LEAVES = [kind for kind in P2mType if kind is not P2mType.INVALID]


def word(p2m_type: P2mType, mfn: int = 0x12345, level: int = 1) -> int:
    return p2m_word(smmu_machine().domain(1), Mfn(mfn), p2m_type, level)


@pytest.mark.parametrize(
    ("p2m_type", "expected"),
    [
        (P2mType.RAM_RW, 0x0080_0000_1234_57FF),
        (P2mType.RAM_RO, 0x0100_0000_1234_577F),
        (P2mType.MAP_FOREIGN_RW, 0x0340_0000_1234_57FF),
        (P2mType.MAP_FOREIGN_RO, 0x03C0_0000_1234_577F),
        (P2mType.IOMMU_MAP_RW, 0x0540_0000_1234_57FF),
        (P2mType.IOMMU_MAP_RO, 0x05C0_0000_1234_577F),
    ],
)
def test_a_page_has_the_bits_of_its_layout(p2m_type: P2mType, expected: int) -> None:
    assert word(p2m_type) == expected


def test_a_block_lacks_the_table_bit() -> None:
    assert word(P2mType.RAM_RW, 0x12200, level=2) == 0x0080_0000_1220_07FD


def test_an_entry_that_leads_to_a_table_looks_like_a_page_of_ram() -> None:
    assert table_word(Maddr(0x1234_5000)) == word(P2mType.RAM_RW)


@pytest.mark.parametrize("p2m_type", LEAVES)
@pytest.mark.parametrize(("mfn", "level"), [(0x12345, 1), (0x12200, 2), (0x40000, 3)])
def test_hardware_reads_the_permissions_of_the_type_and_xen_the_type(p2m_type: P2mType, mfn: int, level: int) -> None:
    domain = smmu_machine().domain(1)
    leaf = p2m_word(domain, Mfn(mfn), p2m_type, level)
    entry = domain.format.decode(leaf, level)
    assert entry is not None
    assert (entry.address, entry.order) == (mfn << 12, 9 * (level - 1))
    assert entry.read is (MapFlags.READABLE in p2m_type.flags)
    assert entry.write is (MapFlags.WRITABLE in p2m_type.flags)
    assert type_of(leaf) is p2m_type
    assert next_table(leaf) == mfn << 12


@pytest.mark.parametrize("p2m_type", LEAVES)
def test_the_type_and_the_valid_bit_are_valid_one_without_the_other(p2m_type: P2mType) -> None:
    leaf = word(p2m_type)
    assert (is_p2m_valid(leaf), is_lpae_valid(leaf)) == (True, True)
    assert (is_p2m_valid(leaf & ~1), is_lpae_valid(leaf & ~1)) == (True, False)
    untyped = leaf & ~(0xF << 55)
    assert (is_p2m_valid(untyped), is_lpae_valid(untyped)) == (False, True)


@pytest.mark.parametrize("number", [0, 12, 15])
def test_a_number_that_stands_for_no_type_is_none(number: int) -> None:
    assert type_of(number << 55 | 1) is P2mType.INVALID


@pytest.mark.parametrize("valid", [0, 1])
def test_an_entry_leads_to_a_table_above_level_1_by_its_table_bit_be_it_valid_for_hardware_or_not(valid: int) -> None:
    table, block = table_word(Maddr(0x5000)) & ~1 | valid, word(P2mType.RAM_RW, 0x12200, 2) & ~1 | valid
    assert [is_table(table, level) for level in (1, 2, 3)] == [False, True, True]
    assert [is_table(block, level) for level in (2, 3)] == [False, False]
