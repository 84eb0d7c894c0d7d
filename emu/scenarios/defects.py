"""The defects of the seed patch and of its merged form, as data: what shows each of them, or why nothing does.

D1 to D24 are defects and hazards of the patch as posted, some older than it; C1 to C6 came with the merged form.
"""

from collections.abc import Iterator

import attrs

from emu.checks.findings import FindingKind
from emu.hypervisor.revisions.loader import BUNDLED
from emu.scenarios.expectation import Expectation
from emu.scenarios.library import find
from emu.scenarios.parameters import VENDOR

MERGED = "e8afe1124c"


@attrs.frozen
class Cell:
    """A scenario with parameters, as a user writes them."""

    scenario: str
    parameters: str = ""


@attrs.frozen
class Defect:
    """A defect, or a hazard.

    Attributes:
        says: what is wrong, in one clause.
        mended: the commit of Xen that mended it; empty if none has.
        shows: the cells that show it; the repaired form is one of them, or a revision that is clean.
        unseen: why no scenario shows it; empty if one does.
    """

    name: str
    says: str
    mended: str = ""
    shows: tuple[Cell, ...] = ()
    unseen: str = ""

    def verdicts(self) -> Iterator[tuple[Cell, str, tuple[str, ...]]]:
        """Yield each cell with each vendor that can run it, and the verdict declared of each revision of emu's."""
        for cell in self.shows:
            texts = dict(pair.split("=") for pair in cell.parameters.split())
            scenario = find(cell.scenario)
            for vendor in scenario.platforms():
                if texts.get(VENDOR, vendor.name) == vendor.name and texts.keys().isdisjoint(vendor.refused):
                    bound = scenario.bind({**texts, VENDOR: vendor.name})
                    yield cell, vendor.name, tuple(said(bound.declared(revision)) for revision in BUNDLED)


def said(expected: Expectation) -> str:
    """Return a verdict as the page has it: the kind that shows, then those that may come with it."""
    return ", ".join((str(expected), *(kind.value for kind in FindingKind if kind in expected.also)))


def shown_by(*cells: tuple[str, str]) -> tuple[Cell, ...]:
    """Return cells, each given by a scenario and its parameters."""
    return tuple(Cell(*one) for one in cells)


