"""The vocabulary of logs is fixed: logs hold only its events and keys."""

import pytest

from emu.engine.hosts import direct
from emu.engine.strategies.random import RandomStrategy
from emu.reports.log import records
from emu.reports.vocabulary import EVENTS, HEXADECIMAL, KEYS
from emu.scenarios.library import bundled, find


@pytest.mark.parametrize("name", sorted(bundled()))
def test_a_log_holds_only_events_and_keys_of_the_vocabulary(name: str) -> None:
    scenario = find(name)
    texts = {"dma": "5"} if any(parameter.name == "dma" for parameter in scenario.parameters) else {}
    bound = scenario.bind(texts)
    for seed in range(5):
        machine = bound.build(sources=True)
        execution = machine.execution(RandomStrategy.seeded(seed))
        direct.run(execution)
        header = {"scenario": name, "parameters": [], "strategy": "random", "seed": seed}
        for record in records(machine, machine.conclude(execution), header):
            assert record["event"] in EVENTS
            assert set(record) <= set(KEYS)


def test_hexadecimal_keys_are_keys() -> None:
    assert set(KEYS) >= HEXADECIMAL
