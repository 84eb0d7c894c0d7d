"""Scenarios: Python functions that build a cast on a fresh machine, with parameters and a declared verdict."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs

from emu.engine import Limits
from emu.engine.foreign import run_foreign
from emu.errors import ScenarioError, did_you_mean
from emu.hypervisor.faults import Fault
from emu.hypervisor.revisions.loader import OTHERS, bundled_name, is_bundled
from emu.machine.description import Description
from emu.machine.machine import Machine
from emu.platforms import PLATFORMS, Platform
from emu.scenarios.expectation import Expect, Expectation, no_claim, parse_expectation
from emu.scenarios.parameters import (
    VENDOR,
    Parameter,
    machine_names,
    machine_parameters,
    parameters_of,
    settings_parameters,
    written,
)
from emu.scenarios.verdicts import Verdicts

Build = Callable[..., None]

DECLARED = "declared"
"""The word for the claim that a scenario declares, also of a user's revision."""


@attrs.frozen
class Scenario:
    """A story, ready to be run with any values of its parameters.

    Attributes:
        expect: a function from its parameters to the expectation that it declares; a table is one (see verdicts.py).
        is_sequential: nothing in it runs concurrently, on purpose.
        small: parameters with which it has few traces and still shows what it declares.
        only: the vendors that it is about, each with the reason; empty for one about each vendor that is not apart.
        needs: the functions of a revision that it calls besides those that each revision has.
    """

    name: str
    story: str
    build: Build = attrs.field(repr=False)
    expect: Expect = attrs.field(repr=False)
    parameters: tuple[Parameter, ...]
    is_sequential: bool = False
    small: Mapping[str, str] = attrs.field(factory=dict)
    only: Mapping[str, str] = attrs.field(factory=dict)
    needs: tuple[str, ...] = ()

    @property
    def cells(self) -> tuple[str, ...]:
        """The parameters of each of its cells, as a user writes them; the defaults come first."""
        return tuple(cell for platform in self.platforms() for cell in self.cells_on(platform))

    def cells_on(self, platform: Platform) -> tuple[str, ...]:
        """Return its cells on a vendor's machines: of each row that is about them, and claims something."""
        default, *_ = self.platforms()
        named = "" if platform is default else f"{VENDOR}={platform.name}"
        if not isinstance(self.expect, Verdicts):
            return (named,)
        names = {one.name for one in (*self.parameters, *machine_parameters(platform))}
        rows = (f"{named} {cell}".strip() for cell in self.expect.cells(platform.name, names))
        return tuple(cell for cell in dict.fromkeys(rows) if self.claims_in(cell))

    def claims_in(self, cell: str) -> bool:
        """Whether anything is claimed in a cell: an earlier row of the table may say that nothing is."""
        bound = self.bind(dict(pair.split("=", 1) for pair in cell.split()))
        return not all(bound.declared(revision).unclaimed for revision in bound.platform.revisions)

    def platforms(self, known: Mapping[str, Platform] = PLATFORMS) -> tuple[Platform, ...]:
        """Return the vendors that can run it, the default first."""
        return tuple(one for name, one in known.items() if (name in self.only if self.only else not one.apart))

    def platform_of(self, texts: Mapping[str, str], known: Mapping[str, Platform] = PLATFORMS) -> Platform:
        """Return the vendor that the values of a user name, or the default.

        Raises:
            ScenarioError: if there is no such vendor, or it cannot run the scenario.
        """
        first = {one.name: one for one in self.platforms(known)}
        ordered = {**first, **known}
        vendor, *_ = machine_parameters(next(iter(ordered.values())), ordered)
        platform = ordered[vendor.parse(texts.get(vendor.name, vendor.default))]
        if platform.name not in first:
            vendors = " and ".join(self.only or first)
            reasons = "; ".join(self.only.values()) or platform.apart
            raise ScenarioError(f"{self.name} is for {vendors} only, and cannot be run on {platform.name}: {reasons}")
        return platform

    def bind(self, texts: Mapping[str, str], platforms: Mapping[str, Platform] = PLATFORMS) -> "BoundScenario":
        """Return the scenario with the values that a user wrote, and defaults for the rest.

        Args:
            platforms: the vendors; the first is the default.

        Raises:
            ScenarioError: for an unknown parameter, or a value that its parameter does not take; or for a vendor that
                cannot run it, or a revision that the vendor's machines cannot run.
        """
        platform = self.platform_of(texts, platforms)
        default, *_ = self.platforms(platforms)
        of_machine = machine_parameters(platform, {default.name: default, **platforms})
        known = {parameter.name: parameter for parameter in (*self.parameters, *of_machine)}
        for name in texts:
            if name in platform.refused:
                raise ScenarioError(f"{platform.name} has no setting {name}: {platform.refused[name]}")
            if name not in known:
                hint = did_you_mean(name, known)
                raise ScenarioError(f"{self.name} has no parameter {name!r}{hint}; it has {', '.join(known)}")
        values = {
            name: parameter.parse(texts[name]) if name in texts else parameter.default
            for name, parameter in known.items()
        }
        platform.refuse_revision(values["revision"])
        platform.load_revision(values["revision"])
        return BoundScenario(self, values, platform, tuple(known.values()))


