"""Converting JSON into values, strictly: no unknown key, and no value of another type."""

from typing import Any

import cattrs


def exactly(value: Any, kind: type) -> Any:
    """Return a value of exactly this type, unconverted.

    Raises:
        TypeError: if the value is of another type.
    """
    if type(value) is not kind:
        raise TypeError(f"{type(value).__name__} where {kind.__name__} belongs")
    return value


STRICT = cattrs.Converter(forbid_extra_keys=True, detailed_validation=False)
for simple in (bool, int, str):
    STRICT.register_structure_hook(simple, exactly)
