"""Exploring small programs to the end."""

from emu.running.exploration import ScenarioExploration
from emu.scenarios.scenario import Scenario


def explored(scenario: Scenario, parameters: str) -> ScenarioExploration:
    """Return an exploration that has executed every trace, with parameters as a user writes them."""
    done = ScenarioExploration(scenario.bind(dict(pair.split("=") for pair in parameters.split())), __file__)
    done.on("direct")
    assert done.failure is None
    assert done.is_exhausted
    return done
