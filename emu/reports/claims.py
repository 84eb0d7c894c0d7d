"""The claim about a scenario, in words: the scenario's, the user's, or none."""

from collections.abc import Iterable

from emu.checks.findings import FindingKind
from emu.scenarios.expectation import Expectation
from emu.scenarios.scenario import DECLARED, BoundScenario


def claim(bound: BoundScenario) -> str:
    """Say who claims what, or that nothing is claimed."""
    expected, name = bound.expectation, bound.scenario.name
    if expected.unclaimed:
        return f"no claim {expected.unclaimed}"
    match bound.stated:
        case None:
            return f"{name} declares {expected}"
        case stated if stated.option == "--like":
            return f"like {stated.value}, of which {name} declares {expected}"
        case stated if stated.value == DECLARED:
            return f"you claim what {name} declares, {expected}"
        case _:
            return f"you claim {expected}"


def claimed(expected: Expectation) -> str | None:
    """Return the claim as in JSON; None where nothing is claimed."""
    return None if expected.unclaimed else str(expected)


def command_on(bound: BoundScenario, verb: str, named: str) -> list[str]:
    """Return the words of a command on a scenario: its parameters, and the claim that the user has stated."""
    words = ["emu", verb, named]
    for parameter in bound.changed():
        words += ["-p", parameter]
    return words if bound.stated is None else [*words, bound.stated.option, bound.stated.value]


def undeclared(expected: Expectation, kinds: Iterable[FindingKind]) -> str:
    """Name the kinds of findings that contradict the claim."""
    names = dict.fromkeys(kind.value for kind in kinds if not expected.allows(kind))
    return f"; not declared is {', '.join(names)}" if names and expected.kind else ""
