"""The settings of a unit: each field says its meaning, default and bounds, and is a parameter of a machine."""

from typing import Any, NamedTuple, Protocol

import attrs

MEANING = "meaning"
BOUNDS = "bounds"

FULL_BITS = 9
"""How many bits of a dfn index a table of 4 KiB."""


class Bounds(NamedTuple):
    """The least and the greatest value of a parameter: `Annotated[int, Bounds(0, 9)]`."""

    least: int
    greatest: int


class UnitSettings(Protocol):
    """The settings that units of every vendor have."""

    @property
    def coherent(self) -> bool:
        """Whether walks snoop the CPUs' caches."""

    @property
    def write_buffer(self) -> bool:
        """Whether stores to tables may wait in the chipset until software asks for a flush."""

    @property
    def synchronous(self) -> bool:
        """Whether a unit executes a descriptor in the step that posts it, and so needs no agent of its own."""


def setting(default: Any, meaning: str, *, bounds: Bounds | None = None) -> Any:
    """Return a field of a unit's settings that users set with `-p NAME=VALUE`.

    Args:
        bounds: the least and greatest value, if it is a whole number.
    """
    validators = [attrs.validators.ge(bounds.least), attrs.validators.le(bounds.greatest)] if bounds else []
    return attrs.field(default=default, validator=validators, metadata={MEANING: meaning, BOUNDS: bounds})


def superpage_bits_setting() -> Any:
    """Return the field of any vendor's settings that makes superpages smaller, so that an exploration can end."""
    return setting(
        FULL_BITS,
        f"how many bits of a dfn index each table below a superpage; fewer than {FULL_BITS} are not architectural: "
        "with 1, a superpage of 2 MiB has two pages, and one of 1 GiB has four",
        bounds=Bounds(1, FULL_BITS),
    )
