"""Turning what a file holds into values, strictly: nothing unknown, and no value where one of another type belongs."""

from typing import Any

import cattrs


def exactly(value: Any, kind: type) -> Any:
    """Take a value of exactly this type; no conversions.

    Raises:
        TypeError: if it is of another.
    """
    if type(value) is not kind:
        raise TypeError(f"{type(value).__name__} where {kind.__name__} belongs")
    return value


STRICT = cattrs.Converter(forbid_extra_keys=True, detailed_validation=False)
for simple in (bool, int, str):
    STRICT.register_structure_hook(simple, exactly)
