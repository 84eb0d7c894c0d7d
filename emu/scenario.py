"""Scenarios: Python functions that build a cast on a fresh machine, with parameters and a declared verdict."""

import difflib
import inspect
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Annotated, Any, NamedTuple, get_args, get_origin, get_type_hints

import attrs

from emu.checks.findings import Evidence, Finding, FindingKind, Stale
from emu.engine import Limits
from emu.engine.sources import raised_at
from emu.errors import EmuError, ScenarioError
from emu.hypervisor.faults import Fault
from emu.hypervisor.revisions import BUNDLED, load_revision
from emu.iommus.vtd.unit import VtdSettings
from emu.machine import Description, Machine


class Bounds(NamedTuple):
    """The least and the greatest value of a parameter: `Annotated[int, Bounds(0, 9)]`."""

    least: int
    greatest: int


PageOrder = Annotated[int, Bounds(0, 12)]


@attrs.frozen
class Expectation:
    """What a scenario declares: a kind of finding that some execution shows, or that none shows any.

    Attributes:
        evidence: the least evidence for a stale translation that counts as having shown it.
        also: kinds of findings that may come with it.
    """

    kind: FindingKind | None
    evidence: Evidence = Evidence.POSSIBLE
    also: frozenset[FindingKind] = frozenset()

    def with_also(self, *others: "Expectation") -> "Expectation":
        """Return the expectation of a finding beside which others may show."""
        return attrs.evolve(self, also=frozenset(other.kind for other in others if other.kind))

    def allows(self, kind: FindingKind) -> bool:
        """Whether a finding of a kind does not contradict it."""
        return kind is self.kind or kind in self.also

    def is_shown_by(self, finding: Finding) -> bool:
        """Whether a finding is the declared one."""
        if finding.kind is not self.kind:
            return False
        wants_use = self.evidence is Evidence.OBSERVED
        return not (wants_use and isinstance(finding, Stale) and finding.use is None)

    def __str__(self) -> str:
        if self.kind is None:
            return "clean"
        return f"{self.kind.value}, observed" if self.evidence is Evidence.OBSERVED else self.kind.value


CLEAN = Expectation(None)
STALE = Expectation(FindingKind.STALE)
STALE_OBSERVED = Expectation(FindingKind.STALE, Evidence.OBSERVED)
STALE_FAULT = Expectation(FindingKind.STALE_FAULT)
OWED = Expectation(FindingKind.OWED)
RELEASED = Expectation(FindingKind.RELEASED)
LOST_ERROR = Expectation(FindingKind.LOST_ERROR)
NOT_ROLLED_BACK = Expectation(FindingKind.NOT_ROLLED_BACK)
WRONG_RESULT = Expectation(FindingKind.WRONG_RESULT)
FREED_TABLE = Expectation(FindingKind.FREED_TABLE)
LATE = Expectation(FindingKind.LATE)
OVERRUN = Expectation(FindingKind.OVERRUN)
FOREIGN = Expectation(FindingKind.FOREIGN)
DEADLOCK = Expectation(FindingKind.DEADLOCK)

Expect = Callable[..., Expectation]
Build = Callable[..., None]


