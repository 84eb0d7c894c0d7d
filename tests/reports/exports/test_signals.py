"""The values that change from step to step."""

from typing import Any

import pytest

from emu.reports.exports.signals import cached, pending
from emu.reports.log import Record
from tests.reports.race import recorded

FILL: Record = {"event": "iotlb.fill", "level": "info", "step": 1, "device": "00:1f.0", "iommu": "vtd0", "tag": 1}


@pytest.mark.parametrize(
    ("event", "is_dropped"),
    [
        ({"event": "iotlb.invalidate", "tag": 1, "dfn": 0x3FF, "page_order": 0}, True),
        ({"event": "iotlb.invalidate", "tag": 1, "dfn": 0x400, "page_order": 0}, False),
        ({"event": "iotlb.invalidate", "tag": 2}, False),
        ({"event": "iotlb.invalidate", "tag": "all"}, True),
        ({"event": "iotlb.invalidate", "tag": "all", "iommu": "vtd1"}, False),
        ({"event": "iotlb.evict", "dfn": 0x201}, True),
        ({"event": "iotlb.fill", "tag": 1, "dfn": 0x800, "evicted_dfn": 0x200}, True),
        ({"event": "iotlb.bypass", "tag": 1, "dfn": 0x800}, False),
    ],
)
def test_a_superpage_is_dropped_by_what_reaches_a_part_of_it(event: dict[str, Any], is_dropped: bool) -> None:
    records = [{**FILL, "dfn": 0x200, "page_order": 9}, {**FILL, "step": 2, **event}]
    first, *_ = cached(recorded(records))
    assert first.name == "iotlb_tag1_0x200"
    assert first.values == ({0: 0, 1: 1, 2: 0} if is_dropped else {0: 0, 1: 1})


def test_an_invalidation_of_a_device_s_entry_is_pending_until_it_has_drained() -> None:
    own: Record = {"level": "info", "iommu": "amd0"}
    records = [
        {"event": "queue.post", "step": 1, "cpu": 0, "slot": 0, **own},
        {"event": "queue.fetch", "step": 2, "slot": 0, "descriptor": "device", **own},
        {"event": "invalidate.begin", "step": 3, "slot": 0, **own},
        {"event": "device_entry.invalidate", "step": 4, "began": 3, "draining": 1, **own},
        {"event": "device_entry.complete", "step": 9, "began": 3, **own},
    ]
    (signal,) = pending(recorded(records))
    assert (signal.values[1], signal.values[9]) == (1, 0)
    assert 4 not in signal.values
