"""What a page-table walk reads and what it yields, whatever the vendor."""

from collections.abc import Callable
from typing import NamedTuple

from emu.units import Dfn, Maddr, Mfn, address_frame

LEVEL_BITS = 9
"""Each level of a table is indexed by nine bits of the dfn."""


class Entry(NamedTuple):
    """A decoded page-table word that is present.

    Attributes:
        address: the next table, or the first frame that the leaf maps.
        is_leaf: whether the walk ends here.
        read, write: what the entry permits; a walk permits what all its entries do.
    """

    address: Maddr
    is_leaf: bool
    read: bool
    write: bool


Decode = Callable[[int, int], Entry | None]
"""Decode (word, level); None where the word is not present. Level 1 maps 4 KiB, level 2 2 MiB, level 3 1 GiB."""


class Translation(NamedTuple):
    """What a device may use: a leaf word, the level that it was read at, and the permissions of the whole walk."""

    leaf: int
    level: int
    read: bool
    write: bool


FAULT = Translation(0, 1, read=False, write=False)
"""No translation: what a walk yields where a word is not present, and a unit may cache if it caches such."""


TABLE_LEVELS = (2, 3, 4)
"""Levels at which an entry may point to a table."""


def level_order(level: int) -> int:
    """Return the page order that one entry of a level spans: 0, 9, 18, ..."""
    return LEVEL_BITS * (level - 1)


def level_index(dfn: Dfn, level: int) -> int:
    """Return the index of a dfn's entry in its table of a level."""
    return (dfn >> level_order(level)) & ((1 << LEVEL_BITS) - 1)


def level_base(dfn: Dfn, level: int) -> Dfn:
    """Return the first dfn that shares this dfn's entry at a level."""
    return Dfn(dfn >> level_order(level) << level_order(level))


def entry_address(table: Maddr, dfn: Dfn, level: int) -> Maddr:
    """Return the address of a dfn's word in a table of a level."""
    return Maddr(table + 8 * level_index(dfn, level))


def translated_frame(entry: Entry, dfn: Dfn, level: int) -> Mfn:
    """Return the frame that a leaf of a level gives for a dfn."""
    return Mfn(address_frame(entry.address) + (dfn - level_base(dfn, level)))
