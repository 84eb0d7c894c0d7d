"""Tables that are smaller below superpages show what tables of full size show."""

import pytest

from emu.running.verdict import Verdict
from tests.running.explored import bundled_with, explored

SMALL = "synchronous=true walk_at_once=true"


@pytest.mark.parametrize("scenario", ["remap_before_flush", "free_page_after_page", "table_freed_before_flush"])
@pytest.mark.parametrize("bits", [1, 2])
def test_a_scenario_shows_the_same_whatever_the_size_of_the_tables(scenario: str, bits: int) -> None:
    full, small = (
        explored(bundled_with(scenario, f"{SMALL} superpage_bits={superpage_bits}")) for superpage_bits in (9, bits)
    )
    assert small.verdict in {Verdict.SHOWN, Verdict.PROVED}
    assert (small.verdict, list(small.causes)) == (full.verdict, list(full.causes))


def test_so_it_does_where_each_page_has_a_table_of_its_own_half() -> None:
    full, small = (explored(bundled_with("remap_before_flush", f"{SMALL} order=1 superpage_bits={n}")) for n in (9, 1))
    assert small.done == full.done
