"""A timeline as plain data."""

from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from emu.reports.timeline.data import sort_of, timeline
from tests.reports.race import VARIED, race, recorded, records_of


@pytest.fixture(scope="module")
def drawn() -> dict[str, Any]:
    return timeline(recorded(race()))


def names(drawn: dict[str, Any]) -> list[str]:
    return [f"{lane['kind']} {lane['name']}" for lane in drawn["lanes"]]


def test_each_cpu_device_and_engine_has_a_lane_and_each_unit_one_for_its_windows(drawn: dict[str, Any]) -> None:
    assert names(drawn) == ["cpu cpu0", "cpu cpu1", "device 00:1f.0", "engine vtd0", "windows vtd0"]


def test_ten_cpus_stand_in_the_order_of_their_numbers() -> None:
    records = [{"event": "x", "level": "info", "step": 1, "cpu": number} for number in (10, 2, 1)]
    assert names(timeline(recorded(records))) == ["cpu cpu1", "cpu cpu2", "cpu cpu10"]


def test_an_event_stands_in_the_lane_of_its_agent_with_its_keys_and_source(drawn: dict[str, Any]) -> None:
    (event,) = [event for event in drawn["events"] if event["name"] == "pte.clear"]
    assert drawn["lanes"][event["lane"]]["name"] == "cpu0"
    assert (event["step"], event["sort"], event["domain"], event["pages"]) == (12, "change", 1, [0x1000, 1])
    keys = dict(event["keys"])
    assert (keys["old"], keys["dfn"]) == ("0x180002803", "0x1000")
    assert keys["source"].startswith("emu/hypervisor/revisions/v1/vtd.py:")


def test_the_steps_of_the_finding_are_marked_and_no_others(drawn: dict[str, Any]) -> None:
    (finding,) = drawn["findings"]
    assert {event["step"] for event in drawn["events"] if event["marked"]} == set(finding["steps"])
    assert finding["message"].startswith("stale translation (observed)")


def test_the_window_of_the_finding_is_marked(drawn: dict[str, Any]) -> None:
    (window,) = [span for span in drawn["spans"] if span["sort"] == "window"]
    assert window["marked"]
    assert window["note"] == "vtd0 could still use the replaced entry d1 0x1000, steps 12 to 45, used 4 times"


def test_the_order_of_steps_is_told_from_both_ends(drawn: dict[str, Any]) -> None:
    events = drawn["events"]
    after = {(one, number) for number, event in enumerate(events) for one in event["after"]}
    before = {(number, one) for number, event in enumerate(events) for one in event["before"]}
    assert {(events[one]["step"], events[other]["step"]) for one, other in after} == {
        (events[one]["step"], events[other]["step"]) for one, other in before
    }
    assert (13, 16) in {(events[one]["step"], events[other]["step"]) for one, other in after}


def overlapping(drawn: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    for one in drawn["spans"]:
        for other in drawn["spans"]:
            is_beside = (one["lane"], one["row"]) == (other["lane"], other["row"]) and one is not other
            if is_beside and one["first"] < other["last"] and other["first"] < one["last"]:
                yield one, other


@pytest.mark.parametrize("name", VARIED)
def test_spans_of_one_row_do_not_overlap_and_every_row_is_the_lanes(name: str) -> None:
    drawn = timeline(recorded(records_of(name)))
    assert list(overlapping(drawn)) == []
    assert all(span["row"] < drawn["lanes"][span["lane"]]["rows"] for span in drawn["spans"])


@pytest.mark.parametrize(
    ("event", "sort"),
    [("pte.read", "other"), ("iotlb.invalidate", "flush"), ("iotlb.hit", "other"), ("dma.read", "access")],
)
def test_events_are_sorted_by_what_they_do(event: str, sort: str) -> None:
    assert sort_of(event) == sort


def test_every_number_is_one_that_a_browser_keeps(drawn: dict[str, Any]) -> None:
    huge = {"event": "x", "level": "info", "step": 1, "cpu": 2**60, "domain": 2**60, "dfn": 2**60, "value": 2**60}
    first = {**huge, "dfn": 1, "page_count": 2**63}
    content = orjson.dumps(timeline(recorded([huge, first])), option=orjson.OPT_STRICT_INTEGER)
    assert b'"0x1000000000000000"' in content


def test_rows_are_few_even_where_calls_never_return() -> None:
    records = [{"event": "call.enter", "level": "info", "step": step, "cpu": 0, "call": "map"} for step in range(99)]
    drawn = timeline(recorded(records))
    assert [lane["rows"] for lane in drawn["lanes"]] == [60]
    assert len(drawn["spans"]) == 99