@attrs.frozen
class Stated:
    """A claim that the user states, with the option and its value."""

    expectation: Expectation
    option: str
    value: str


@attrs.frozen
class BoundScenario:
    """A scenario with a value for each parameter.

    Attributes:
        platform: the vendor of the machine's IOMMUs.
        parameters: the parameters of the scenario, then those of the machine.
        stated: the claim of the user, which replaces the scenario's.
    """

    scenario: Scenario
    values: Mapping[str, Any]
    platform: Platform
    parameters: tuple[Parameter, ...] = attrs.field(repr=False)
    stated: Stated | None = None

    @property
    def expectation(self) -> Expectation:
        """The claim of the user; else the scenario's, about a revision that comes with emu.

        Raises:
            ScenarioError: if the scenario's `expect` fails.
        """
        if self.stated is not None:
            return self.stated.expectation
        revision = self.values["revision"]
        return self.declared(revision) if is_bundled(revision) else no_claim("for a revision of yours")

    def declared(self, revision: str) -> Expectation:
        """Return what the scenario declares of a revision, for these values.

        Raises:
            ScenarioError: if the scenario's `expect` fails.
        """
        name = self.scenario.name
        values = {**self.values, "revision": bundled_name(revision)}
        try:
            expected = run_foreign(f"the expect function of {name}", self.scenario.expect, **values)
        except ScenarioError as error:
            mend = "; let it take **_ for the rest" if isinstance(error.__cause__, TypeError) else ""
            raise ScenarioError(f"{error}{mend}") from error
        if not isinstance(expected, Expectation):
            raise ScenarioError(f"the expect function of {name} returned {expected!r}: return STALE, CLEAN or the like")
        return expected

    def claiming(self, expect: str | None, like: str | None) -> "BoundScenario":
        """Return a copy with a claim that the user states.

        Args:
            expect: kinds of findings, or "declared" for what the scenario declares.
            like: the revision that comes with emu whose verdict is claimed.

        Raises:
            ScenarioError: if both are given, one is unknown or of other machines, or the scenario's `expect` fails.
        """
        if expect is not None and like is not None:
            raise ScenarioError("--expect and --like both state a claim: leave one out")
        if like is not None:
            if not is_bundled(like):
                known = ", ".join(self.platform.revisions)
                raise ScenarioError(f"--like takes a revision that comes with emu, not {like!r}: {known}")
            self.platform.refuse_revision(like)
            return attrs.evolve(self, stated=Stated(self.declared(like), "--like", like))
        if expect is None:
            _ = self.expectation  # an `expect` that fails is refused before anything runs
            return self
        stated = self.declared(self.values["revision"]) if expect == DECLARED else parse_expectation(expect)
        return attrs.evolve(self, stated=Stated(stated, "--expect", expect))

    def build(self, *, sources: bool = False, is_checking: bool = False) -> Machine:
        """Return a fresh machine with the scenario's cast on it; `Description` documents the arguments.

        Raises:
            ScenarioError: if the scenario's function raises.
        """
        machine, scenario = self.machine(sources=sources, is_checking=is_checking), self.scenario
        run_foreign(scenario.name, scenario.build, machine, **self.own_values())
        return machine

    def own_values(self) -> dict[str, Any]:
        """Return the values of the scenario's own parameters."""
        return {one.name: self.values[one.name] for one in self.scenario.parameters}

    def machine(self, *, sources: bool = False, is_checking: bool = False, is_counting: bool = False) -> Machine:
        """Return a fresh machine without a cast; `Description` documents the arguments."""
        values = self.values
        settings = {one.name: values[one.name] for one in settings_parameters(self.platform)}
        return Machine(
            Description(
                revision=values["revision"],
                platform=self.platform,
                settings=self.platform.settings(**settings),
                widening_faults=values["widen"] == "fault",
                faults={fault: values[f"{fault.value}_faults"] for fault in Fault},
                debug_build=values["debug_build"],
                break_for_units=values["break_for_units"],
                refuse_gaps=values["refuse_gaps"],
                limits=Limits(steps=values["steps"]),
                sources=sources,
                is_checking=is_checking,
                is_counting=is_counting,
            )
        )

    def changed(self) -> list[str]:
        """Return the values that differ from their defaults, as `name=value`."""
        return [f"{p.name}={written(self.values[p.name])}" for p in self.parameters if self.values[p.name] != p.default]


