"""Spans of steps."""

from typing import Any

import pytest

from emu.reports.log import Record
from emu.reports.recorded import Recorded
from emu.reports.spans import Span, spans
from tests.reports.race import VARIED, race, recorded, records_of


def told(records: list[Record], sort: str) -> list[tuple[str, str, int, int]]:
    return [(one.agent, one.name, one.first, one.last) for one in spans(recorded(records)) if one.sort == sort]


def cpu(step: int, event: str, number: int = 0, **keys: Any) -> Record:
    return {"event": event, "level": "info", "step": step, "cpu": number, **keys}


def test_the_race_has_two_hypercalls_with_a_call_in_each() -> None:
    assert told(race(), "hypercall") == [("cpu0", "remove_from_physmap", 0, 68), ("cpu1", "add_to_physmap", 0, 35)]
    assert told(race(), "call") == [("cpu0", "unmap d1 0x1000", 0, 68), ("cpu1", "map d1 0x1000", 0, 35)]
    assert {one.depth for one in spans(recorded(race())) if one.sort == "call"} == {1}


def test_who_waits_for_a_lock_holds_it_from_the_release_on() -> None:
    assert told(race(), "waiting") == [("cpu1", "d1.mapping_lock", 5, 13)]
    assert told(race(), "held")[:2] == [("cpu0", "d1.mapping_lock", 4, 13), ("cpu1", "d1.mapping_lock", 13, 26)]


def test_a_window_lasts_from_the_change_to_the_last_use_that_is_legal() -> None:
    assert told(race(), "window") == [("vtd0", "d1 0x1000", 12, 45)]


@pytest.mark.parametrize("name", VARIED)
def test_locks_are_held_as_long_as_the_events_of_their_release_say(name: str) -> None:
    found = recorded(records_of(name))
    held = sorted((one.agent, one.name, one.last, one.last - one.first) for one in closed(found, "held"))
    releases = [event for event in found.events if event.name == "lock.release"]
    assert held == sorted((one.agent, one.record["lock"], one.step, one.record["held"]) for one in releases)


@pytest.mark.parametrize("name", VARIED)
def test_calls_of_an_agent_nest(name: str) -> None:
    found = [one for one in spans(recorded(records_of(name))) if one.sort in {"hypercall", "call"}]
    for one in found:
        inside = [other for other in found if other.agent == one.agent and other.depth > one.depth]
        assert all(other.last <= one.first or other.first >= one.last or is_in(other, one) for other in inside)


def closed(found: Recorded, sort: str) -> list[Span]:
    return [one for one in spans(found) if one.sort == sort and not one.is_open]


def is_in(inner: Span, outer: Span) -> bool:
    return outer.first <= inner.first <= inner.last <= outer.last


def test_the_flag_is_set_until_it_is_cleared() -> None:
    flag: dict[str, Any] = {"variable": "iommu_dont_flush_iotlb"}
    records = [cpu(1, "percpu.write", value=True, **flag), cpu(4, "percpu.write", value=False, **flag)]
    assert told([*records, cpu(9, "x")], "flag") == [("cpu0", "iommu_dont_flush_iotlb", 1, 4)]
    assert told([records[0], cpu(9, "x")], "flag") == [("cpu0", "iommu_dont_flush_iotlb", 1, 9)]


def test_what_has_not_ended_lasts_to_the_end_and_is_open() -> None:
    records = [
        cpu(1, "call.enter", call="map"),
        cpu(2, "lock.ticket", lock="l"),
        cpu(3, "lock.contend", 1, lock="l"),
        cpu(8, "x"),
    ]
    assert [(one.sort, one.first, one.last, one.is_open) for one in spans(recorded(records))] == [
        ("call", 1, 8, True),
        ("held", 2, 8, True),
        ("waiting", 3, 8, True),
    ]


def test_a_hypercall_ends_when_what_it_left_deferred_is_judged() -> None:
    records = [
        cpu(1, "hypercall.enter", hypercall="h"),
        cpu(4, "hypercall.exit", hypercall="h"),
        cpu(6, "hypercall.settle", hypercall="h", owed=1),
    ]
    assert told(records, "hypercall") == [("cpu0", "h", 1, 6)]


def test_an_end_without_a_beginning_and_a_damaged_window_are_left_out() -> None:
    records = [
        cpu(1, "call.return", call="map"),
        cpu(2, "lock.release", lock="l"),
        *({"event": "window", "opened": opened, "closed": closed} for opened, closed in ((3, 2), ("a", 2), (0, 99))),
        cpu(5, "x"),
    ]
    assert spans(recorded(records)) == []
