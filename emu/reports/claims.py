"""What is claimed of a scenario, in words: by itself, by the user, or by nobody."""

from collections.abc import Iterable

from emu.checks.findings import FindingKind
from emu.scenarios.expectation import Expectation
from emu.scenarios.scenario import DECLARED, BoundScenario


def claim(bound: BoundScenario) -> str:
    """Say what is claimed, or that nothing is."""
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
    """Return what is claimed, as JSON says it; None where nothing is."""
    return None if expected.unclaimed else str(expected)


def command_on(bound: BoundScenario, verb: str, named: str) -> list[str]:
    """Return the words of a command on a scenario: its parameters, and the claim that the user has stated."""
    words = ["emu", verb, named]
    for parameter in bound.changed():
        words += ["-p", parameter]
    return words if bound.stated is None else [*words, bound.stated.option, bound.stated.value]


def undeclared(expected: Expectation, kinds: Iterable[FindingKind]) -> str:
    """Name the kinds of findings that speak against what is claimed."""
    names = dict.fromkeys(kind.value for kind in kinds if not expected.allows(kind))
    return f"; not declared is {', '.join(names)}" if names and expected.kind else ""
