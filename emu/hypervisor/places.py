"""The place of a word in a domain's page tables, and a store to it."""

from enum import IntEnum
from typing import NamedTuple

from emu.units import Dfn, Maddr


class Half(IntEnum):
    """A half of a word, of 32 bits."""

    LOW = 0
    HIGH = 1


class Stored(NamedTuple):
    """A store to a word of a table.

    Attributes:
        before, word: the whole word before and after the store.
        half: the half that was stored; None if both were, in one step.
    """

    address: Maddr
    before: int
    word: int
    half: Half | None
    step: int


class Place(NamedTuple):
    """The place of a word in a domain's tables.

    Attributes:
        above: the addresses of the entries that lead to the word, the highest first; if none leads to it, of those
            followed.
        level: the word's level; 0 if no entry leads to it, so that it maps nothing.
        first: the first dfn of the word.
        read, write: the permissions that all the entries above grant.
    """

    above: tuple[Maddr, ...]
    level: int = 0
    first: Dfn = Dfn(0)
    read: bool = True
    write: bool = True
