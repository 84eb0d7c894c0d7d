"""What `emu explain` says is so, and docs/glossary.md says the same.

`python -m tests.test_glossary` renews the page, and the executions in which events and keys occur.
"""

from collections.abc import Iterator
from pathlib import Path

import attrs
import cattrs
import orjson
import pytest

from emu.checks.kinds import FindingKind
from emu.engine.hosts import direct
from emu.engine.strategies.random import RandomStrategy
from emu.reports.explain import page
from emu.reports.glossary import EXPLANATIONS, Explanation
from emu.reports.log import LOG_FORMAT, Record, agent_name, records
from emu.reports.occurrences import FILE, Occurrence, emitters, occurrences
from emu.reports.vocabulary import EVENTS, KEYS
from emu.running.verdict import Verdict
from emu.scenarios.library import bundled, bundled_names, find
from tests.running.explored import bundled_with, explored

PAGE = Path(__file__).parent.parent / "docs/glossary.md"

SHOWN = {kind: one for kind, one in EXPLANATIONS.items() if one.scenario}

RARE = (
    "walk_caches=true",
    "walk_at_once=true",
    "iotlb_entries=2",
    "write_buffer=true",
    "drain=false",
    "queue_entries=2",
)
"""Settings with which events occur that are in no other execution."""

NOWHERE = {
    *("memory.load", "flush.skip", "context.void", "device_entry.void", "stream.fault"),
    *("iotlb.evict", "iotlb.bypass", "walk.start"),
}
"""Events that are in none of the executions that are looked at."""


def log_of(scenario: str, parameters: str, seed: int) -> list[Record]:
    """Return the log of an execution, as `emu run --log` writes it."""
    bound = bundled_with(scenario, parameters)
    machine = bound.build(sources=True, is_checking=True)
    execution = machine.execution(RandomStrategy.seeded(seed))
    direct.run(execution)
    header = {"scenario": scenario, "parameters": [], "strategy": "random", "seed": seed, "format": LOG_FORMAT}
    return list(records(machine, machine.conclude(execution), header))


def kind_of_agent(record: Record) -> str:
    if "step" not in record or record["event"] == "finding":
        return "the writer of the log"
    return "a CPU" if "cpu" in record else "a device" if "device" in record else "a unit"


def looked_at() -> Iterator[Occurrence]:
    """Yield executions: those with default parameters come first."""
    names = bundled_names()
    yield from (
        Occurrence(name, parameters, 0) for name in names for parameters in ("", "iommu=amd") if runs(name, parameters)
    )
    yield from (Occurrence(name, cell, 0) for name, scenario in bundled().items() for cell in scenario.cells)
    yield from (
        Occurrence(name, " ".join((*vendor, setting)), seed)
        for setting in RARE
        for name, scenario in bundled().items()
        for vendor in ([], *([f"iommu={one.name}"] for one in scenario.platforms()[1:]))
        if setting.partition("=")[0] not in scenario.platform_of(dict(one.split("=") for one in vendor)).refused
        for seed in range(3)
    )


def runs(name: str, parameters: str) -> bool:
    return not parameters or any(parameters.endswith(one.name) for one in find(name).platforms()[1:])


def survey() -> dict[str, dict[str, Occurrence]]:
    """Return the first execution in which each event and each key occurs, by whom, and beside what."""
    events: dict[str, Occurrence] = {}
    keys: dict[str, Occurrence] = {}
    by: dict[str, set[str]] = {}
    beside: dict[str, set[str]] = {}
    for one in looked_at():
        for record in log_of(one.scenario, one.parameters, one.seed):
            event = record["event"]
            events.setdefault(event, one)
            by.setdefault(event, set()).add(kind_of_agent(record))
            for key in record:
                keys.setdefault(key, one)
                beside.setdefault(event, set()).add(key)
                beside.setdefault(f"key {key}", set()).add(event)
    return {
        "events": {
            name: attrs.evolve(events[name], by=tuple(sorted(by[name])), beside=in_order(beside[name], list(KEYS)))
            for name in EVENTS
            if name in events
        },
        "keys": {
            name: attrs.evolve(keys[name], beside=in_order(beside[f"key {name}"], list(EVENTS)))
            for name in KEYS
            if name in keys
        },
    }


