"""Trace events, as they are read back."""

from collections import defaultdict
from typing import Any

import orjson
import pytest

from emu.reports.exports.perfetto import perfetto
from emu.reports.log import Record
from tests.reports.race import VARIED, race, recorded, records_of


def read(records: list[Record]) -> list[dict[str, Any]]:
    data = orjson.loads(perfetto(recorded(records)))
    assert data["otherData"]["format"] == "emu-trace-events-1"
    events: list[dict[str, Any]] = data["traceEvents"]
    return events


def tracks(events: list[dict[str, Any]]) -> dict[str, int]:
    return {one["args"]["name"]: one["tid"] for one in events if one.get("name") == "thread_name"}


def slices(events: list[dict[str, Any]]) -> dict[int, list[tuple[str, int, int]]]:
    """Return the slices of each track; an end that has no beginning, or is before it, is an error."""
    found: dict[int, list[tuple[str, int, int]]] = defaultdict(list)
    inside: dict[int, list[dict[str, Any]]] = defaultdict(list)
    clock: dict[int, int] = defaultdict(int)
    for event in events:
        if event["ph"] in "BE":
            track, step = event["tid"], event["ts"]
            assert step >= clock[track]
            clock[track] = step
            if event["ph"] == "B":
                inside[track].append(event)
            else:
                begun = inside[track].pop()
                found[track].append((begun["name"], begun["ts"], step))
    assert not any(inside.values())
    return found


@pytest.mark.parametrize("name", VARIED)
def test_slices_nest_and_each_that_begins_ends(name: str) -> None:
    assert any(slices(read(records_of(name))).values())


def test_calls_are_on_the_track_of_their_cpu_and_each_lock_on_its_own() -> None:
    events = read(race())
    by_name = {name: slices(events)[track] for name, track in tracks(events).items()}
    assert by_name["cpu1"] == [("map d1 0x1000", 0, 35), ("add_to_physmap", 0, 35)]
    assert by_name["cpu1 d1.mapping_lock"] == [("waits for d1.mapping_lock", 5, 13), ("d1.mapping_lock", 13, 26)]


def test_each_event_is_an_instant_on_the_track_of_its_agent() -> None:
    events = read(race())
    names = {number: name for name, number in tracks(events).items()}
    instants = [(one["ts"], names[one["tid"]], one["name"]) for one in events if one["ph"] == "i" and one["s"] == "t"]
    assert instants == [(one.step, one.agent, one.name) for one in recorded(race()).events]


def test_arrows_are_the_order_of_steps_and_have_a_slice_at_each_end() -> None:
    events = read(race())
    ends = {phase: {one["id"]: one for one in events if one["ph"] == phase} for phase in "sf"}
    pairs = {(one["ts"], ends["f"][number]["ts"]) for number, one in ends["s"].items()}
    assert pairs == {(before, one.step) for one in recorded(race()).events for before in one.after}
    steps = {(one["tid"], one["ts"]) for one in events if one["ph"] == "X"}
    assert {(one["tid"], one["ts"]) for phase in ends.values() for one in phase.values()} == steps


def test_the_finding_is_an_instant_across_all_tracks_and_the_window_is_asynchronous() -> None:
    events = read(race())
    (finding,) = [one for one in events if one.get("s") == "g"]
    assert (finding["ts"], finding["name"], finding["args"]["steps"]) == (35, "finding: stale", [12, 35, 40, 41, 45])
    window = [one for one in events if one["ph"] in "be"]
    assert [(one["ph"], one["ts"], one["name"]) for one in window] == [
        ("b", 12, "window d1 0x1000"),
        ("e", 45, "window d1 0x1000"),
    ]