DEFECTS = (
    Defect(
        "D1",
        "an unmap returns what its flush returns, in place of its own error",
        MERGED,
        shown_by(("unmap_fails_halfway", ""), ("smmu_hook_refuses", "refused=guest")),
    ),
    Defect(
        "D2",
        "a map returns what its flush returns, in place of its own error",
        MERGED,
        shown_by(("map_fails_halfway", ""), ("smmu_hook_refuses", "")),
    ),
    Defect(
        "D3",
        "the error path of a map calls a hook that may be NULL",
        MERGED,
        shown_by(("flush_hook_is_missing", ""), ("flush_hook_is_missing", "missing=false")),
    ),
    Defect(
        "D4",
        "the error path of a map ignores a flush that failed, and the flag elides the second one",
        "0229adb138",
        unseen="the caller that has set the flag flushes the region at its end, which pays for it",
    ),
    Defect(
        "D5",
        "the lock is dropped long before the flush: another CPU finds the new entry and believes it in force",
        "",
        shown_by(
            ("map_same_frame_before_flush", ""),
            ("map_same_frame_before_flush", "outer_lock=across-flush"),
            ("replace_while_device_reads", ""),
        ),
    ),
    Defect(
        "D6",
        "a map finds a page not present and needs no flush, while the flush of its unmap is still to come (R1)",
        "",
        shown_by(("remap_before_flush", ""), ("remap_before_flush", "outer_lock=across-flush")),
    ),
    Defect(
        "D7",
        "the flag belongs to a CPU, so a softirq inside a flagged loop elides the flush of another domain",
        MERGED,
        shown_by(("softirq_in_hwdom_init", ""), ("softirq_in_hwdom_init", "release=true")),
    ),
    Defect(
        "D8",
        "the flag is no counter: an exit that does not clear it mutes the CPU (XSA-80)",
        "552b7fcb9a",
        shown_by(("flag_left_set", ""), ("flag_left_set", "repaired=true")),
    ),
    Defect(
        "D9",
        "the flag is read after the loop, on whichever CPU executes",
        unseen="a CPU of Xen does not migrate between setting the flag and reading it",
    ),
    Defect(
        "D10",
        "an unmap does not read the flag: flushes that were to be saved",
        MERGED,
        unseen="it costs flushes, which `emu cost move --order 2` counts, and exposes nothing",
    ),
    Defect(
        "D11",
        "a map reads the flag on AMD-Vi, too: what it replaces stays in use until the batch has flushed",
        "",
        shown_by(
            ("map_into_flagged_region", "change=replace"),
            ("map_into_flagged_region", "change=replace outer_lock=across-flush"),
        ),
    ),
    Defect(
        "D12",
        "`iommu_hwdom_init` leaves its flush out if any page has failed",
        MERGED,
        shown_by(("hwdom_init_after_error", "failing=true hook=false"), ("hwdom_init_after_error", "failing=true")),
    ),
    Defect(
        "D13",
        "`iommu_hwdom_init` calls the flush hook itself, so nobody logs a flush that failed",
        MERGED,
        shown_by(("hwdom_init_after_error", "iommu=vtd wait_faults=1")),
    ),
    Defect(
        "D14",
        "`arch_iommu_populate_page_table` flushes nothing between its passes",
        "f89f555827",
        shown_by(
            ("map_between_populate_passes", ""),
            ("map_between_populate_passes", "caching_mode=true"),
            ("map_between_populate_passes", "change=replace"),
        ),
    ),
    Defect(
        "D15",
        "the flush hook of AMD-Vi asserts that the type is `modified`",
        MERGED,
        unseen="on AMD-Vi no hook reports `added`; a revision of yours that does fails with `-p debug_build=true`",
    ),
    Defect(
        "D16",
        "the flush hook of the SMMU flushes everything, even for `none`",
        MERGED,
        unseen="it costs flushes, which `emu cost unmap-again -p iommu=smmu` counts, and exposes nothing",
    ),
    Defect(
        "D17",
        "a range that was not present is flushed by its domain on VT-d",
        "5fe515a0fe",
        unseen="it costs flushes, which `emu cost map --order 1` counts, and exposes nothing",
    ),
    Defect(
        "D18",
        "the count of a flush is an unsigned int, and 2^32 pages are none",
        "",
        shown_by(("flush_count_overflows", ""), ("flush_count_overflows", "large=false")),
    ),
    Defect(
        "D19",
        "a flush that timed out is the result of a map whose pages are mapped",
        "",
        shown_by(("timeout_of_flush", "iommu=vtd"), ("timeout_of_flush", "iommu=vtd flusher=flush")),
    ),
    Defect(
        "D20",
        "the errors of the roll-back are ignored, and a page stays mapped",
        "",
        shown_by(("roll_back_fails_halfway", "")),
    ),
    Defect(
        "D21",
        "an unmap writes its line back after the unlock, so a flush by another CPU comes too early",
        "",
        shown_by(
            ("unmap_twice_before_flush", "coherent=false"),
            ("unmap_twice_before_flush", "outer_lock=across-flush"),
        ),
    ),
    Defect(
        "D22",
        "the result of a later unit replaces that of an earlier one",
        "e7059776f9",
        shown_by(("timeout_on_one_unit", ""), ("timeout_on_one_unit", "repaired=true")),
    ),
    Defect(
        "D23",
        "a flush reads without a lock which units a domain uses, and misses one that joins",
        "",
        shown_by(("unit_used_during_flush", ""), ("unit_used_during_flush", "attached=true")),
    ),
    Defect(
        "D24",
        "a device's firmware pages that were mapped before an error stay mapped",
        "34750a3eb0",
        shown_by(("unity_map_fails_halfway", ""), ("unity_map_fails_halfway", "failing=false")),
    ),
    Defect(
        "C1",
        "an unmap on AMD-Vi looks for the present bit in the wrong half",
        "ba9b5a09da",
        shown_by(("unmap_looks_in_wrong_half", ""), ("unmap_looks_in_wrong_half", "repaired=true")),
    ),
    Defect(
        "C2",
        "`iommu_hwdom_init` passes the permissions as the order, and no permissions",
        "3389a8dc8c",
        shown_by(("hwdom_init_after_error", "order_bug=true"), ("hwdom_init_after_error", "")),
    ),
    Defect(
        "C3",
        "the flag reaches AMD-Vi and unmaps: frames are freed before the flush of the batch (XSA-346)",
        "dea460d869, 5777a3742d",
        shown_by(
            ("displace_while_moving", ""),
            ("displace_while_moving", "form=2020-3"),
            ("remove_moved_page", ""),
            ("remove_moved_page", "form=2020-2"),
        ),
    ),
    Defect(
        "C4",
        "nothing flushes the SMMU any more: only the wrappers of the patch as posted did (B30)",
        "9ed527dc95",
        shown_by(("p2m_changed_by_wrapper", ""), ("p2m_changed_by_wrapper", "change=unmap repaired=true")),
    ),
    Defect(
        "C5",
        "the second of two CPUs that unmap a page finds nothing to do, and returns before the flush (R2)",
        "",
        shown_by(("unmap_twice_before_flush", ""), ("unmap_twice_before_flush", "outer_lock=across-flush")),
    ),
    Defect(
        "C6",
        "the functions that fill the hardware domain's tables go on after a flush that failed",
        unseen="the wrapper has logged the failure, and a function without a result can tell no more",
    ),
)
"""In the order of their names."""
