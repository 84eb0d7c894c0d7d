"""Page-table entries, and the translations that walks yield. The table format of a vendor is one value."""

from collections.abc import Callable
from itertools import accumulate
from typing import NamedTuple, Protocol

import attrs

from emu.errors import ScenarioError
from emu.units import WORD_BYTES, Dfn, Maddr, Mfn, address_frame


class Entry(NamedTuple):
    """A decoded page-table word that is present.

    Attributes:
        address: the next table, or the first frame that the leaf maps.
        next_level: the level of the next table, lower than the entry's own; 0 where the entry is a leaf.
        order: a leaf maps 2^order pages; 0 where the entry leads to a table.
        read, write: the entry's permissions; a walk has the permissions that all its entries grant.
    """

    address: Maddr
    next_level: int
    order: int
    read: bool
    write: bool

    @property
    def is_leaf(self) -> bool:
        """Whether the walk ends here."""
        return not self.next_level


class Translation(NamedTuple):
    """A translation: a leaf word, the frames that it maps, and the permissions of the whole walk.

    Attributes:
        order: it maps 2^order pages.
        address: the first frame that it maps; None where it maps nothing.
    """

    leaf: int
    order: int
    read: bool
    write: bool
    address: Maddr | None

    @property
    def is_present(self) -> bool:
        """Whether it maps anything."""
        return self.address is not None

    def frame(self, dfn: Dfn) -> Mfn | None:
        """Return the frame to which it translates a dfn; None if it maps nothing."""
        if self.address is None:
            return None
        return Mfn(address_frame(self.address) + (dfn & ((1 << self.order) - 1)))

    def maps(self, dfn: Dfn) -> "Mapping":
        """Return the frame and the permissions of a dfn, whatever the size of the leaf."""
        return Mapping(self.frame(dfn), self.read, self.write)


class Mapping(NamedTuple):
    """The frame of a dfn, None if it has none, and its permissions."""

    frame: Mfn | None
    read: bool
    write: bool


FAULT = Translation(0, 0, read=False, write=False, address=None)
"""No translation: the result of a walk that reads a word that is not present. Some units cache it."""


class EncodeLeaf(Protocol):
    """Encodes a leaf."""

    def __call__(self, address: Maddr, *, read: bool, write: bool, level: int = 1) -> int:
        """Return a leaf of a level that maps the memory at an address.

        Raises:
            ScenarioError: if no leaf can stand at the level, or the address does not fit it.
        """


@attrs.frozen(eq=False)
class TableFormat:
    """How a vendor writes page tables. Every entry is one word of 64 bits.

    Attributes:
        index_bits: how many bits of a dfn index a table of level 1, 2, ...: one number for each level that the manual
            defines, whether or not a unit of this model has it.
        depths: the least and the greatest number of levels that the tables of a domain may have.
        leaf_levels: the levels at which a leaf may stand, lowest first.
        decode: decodes (word, level); None where the word is not present.
        encode_leaf: encodes a leaf.
        encode_table: encodes an entry that leads to a table and permits everything: (address, level of the table).
        device_level: the level number of a device's own entry, which stands above all tables.
        orders: for each level, from 0 on, how many bits of a dfn lie below its index.
        table_levels: the levels at which an entry may lead to a table, lowest first.
        leaf_orders: the orders of the pages that a leaf may map, smallest first.
    """

    index_bits: tuple[int, ...]
    depths: tuple[int, int]
    leaf_levels: tuple[int, ...]
    decode: Callable[[int, int], Entry | None]
    encode_leaf: EncodeLeaf
    encode_table: Callable[[Maddr, int], int]
    device_level: int = attrs.field(init=False)
    orders: tuple[int, ...] = attrs.field(init=False)
    table_levels: tuple[int, ...] = attrs.field(init=False)
    leaf_orders: tuple[int, ...] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        set_once = object.__setattr__
        set_once(self, "device_level", len(self.index_bits) + 1)
        set_once(self, "orders", (0, 0, *accumulate(self.index_bits)))
        set_once(self, "table_levels", tuple(range(2, self.depths[1] + 1)))
        set_once(self, "leaf_orders", tuple(self.orders[level] for level in self.leaf_levels))

    def leaf_level(self, page_order: int) -> int:
        """Return the level of a leaf that maps 2^page_order pages.

        Raises:
            ScenarioError: if no leaf maps so many.
        """
        if page_order not in self.leaf_orders:
            orders = ", ".join(map(str, self.leaf_orders))
            raise ScenarioError(f"no leaf has page order {page_order!r}: name one of {orders}")
        return self.leaf_levels[self.leaf_orders.index(page_order)]

    def index(self, dfn: Dfn, level: int) -> int:
        """Return the index of a dfn's entry in its table of a level."""
        return (dfn >> self.orders[level]) & ((1 << self.index_bits[level - 1]) - 1)

    def base(self, dfn: Dfn, level: int) -> Dfn:
        """Return the first dfn that shares this dfn's entry at a level."""
        return base_of_order(dfn, self.orders[level])

    def span(self, level: int) -> int:
        """Return how many dfns one entry of a level stands for."""
        return 1 << self.orders[level]

    def reach(self, levels: int) -> int:
        """Return how many dfns, from 0 on, tables of this many levels can translate."""
        return 1 << self.orders[levels + 1]

    def entry_address(self, table: Maddr, dfn: Dfn, level: int) -> Maddr:
        """Return the address of a dfn's word in a table of a level."""
        return Maddr(table + WORD_BYTES * self.index(dfn, level))

    def table_of(self, address: int, dfn: Dfn, level: int) -> Maddr:
        """Return the address of the table of a level that has a dfn's word at an address."""
        return Maddr(address - WORD_BYTES * self.index(dfn, level))

    def read(self, word: int, level: int, dfn: Dfn) -> Entry | None:
        """Decode a word that was read for a dfn; None if the walk of that dfn ends without a translation.

        An entry may skip levels. It then stands only for dfns whose index at each skipped level is 0.
        """
        entry = self.decode(word, level)
        if entry is None or not entry.next_level or entry.next_level == level - 1:
            return entry
        skipped = (1 << self.orders[level]) - (1 << self.orders[entry.next_level + 1])
        return None if dfn & skipped else entry


def base_of_order(dfn: Dfn, order: int) -> Dfn:
    """Return the first of the aligned 2^order dfns that contain a dfn."""
    return Dfn(dfn >> order << order)
