"""The vocabulary of logs is fixed: logs hold only its events and keys, and each key has one type."""

import pytest

from emu.engine.hosts import direct
from emu.engine.strategies.random import RandomStrategy
from emu.reports.key_types import of_sort, sort_of
from emu.reports.log import records
from emu.reports.vocabulary import EVENTS, FLAGS, HEXADECIMAL, KEYS, LISTS, NUMBERS
from emu.scenarios.library import bundled, find

CELLS = [(name, platform.name) for name in sorted(bundled()) for platform in find(name).platforms()]


@pytest.mark.parametrize(("name", "vendor"), CELLS)
def test_a_log_holds_only_events_and_keys_of_the_vocabulary_and_one_type_a_key(name: str, vendor: str) -> None:
    scenario = find(name)
    texts = {"dma": "5"} if any(parameter.name == "dma" for parameter in scenario.parameters) else {}
    bound = scenario.bind({**texts, "iommu": vendor})
    for seed in range(4):
        machine = bound.build(sources=True)
        execution = machine.execution(RandomStrategy.seeded(seed))
        direct.run(execution)
        header = {"scenario": name, "parameters": [], "strategy": "random", "seed": seed}
        for record in records(machine, machine.conclude(execution), header):
            assert record["event"] in EVENTS
            assert set(record) <= set(KEYS)
            assert {key: of_sort(value) for key, value in record.items()} == {
                key: (sort_of(key), value) for key, value in record.items()
            }


def test_keys_of_a_sort_are_keys() -> None:
    sorts = (HEXADECIMAL, NUMBERS, FLAGS, LISTS)
    assert all(set(KEYS) >= sort for sort in sorts)
    assert len(NUMBERS | FLAGS | LISTS) == sum(map(len, (NUMBERS, FLAGS, LISTS)))
