"""Parameters of scenarios and machines, which a user sets with `-p NAME=VALUE`."""

import inspect
from collections.abc import Callable, Mapping
from enum import Enum
from functools import cache
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import attrs

from emu.engine import Limits
from emu.errors import ScenarioError
from emu.hypervisor.faults import Fault
from emu.iommus.settings import BOUNDS, MEANING, Bounds
from emu.platforms import PLATFORMS, Platform

VENDOR = "iommu"
"""The parameter that names the vendor."""

PageOrder = Annotated[int, Bounds(0, 12)]


@attrs.frozen
class Parameter:
    """A parameter of a scenario or of every machine.

    Attributes:
        kind: int, bool, str, or an Enum whose values a user writes.
        choices: the texts that a user may write.
        is_open: other texts are taken, too.
        meaning: an explanation, where the name does not say enough.
    """

    name: str
    kind: type
    default: Any
    bounds: Bounds | None = None
    choices: tuple[str, ...] = ()
    is_open: bool = False
    meaning: str = ""

    def parse(self, text: str) -> Any:
        """Return the value of a user's text.

        Raises:
            ScenarioError: naming the parameter and the values that it takes.
        """
        try:
            value = self.convert(text)
        except (ValueError, KeyError):
            raise ScenarioError(f"parameter {self.name} takes {self.takes()}, not {text!r}") from None
        if self.bounds is not None and not self.bounds.least <= value <= self.bounds.greatest:
            raise ScenarioError(f"parameter {self.name} takes {self.takes()}, not {text!r}")
        return value

    def convert(self, text: str) -> Any:
        """Convert a text.

        Raises:
            ValueError, KeyError: if the text is no value of the parameter.
        """
        if self.kind is bool:
            return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[text.lower()]
        if self.choices and not self.is_open and text not in self.choices:
            raise ValueError(text)
        return int(text, 0) if self.kind is int else self.kind(text)

    def takes(self) -> str:
        """Say which values the parameter takes."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.kind is bool:
            return "true or false"
        if issubclass(self.kind, Enum):
            return "one of " + ", ".join(str(member.value) for member in self.kind)
        if self.bounds is not None:
            return f"a whole number from {self.bounds.least} to {self.bounds.greatest}"
        return "a whole number" if self.kind is int else "a text"


def written(value: Any) -> str:
    """Return a value as a user writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value.value if isinstance(value, Enum) else value)


def parameter_data(parameter: Parameter) -> dict[str, str]:
    """Return a parameter as data: its name, what it takes, its default, and its meaning if it has one."""
    data = {"name": parameter.name, "takes": parameter.takes(), "default": written(parameter.default)}
    return {**data, "meaning": parameter.meaning} if parameter.meaning else data


def machine_parameters(platform: Platform, platforms: Mapping[str, Platform] = PLATFORMS) -> tuple[Parameter, ...]:
    """Return the parameters of every machine of a vendor: its units' settings, and the parameters of all vendors.

    With `widen=fault`, a table entry that was cached before it was given more permissions may refuse an access. Xen
    enters each new table in three stores, so this is off by default.

    `*_faults` is how many allocations, hooks or waits may fail on each CPU, as the strategy chooses. `steps` is the
    limit of steps.
    """
    return (
        Parameter(VENDOR, str, next(iter(platforms)), choices=tuple(platforms)),
        Parameter("revision", str, platform.revision, choices=(*platform.revisions, "a folder"), is_open=True),
        *settings_parameters(platform),
        Parameter("widen", str, "ignore", choices=("ignore", "fault")),
        *(Parameter(f"{fault.value}_faults", int, 0, bounds=Bounds(0, 100)) for fault in Fault),
        Parameter("debug_build", bool, False, meaning="an ASSERT of Xen that does not hold is a finding"),
        Parameter(
            "break_for_units", bool, False, meaning="an entry that replaces one which a unit may still use is a finding"
        ),
        Parameter("refuse_gaps", bool, False, meaning="clearing an entry before setting it is a finding"),
        Parameter("steps", int, Limits().steps, bounds=Bounds(1, 100_000_000)),
    )


def machine_names() -> set[str]:
    """Return the names of the parameters of a machine of any vendor."""
    return {one.name for platform in PLATFORMS.values() for one in machine_parameters(platform)}


@cache
def settings_parameters(platform: Platform) -> tuple[Parameter, ...]:
    """Return a parameter for each setting of a vendor's units that users set; cached, as each new machine needs it."""
    settings: Any = type(platform.settings())
    return tuple(
        Parameter(one.name, type(one.default), one.default, one.metadata[BOUNDS], meaning=one.metadata[MEANING])
        for one in attrs.fields(settings)
        if MEANING in one.metadata
    )


NOT_BY_PLACE = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)


def is_kind(hint: object) -> bool:
    """Whether a hint is a type whose values a user can write."""
    if not isinstance(hint, type):
        return False
    is_enum = issubclass(hint, Enum) and all(isinstance(member.value, str) for member in hint)
    return is_enum or hint in (int, bool, str)


def parameters_of(build: Callable[..., None]) -> tuple[Parameter, ...]:
    """Return the parameters of a scenario's function that follow the machine.

    Raises:
        ScenarioError: if the function takes no machine; or if a parameter has no default, a type that a user cannot
            write, a default of another type, or the name of a machine's parameter.
    """
    taken = [*inspect.signature(build).parameters.values()]
    if not taken or taken[0].kind in NOT_BY_PLACE:
        raise ScenarioError(f"{build.__name__} takes no machine: write def {build.__name__}(m: Machine) -> None")
    hints = get_type_hints(build, include_extras=True)
    common = machine_names()
    parameters = []
    for parameter in taken[1:]:
        name = parameter.name
        hint, bounds = hints.get(name, str), None
        if get_origin(hint) is Annotated:
            hint, *extras = get_args(hint)
            bounds = next((extra for extra in extras if isinstance(extra, Bounds)), None)
        if parameter.default is parameter.empty or not is_kind(hint):
            raise ScenarioError(
                f"{build.__name__}: give parameter {name} a default, and a type that a user can write: int, bool, str "
                "or an Enum of texts"
            )
        if type(parameter.default) is not hint:
            raise ScenarioError(
                f"{build.__name__}: parameter {name} is {parameter.default!r} by default, which is no {hint.__name__}"
            )
        if name in common:
            raise ScenarioError(f"{build.__name__}: every machine has a parameter {name}: give yours another name")
        parameters.append(Parameter(name, hint, parameter.default, bounds))
    return tuple(parameters)
