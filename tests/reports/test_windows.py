"""How long a replaced entry stays in reach, per revision."""

import pytest

from emu.engine.hosts import direct
from emu.engine.strategies.round_robin import RoundRobinStrategy
from emu.library import find
from emu.reports.windows import windows


def longest(revision: str, order: int) -> int:
    """Return the longest window of a replacing map of an order, in steps."""
    bound = find("replace_while_device_reads").bind({"revision": revision, "order": str(order), "dma": "1"})
    machine = bound.build()
    direct.run(machine.execution(RoundRobinStrategy()))
    found = list(windows(machine))
    assert sorted(window.dfn for window in found) == list(range(0x1000, 0x1000 + (1 << order)))
    return max(window.steps for window in found)


def test_before_the_patch_the_window_is_that_of_one_page_whatever_the_order() -> None:
    assert longest("implicit", 6) == longest("implicit", 2)


@pytest.mark.parametrize("revision", ["v1", "merged"])
def test_since_the_patch_the_window_is_the_whole_loop(revision: str) -> None:
    one_page = longest(revision, 0)
    steps_per_page = (longest(revision, 3) - longest(revision, 2)) / 4
    assert longest(revision, 9) == longest(revision, 2) + (512 - 4) * steps_per_page
    assert longest(revision, 9) > 100 * one_page


def test_an_entry_that_was_not_present_opens_no_window() -> None:
    machine = find("map_fails_halfway").bind({"order": "0", "failing_page": "0"}).build()
    direct.run(machine.execution(RoundRobinStrategy()))
    assert list(windows(machine)) == []
