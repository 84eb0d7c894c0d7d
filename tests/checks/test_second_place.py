"""Each kind of finding is shown where it is at the second page, unit or device only, by a scenario that comes with emu.

A check that looks at the first place only is silent there, so the verdict is another one. Every trace is executed.
"""

import pytest

from emu.checks.findings import FindingKind
from emu.checks.signatures import Signature
from tests.cells import TABLE_CELLS
from tests.running.explored import bundled_with, explored

SECOND = """
stale           | unmap_twice_before_flush order=1 hole=true revision=merged                 | page   | 0x1001
stale           | domain_id_freed_too_early units=2 revision=merged                          | unit   | vtd1
stale-fault     | map_dma_unmap_dma order=1 extend=true caching_mode=true revision=implicit  | page   | 0x1001
owed            | flush_misses_last_page revision=merged                                     | page   | 0x1001
released        | flush_misses_last_page release=true revision=merged                        | page   | 0x1001
released        | grant_mapped_twice release=true revision=merged                            | page   | 0x1001
released        | grant_mapped_twice release=true units=2 revision=merged                    | unit   | vtd1
lost-error      | unmap_fails_halfway revision=v1                                            | page   | 0x1001
not-rolled-back | roll_back_fails_halfway revision=merged                                    | page   | 0x1001
wrong-result    | hook_errs_on_last_page revision=merged                                     | page   | 0x1001
beyond-range    | hook_errs_on_last_page error=overshoot revision=merged                     | page   | 0x1002
gap             | hook_errs_on_last_page error=clear-first refuse_gaps=true revision=merged  | page   | 0x1001
late-access     | write_in_flight order=1 drain=false release=false revision=merged          | page   | 0x1001
freed-table     | map_into_dying_domain order=1 revision=merged                              | page   | 0x1003
foreign-access  | device_returned_with_writes_queued devices=2 revision=merged               | device | 00:1f.1
torn-entry      | entry_replaced_in_halves pages=2 revision=merged                           | page   | 0x1001
no-break        | p2m_entry_replaced in_place=true pages=2 revision=merged                    | page   | 0x1001
not-isolated    | grant_mapped_twice revision=merged                                         | page   | 0x1001
not-isolated    | grant_mapped_twice units=2 revision=merged                                 | unit   | vtd1
"""
"""The kind, the cell, and its second place: what lies before it in the story has no finding.

Calls begin at page 0x1000, that of map_into_dying_domain at 0x1002. What goes beyond the range of a call is stored
while the call is at its second page.
"""

ROWS = [tuple(cell.strip() for cell in row.split("|")) for row in SECOND.strip().splitlines()]

WITHOUT_PLACE = {
    FindingKind.DEADLOCK,
    FindingKind.OVERRUN,
    FindingKind.ASSERTION,
    FindingKind.ILLEGAL,
}
"""Kinds that are about no page, unit or device; hardware that does what it must not is a bug of emu."""


def place_of(one: Signature, sort: str) -> str:
    """Return where a finding is, as the table writes it."""
    if sort == "page":
        return "nowhere" if one.dfn is None else f"{one.dfn:#x}"
    return str(one.unit if sort == "unit" else one.owed_by)


@pytest.mark.parametrize(("kind", "cell", "sort", "second"), ROWS)
def test_a_finding_of_each_kind_is_at_the_second_place_and_nowhere_else(
    kind: str, cell: str, sort: str, second: str
) -> None:
    done = explored(bundled_with(*cell.split(maxsplit=1)))
    assert done.is_exhausted
    assert {place_of(one, sort) for one in done.causes if one.kind is FindingKind(kind)} == {second}


def test_each_kind_that_has_a_place_has_a_row() -> None:
    assert {FindingKind(kind) for kind, *_ in ROWS} == set(FindingKind) - WITHOUT_PLACE


def test_each_row_is_a_cell_of_the_verdict_table() -> None:
    assert {cell for _, cell, *_ in ROWS} <= set(TABLE_CELLS)