@attrs.frozen
class Parameter:
    """A parameter of a scenario or of every machine.

    Attributes:
        kind: int, bool, str or an Enum, whose values are then what a user writes.
    """

    name: str
    kind: type
    default: Any
    bounds: Bounds | None = None
    choices: tuple[str, ...] = ()

    def parse(self, text: str) -> Any:
        """Return the value that a user's text stands for.

        Raises:
            ScenarioError: naming the parameter and what it takes.
        """
        try:
            value = self.convert(text)
        except (ValueError, KeyError):
            raise ScenarioError(f"parameter {self.name} takes {self.takes()}, not {text!r}") from None
        if self.bounds is not None and not self.bounds.least <= value <= self.bounds.greatest:
            raise ScenarioError(f"parameter {self.name} takes {self.takes()}, not {text!r}")
        return value

    def convert(self, text: str) -> Any:
        """Convert a text; raises ValueError or KeyError."""
        if self.kind is bool:
            return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[text.lower()]
        return int(text, 0) if self.kind is int else self.kind(text)

    def takes(self) -> str:
        """Say what values there are."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.kind is bool:
            return "true or false"
        if issubclass(self.kind, Enum):
            return "one of " + ", ".join(str(member.value) for member in self.kind)
        if self.bounds is not None:
            return f"a whole number from {self.bounds.least} to {self.bounds.greatest}"
        return "a whole number" if self.kind is int else "a text"

    def show(self, value: Any) -> str:
        """Write a value as a user would."""
        if isinstance(value, bool):
            return str(value).lower()
        return str(value.value if isinstance(value, Enum) else value)


MACHINE_PARAMETERS = (
    Parameter("revision", str, "v1", choices=(*BUNDLED, "a folder")),
    Parameter("levels", int, 4, bounds=Bounds(3, 4)),
    Parameter("coherent", bool, VtdSettings().coherent),
    Parameter("caching_mode", bool, VtdSettings().caching_mode),
    Parameter("write_buffer", bool, VtdSettings().write_buffer),
    Parameter("drain", bool, VtdSettings().drain),
    Parameter("queue_entries", int, VtdSettings().queue_entries, bounds=Bounds(2, 256)),
    Parameter("iotlb_entries", int, 0, bounds=Bounds(0, 4096)),
    Parameter("synchronous", bool, VtdSettings().synchronous),
    Parameter("walk_at_once", bool, VtdSettings().walk_at_once),
    *(Parameter(f"{fault.value}_faults", int, 0, bounds=Bounds(0, 100)) for fault in Fault),
    Parameter("steps", int, Limits().steps, bounds=Bounds(1, 100_000_000)),
)
"""What can be set of every machine. `steps` is the limit of that name; 0 `iotlb_entries` mean no limit.

