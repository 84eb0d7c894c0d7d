"""One type a key: what an event says, as the columns of a log.

A program that reads a log as a table has one column a key, and a column has one type. So a value of another type than
its key's gets a key of its own: `value_text` beside `value`. Numbers of more than 64 bits are texts.
"""

import math
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

from emu.hypervisor.ops import RESULT_NAMES
from emu.reports.vocabulary import FLAGS, KEYS, LISTS, NUMBERS

SORTS = {"number": NUMBERS, "flag": FLAGS, "list": LISTS, "text": frozenset[str]()}
"""The keys of each sort, but those of texts, which are all others of the vocabulary."""

LEAST, MOST = -(1 << 63), (1 << 64) - 1
"""The range of the numbers that JSON readers take."""


def typed(fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield keys and values of a record; what is None is left out."""
    for key, given in fields.items():
        value = RESULT_NAMES.get(given, given) if key == "result" else given
        if value is not None:
            sort, plain = of_sort(value)
            yield key if sort == sort_of(key, sort) else f"{key}_{sort}", plain


def plain_key(key: str) -> str:
    """Return the key whose values of another type have this key, value for value_flag; else the key itself."""
    plain, _, sort = key.rpartition("_")
    return plain if sort in SORTS and plain in KEYS else key


def value_in(record: Mapping[str, Any], key: str) -> Any:
    """Return what a record has under a key, whatever its type, be the log of this format or of the first; else None."""
    return next((record[one] for one in (key, *(f"{key}_{sort}" for sort in SORTS)) if one in record), None)


def sort_of(key: str, default: str = "text") -> str:
    """Return the sort of a key's values; that of a key which the vocabulary does not have is the default."""
    for sort, keys in SORTS.items():
        if key in keys:
            return sort
    return "text" if key in KEYS else default


def of_sort(value: Any) -> tuple[str, Any]:
    """Return the sort of a value, and the value as JSON has it."""
    match value:
        case Enum():
            return of_sort(value.value)
        case bool():
            return "flag", value
        case int():
            return ("number", value) if LEAST <= value <= MOST else ("text", f"{value:#x}")
        case float() if math.isfinite(value):
            return "number", value
        case list() | tuple():
            return "list", [of_sort(one)[1] for one in value]
        case _:
            return "text", str(value)
