"""A table format of six levels whose entries may skip levels, as AMD-Vi's do: an entry says to which level it leads."""

from emu.errors import ScenarioError
from emu.iommus.formats import Entry, TableFormat
from emu.units import PAGE_SHIFT, Maddr

PRESENT, READ, WRITE = 1 << 0, 1 << 61, 1 << 62
NEXT_LEVEL_SHIFT = 9
ADDRESS = (1 << 52) - (1 << PAGE_SHIFT)
LEAF_LEVELS = (1, 2, 3)


def leaf_order(level: int) -> int:
    """Return how many pages a leaf of a level maps, as an order."""
    return 9 * (level - 1)


def decode(word: int, level: int) -> Entry | None:
    """Decode a word; one that leads to its own level or upwards, or is a leaf at level 4 to 6, is not present."""
    next_level = word >> NEXT_LEVEL_SHIFT & 7
    if not word & PRESENT or next_level >= level or (not next_level and level not in LEAF_LEVELS):
        return None
    order = 0 if next_level else leaf_order(level)
    size_shift = PAGE_SHIFT + order
    address = Maddr((word & ADDRESS) >> size_shift << size_shift)
    return Entry(address, next_level, order, bool(word & READ), bool(word & WRITE))


def encode_leaf(address: Maddr, *, read: bool, write: bool, level: int = 1) -> int:
    if level not in LEAF_LEVELS or address % (1 << PAGE_SHIFT + leaf_order(level)):
        raise ScenarioError(f"no leaf of level {level} can map {address:#x}")
    return address | PRESENT | read * READ | write * WRITE


def encode_table(address: Maddr, level: int) -> int:
    return address | level << NEXT_LEVEL_SHIFT | PRESENT | READ | WRITE


SIX_LEVELS = TableFormat((9, 9, 9, 9, 9, 7), (1, 6), LEAF_LEVELS, decode, encode_leaf, encode_table)
