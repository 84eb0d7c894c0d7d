"""What the tests share: running what a machine was given to do."""

from collections.abc import Callable

import pytest

from emu.checks.findings import Finding
from emu.engine.hosts import direct
from emu.engine.strategies.random import RandomStrategy
from emu.engine.strategies.round_robin import RoundRobinStrategy
from emu.machine.machine import Machine

Execute = Callable[..., list[Finding]]


@pytest.fixture
def execute() -> Execute:
    """Run a machine's agents on the direct host, by turns or by a seed, and return the findings."""

    def run(machine: Machine, seed: int | None = None) -> list[Finding]:
        strategy = RoundRobinStrategy() if seed is None else RandomStrategy.seeded(seed)
        execution = machine.execution(strategy)
        direct.run(execution)
        return machine.conclude(execution)

    return run