def declared_by(expect: Expect | Expectation | None) -> Expect:
    """Return a function that returns the verdict; a function is returned as it is.

    Raises:
        ScenarioError: if `expect` is neither a verdict nor a function.
    """
    if isinstance(expect, Expectation):
        return lambda **_: expect
    if not callable(expect):
        raise ScenarioError(
            f"expect={expect!r} is no verdict: use STALE, CLEAN or the like, or a function that returns one"
        )
    return expect


def refuse_unknown(name: str, parameters: Iterable[Parameter], verdicts: Verdicts) -> None:
    """Refuse a verdict table with an unknown parameter.

    Raises:
        ScenarioError: naming the parameter.
    """
    known = sorted({one.name for one in parameters} | machine_names())
    for asked in verdicts.names():
        if asked not in known:
            raise ScenarioError(f"{name}: its verdict table asks for {asked!r}{did_you_mean(asked, known)}")


def refuse_declaration(function: object, expect: object, verdicts: object) -> None:
    """Refuse a decorator without its parentheses, or with two verdicts.

    Raises:
        ScenarioError: saying how to write the decorator.
    """
    if function is not None:
        raise ScenarioError("@scenario stands without parentheses: write @scenario(expect=CLEAN), or what it declares")
    if expect is not None and verdicts is not None:
        raise ScenarioError("a scenario declares its verdict once: leave expect out, or verdicts")


def refuse_vendors(only: Mapping[str, str]) -> None:
    """Refuse vendors of a scenario that do not exist, or are named without the reason.

    Raises:
        ScenarioError: naming the vendor.
    """
    for vendor, reason in only.items():
        if vendor not in PLATFORMS or not reason:
            raise ScenarioError(
                f"only={{{vendor!r}: {reason!r}}} does not say what a scenario is for: name one of "
                f"{', '.join(PLATFORMS)}, and why the others cannot run it"
            )


def refuse_needs(needs: Sequence[str]) -> None:
    """Refuse a function that no revision has.

    Raises:
        ScenarioError: naming the function.
    """
    for name in needs:
        if name not in OTHERS:
            raise ScenarioError(f"needs names {name!r}{did_you_mean(name, OTHERS)}: name one of {', '.join(OTHERS)}")


def scenario(
    function: Build | None = None,
    /,
    *,
    expect: Expect | Expectation | None = None,
    verdicts: str | None = None,
    sequential: bool = False,
    small: Mapping[str, str] | None = None,
    only: Mapping[str, str] | None = None,
    needs: Sequence[str] = (),
) -> Callable[[Build], Scenario]:
    """Make a scenario of a function that takes a `Machine` and keyword parameters with defaults.

    Args:
        function: the decorated function, where the parentheses were left out.
        expect: the declared verdict, or a function that returns it and takes all parameters, the machine's too.
        verdicts: instead of `expect`, a table of the verdicts on the revisions that come with emu (see verdicts.py).
        sequential: nothing in the scenario runs concurrently, on purpose.
        small: parameters, as a user writes them, with so few pages and calls that every interleaving can be executed.
            The parameters that make a vendor's machine small are in `Platform.small`.
        only: the vendors that it is about, where it is not about all, each with the reason.
        needs: the functions that a revision may lack and that the scenario calls, such as "arch_iommu_hwdom_init".

    Raises:
        ScenarioError: if `expect` is neither a verdict nor a function, or `verdicts` is no table; if both are given; if
            `only` names no vendor, or gives no reason; or if `needs` names a function that no revision has.
    """
    refuse_declaration(function, expect, verdicts)
    refuse_vendors(only or {})
    refuse_needs(needs)
    expected = declared_by(expect) if verdicts is None else Verdicts.of(verdicts)
    return lambda build: scenario_of(build, expected, sequential, small or {}, only or {}, tuple(needs))


def scenario_of(
    build: Build,
    expected: Expect,
    sequential: bool,
    small: Mapping[str, str],
    only: Mapping[str, str],
    needs: tuple[str, ...],
) -> Scenario:
    """Make a scenario of a function.

    Raises:
        ScenarioError: if the function is async, or has a parameter that a user cannot write.
    """
    if inspect.iscoroutinefunction(build):
        raise ScenarioError(f"{build.__name__} is async: write a plain def that gives async functions to CPUs")
    name, parameters = build.__name__, parameters_of(build)
    if isinstance(expected, Verdicts):
        refuse_unknown(name, parameters, expected)
    story = (inspect.getdoc(build) or "").split("\n\n")[0].replace("\n", " ")
    return Scenario(name, story, build, expected, parameters, sequential, small, only, needs)