def in_order(names: set[str], order: list[str]) -> tuple[str, ...]:
    return tuple(sorted(names, key=lambda name: (order.index(name) if name in order else len(order), name)))


def test_the_page_is_what_is_explained() -> None:
    assert PAGE.read_text() == page()


def test_every_kind_is_explained_and_only_a_bug_of_emu_is_shown_by_no_scenario() -> None:
    assert list(EXPLANATIONS) == list(FindingKind)
    assert set(FindingKind) - set(SHOWN) == {FindingKind.ILLEGAL}


@pytest.mark.parametrize("kind", SHOWN, ids=lambda one: one.value)
def test_the_scenario_of_a_kind_shows_it_by_the_race_that_is_told(kind: FindingKind) -> None:
    told = EXPLANATIONS[kind]
    done = explored(bundled_with(told.scenario, told.parameters))
    assert done.bound.expectation.kind is kind
    assert done.verdict is Verdict.SHOWN
    (cause,) = (cause for signed, cause in done.causes.items() if signed.kind is kind)
    assert cause.run is not None
    assert cause.run.reported is not None
    assert missing(told, list(records(cause.run.reported.machine, [], {"seed": 0}))) == []


def missing(told: Explanation, log: list[Record]) -> list[str]:
    """Return the moments of a race that are not in a log, in this order."""
    rest = iter(log)
    return [
        one.means
        for one in told.race
        if not any((agent_name(record), record["event"]) == (one.agent, one.event) for record in rest)
    ]


def test_a_moment_that_is_out_of_order_is_noticed() -> None:
    told = EXPLANATIONS[FindingKind.STALE]
    log = log_of(told.scenario, told.parameters, 0)
    assert missing(told, log[::-1]) != []


def test_each_event_and_key_has_an_execution_or_is_known_to_have_none() -> None:
    assert set(EVENTS) - set(occurrences()["events"]) == NOWHERE
    assert set(KEYS) - set(occurrences()["keys"]) == {
        "fence",
        "preemptions",
        "found_with",
        "tag_text",
        "source_id_text",
    }


RUNS = sorted({(one.scenario, one.parameters, one.seed) for found in occurrences().values() for one in found.values()})


@pytest.mark.parametrize(("scenario", "parameters", "seed"), RUNS)
def test_what_is_said_to_occur_in_an_execution_does(scenario: str, parameters: str, seed: int) -> None:
    log = log_of(scenario, parameters, seed)
    assert {record["event"] for record in log} <= set(EVENTS)
    for event, one in occurrences()["events"].items():
        found = [record for record in log if record["event"] == event]
        assert found or (one.scenario, one.parameters, one.seed) != (scenario, parameters, seed)
        assert {kind_of_agent(record) for record in found} <= set(one.by)
        assert {key for record in found for key in record} <= set(one.beside)
    for key, one in occurrences()["keys"].items():
        having = {record["event"] for record in log if key in record}
        assert having or (one.scenario, one.parameters, one.seed) != (scenario, parameters, seed)
        assert having <= set(one.beside)


def test_an_event_has_a_place_in_the_code_that_emits_it() -> None:
    of_the_log = {"execution.begin", "execution.end", "window", "finding"}
    assert {event for event in EVENTS if not list(emitters(event))} == of_the_log
    assert list(emitters("iotlb.fill")) == ["emu/iommus/iotlb.py: Fill.describe"]


if __name__ == "__main__":
    FILE.write_bytes(orjson.dumps(cattrs.unstructure(survey()), option=orjson.OPT_INDENT_2) + b"\n")
    occurrences.cache_clear()
    PAGE.write_text(page())
