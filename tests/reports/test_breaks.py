"""Breaks: what they stop at, and what they refuse."""

import pytest

from emu.errors import ScenarioError
from emu.reports.breaks import Break, Names
from emu.reports.log import Record

NAMES = Names(
    ("iotlb.fill", "iotlb.hit", "pte.clear", "finding"),
    ("dfn", "domain", "iommu", "value", "deferred", "agent", "step"),
    ("cpu0",),
)

RANGE: Record = {"event": "iotlb.fill", "step": 7, "dfn": 0x40, "page_order": 3, "iommu": "vtd0", "value": 16, "cpu": 0}


@pytest.mark.parametrize(
    "text",
    [
        "iotlb.fill",
        "iotlb",
        "iotlb dfn=0x47",
        "iotlb dfn=64 iommu=vtd0",
        "iotlb value=0x10",
        "iotlb agent=cpu0",
        "iotlb step=7",
        "iotlb step=5:",
        "iotlb step=:7",
    ],
)
def test_a_break_stops_at_an_event_that_has_all_that_it_names(text: str) -> None:
    assert Break.parse(text, NAMES).is_hit([{"event": "pte.clear"}, RANGE])


@pytest.mark.parametrize(
    "text",
    [
        "pte",
        "iotlb.hit",
        "iotlb dfn=0x48",
        "iotlb iommu=vtd1",
        "iotlb value=17",
        "iotlb value=vtd0",
        "iotlb deferred=true",
        "iotlb step=8:",
    ],
)
def test_a_break_lets_everything_else_pass(text: str) -> None:
    assert not Break.parse(text, NAMES).is_hit([RANGE])


def test_the_values_of_one_break_are_sought_in_one_event() -> None:
    one, other = {**RANGE, "iommu": "vtd1"}, {**RANGE, "value": 17}
    assert not Break.parse("iotlb iommu=vtd0 value=16", NAMES).is_hit([one, other])


def test_truth_is_written_as_json_writes_it() -> None:
    assert Break.parse("pte deferred=true", NAMES).is_hit([{"event": "pte.clear", "deferred": True}])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a break is an event"),
        ("dfn=1", "a break is an event"),
        ("iotlb.fil", "no event is named 'iotlb.fil' (did you mean 'iotlb.fill'?)"),
        ("iotlb 64", "behind the event a break has KEY=VALUE, not '64'"),
        ("iotlb dfn=", "behind the event a break has KEY=VALUE, not 'dfn='"),
        ("iotlb dfm=1", "no key of an event is named 'dfm' (did you mean 'dfn'?)"),
        ("iotlb dfn=-1", "dfn takes numbers from 0 on, not '-1'"),
        ("iotlb domain=-0x1", "domain takes numbers from 0 on, not '-0x1'"),
        ("iotlb dfn=x", "dfn takes numbers such as 12 or 0x1000, not 'x'"),
        ("iotlb step=3:x", "step takes numbers such as 12 or 0x1000, not 'x'"),
        ("iotlb agent=cpu1", "no agent of the replay is 'cpu1' (did you mean 'cpu0'?)"),
    ],
)
def test_a_break_that_can_stop_nowhere_is_refused_in_a_sentence(text: str, said: str) -> None:
    with pytest.raises(ScenarioError) as refused:
        Break.parse(text, NAMES)
    assert str(refused.value).startswith(said)
