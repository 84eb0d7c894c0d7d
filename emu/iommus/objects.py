"""The ledger's shared objects: they tell an exploration which questions and invalidations do not commute.

There is one object for each tag and dfn, and for each tag, level and cached table entry.
"""

from emu.engine import Access, Kind, Space

TAG_SHIFT = 52
TAG_MAX = 0xFFFF


def leaf_space(unit: str) -> Space:
    """Return the space of the objects for leaves: one for each tag and dfn."""
    return ("ledger", unit)


def table_space(unit: str, level: int) -> Space:
    """Return the space of the objects for cached table entries of a level: one for each tag and entry number."""
    return ("ledger", unit, f"level {level}")


def object_number(tag: int, dfn: int) -> int:
    """Return the number of the object for a tag and a dfn, or for a tag and an entry number."""
    return tag << TAG_SHIFT | dfn


def object_range(space: Space, tag: int | None, first: int, last: int, kind: Kind) -> Access:
    """Return the access to the objects first..last of a tag, or of all tags if it is None."""
    low = object_number(0, 0) if tag is None else object_number(tag, first)
    return Access(space, low, object_number(TAG_MAX if tag is None else tag, last), kind)
