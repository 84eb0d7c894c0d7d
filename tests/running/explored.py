"""Exploring scenarios that come with emu, and small ones that are written in a test."""

import inspect
from collections.abc import Callable
from typing import Any

from emu.cpus import Cpu
from emu.machine.machine import Machine
from emu.running.exploration import ScenarioExploration
from emu.running.plan import Plan
from emu.scenarios.expectation import CLEAN, Expectation
from emu.scenarios.library import bundled_names, find
from emu.scenarios.scenario import BoundScenario, scenario
from emu.units import Dfn

G = Dfn(0x10)

Body = Callable[[Machine], None]


def bundled_with(name: str, parameters: str = "") -> BoundScenario:
    """Return a scenario that comes with emu, with parameters as a user writes them."""
    return find(name).bind(dict(pair.split("=") for pair in parameters.split()))


def of(body: Body, expected: Expectation = CLEAN, parameters: str = "") -> BoundScenario:
    """Return a scenario that is written in a test."""
    return scenario(expect=expected)(body).bind(dict(pair.split("=") for pair in parameters.split()))


def explored(bound: BoundScenario, host: str = "direct", **options: Any) -> ScenarioExploration:
    """Return an exploration that has ended; without `shrink` it shows executions as it has found them."""
    name = bound.scenario.name
    named = name if name in bundled_names() else inspect.getfile(bound.scenario.build)
    done = ScenarioExploration(bound, named, Plan(**{"shrink": None, **options}))
    done.on(host)
    return done


def store_and_load(m: Machine) -> None:
    """Two traces of two steps."""

    @m.cpu(0)
    async def storer(cpu: Cpu) -> None:
        await cpu.store64(0, 1)

    @m.cpu(1)
    async def loader(cpu: Cpu) -> None:
        await cpu.load64(0)


def two_owners(m: Machine) -> None:
    """One stale translation."""
    domain = m.domain(1, devices=("00:1f.0",))
    m.premap(domain, G, m.allocate(), cached=True)
    new = m.allocate()

    @m.cpu(0)
    async def unmapper(cpu: Cpu) -> None:
        await m.hypervisor.unmap(cpu, domain, G)

    @m.cpu(1)
    async def mapper(cpu: Cpu) -> None:
        await m.hypervisor.map(cpu, domain, G, new)