So many allocations, hooks or waits may fail on each CPU, as the strategy chooses.
"""


@attrs.frozen
class Scenario:
    """A story, ready to be run with any values of its parameters.

    Attributes:
        is_sequential: nothing in it runs concurrently, on purpose.
        small: parameters with which it has few traces, and still shows what it declares.
    """

    name: str
    story: str
    build: Build = attrs.field(repr=False)
    expect: Expect = attrs.field(repr=False)
    parameters: tuple[Parameter, ...]
    is_sequential: bool = False
    small: Mapping[str, str] = attrs.field(factory=dict)

    def bind(self, texts: Mapping[str, str]) -> "BoundScenario":
        """Return the scenario with the values that a user wrote, and defaults for the rest.

        Raises:
            ScenarioError: for an unknown parameter or a value that it does not take.
        """
        known = {parameter.name: parameter for parameter in (*self.parameters, *MACHINE_PARAMETERS)}
        for name in texts:
            if name not in known:
                hint = did_you_mean(name, known)
                raise ScenarioError(f"{self.name} has no parameter {name!r}{hint}; it has {', '.join(known)}")
        values = {
            name: parameter.parse(texts[name]) if name in texts else parameter.default
            for name, parameter in known.items()
        }
        load_revision(values["revision"])
        return BoundScenario(self, values)


@attrs.frozen
class BoundScenario:
    """A scenario with a value for each parameter."""

    scenario: Scenario
    values: Mapping[str, Any]

    @property
    def expectation(self) -> Expectation:
        """What the scenario declares for these values.

        Raises:
            ScenarioError: if its `expect` cannot say.
        """
        name = self.scenario.name
        try:
            expected = self.scenario.expect(**self.values)
        except Exception as error:
            raise ScenarioError(
                f"the expect function of {name} raised {type(error).__name__}: {error}; let it take **_ for the rest"
            ) from error
        if not isinstance(expected, Expectation):
            raise ScenarioError(f"the expect function of {name} returned {expected!r}: return STALE, CLEAN or the like")
        return expected

    def build(self, *, sources: bool = False, is_checking: bool = False) -> Machine:
        """Return a fresh machine with the scenario's cast on it.

        Raises:
            ScenarioError: if the scenario's function raises.
        """
        values = self.values
        machine = Machine(
            Description(
                revision=load_revision(values["revision"]),
                levels=values["levels"],
                vtd=VtdSettings(
                    caching_mode=values["caching_mode"],
                    coherent=values["coherent"],
                    write_buffer=values["write_buffer"],
                    drain=values["drain"],
                    queue_entries=values["queue_entries"],
                    iotlb_entries=values["iotlb_entries"] or None,
                    synchronous=values["synchronous"],
                    walk_at_once=values["walk_at_once"],
                ),
                faults={fault: values[f"{fault.value}_faults"] for fault in Fault},
                limits=Limits(steps=values["steps"]),
                sources=sources,
                is_checking=is_checking,
            )
        )
        try:
            self.scenario.build(machine, **{p.name: values[p.name] for p in self.scenario.parameters})
        except EmuError:
            raise
        except Exception as error:
            raise ScenarioError(
                f"{self.scenario.name}, at {raised_at(error)}, raised {type(error).__name__}: {error}"
            ) from error
        return machine

    def changed(self) -> list[str]:
        """Return the values that differ from their defaults, as `name=value`."""
        parameters = (*self.scenario.parameters, *MACHINE_PARAMETERS)
        return [f"{p.name}={p.show(self.values[p.name])}" for p in parameters if self.values[p.name] != p.default]


SMALL = {"levels": "3", "synchronous": "true", "walk_at_once": "true"}


def scenario(
    *, expect: Expect | Expectation, sequential: bool = False, small: Mapping[str, str] | None = None
) -> Callable[[Build], Scenario]:
    """Make a scenario of a function that takes a `Machine` and keyword parameters with defaults.

    Args:
        expect: the declared verdict, or a function from the parameters (by keyword, the machine's among them) to it.
        sequential: the scenario means to run nothing concurrently.
        small: parameters as a user writes them, with which it can be compared with every interleaving: one page, few
            calls. Three levels, a synchronous engine and walks in one step come with them.
    """
    if not (isinstance(expect, Expectation) or callable(expect)):
        raise ScenarioError(
            f"expect={expect!r} is no verdict: use STALE, CLEAN or the like, or a function that returns one"
        )

    def decorate(build: Build) -> Scenario:
        if inspect.iscoroutinefunction(build):
            raise ScenarioError(f"{build.__name__} is async: write a plain def that gives async functions to CPUs")
        expected = (lambda **_: expect) if isinstance(expect, Expectation) else expect
        story = (inspect.getdoc(build) or "").split("\n\n")[0].replace("\n", " ")
        return Scenario(
            build.__name__, story, build, expected, parameters_of(build), sequential, {**SMALL, **(small or {})}
        )

    return decorate


def parameters_of(build: Build) -> tuple[Parameter, ...]:
    """Return the parameters of a scenario's function: what follows the machine.

    Raises:
        ScenarioError: if one has no default, or a type that a user cannot write.
    """
    hints = get_type_hints(build, include_extras=True)
    parameters = []
    for name, parameter in list(inspect.signature(build).parameters.items())[1:]:
        hint, bounds = hints.get(name, str), None
        if get_origin(hint) is Annotated:
            hint, *extras = get_args(hint)
            bounds = next((extra for extra in extras if isinstance(extra, Bounds)), None)
        if parameter.default is parameter.empty or not isinstance(hint, type):
            raise ScenarioError(f"{build.__name__}: give parameter {name} a plain type and a default")
        if any(name == common.name for common in MACHINE_PARAMETERS):
            raise ScenarioError(f"{build.__name__}: every machine has a parameter {name}: give yours another name")
        parameters.append(Parameter(name, hint, parameter.default, bounds))
    return tuple(parameters)


def did_you_mean(name: str, known: Mapping[str, object]) -> str:
    """Return a suggestion, or nothing."""
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
