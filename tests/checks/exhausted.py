"""Exploring small programs to the end."""

from typing import Any

import attrs

from emu.checks.signatures import Signature
from emu.machine.machine import Machine
from emu.running.causes import Cause
from emu.running.exploration import ScenarioExploration
from emu.running.plan import Plan
from emu.scenarios.expectation import CLEAN
from emu.scenarios.scenario import Build, Scenario, scenario


def explored(program: Scenario, parameters: str) -> ScenarioExploration:
    """Return an exploration that has executed every trace, with parameters as a user writes them."""
    done = ScenarioExploration(
        program.bind(dict(pair.split("=") for pair in parameters.split())), __file__, Plan(shrink=None)
    )
    done.on("direct")
    assert done.failure is None
    assert done.is_exhausted
    return done


def causes(build: Build, parameters: str = "") -> dict[Signature, Cause]:
    """Return what every trace of a program together shows."""
    return explored(scenario(expect=CLEAN, sequential=True)(build), parameters).causes


def replace_calls(m: Machine, **calls: Any) -> None:
    """Put other wrappers in the place of some of the revision's."""
    m.hypervisor = attrs.evolve(m.hypervisor, revision=attrs.evolve(m.hypervisor.revision, **calls))
