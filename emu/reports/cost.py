"""The report of `emu cost`: a table for each call, within 80 columns; and JSON data."""

from collections.abc import Sequence
from typing import Any

import attrs

from emu.hypervisor.domain import IommuUse
from emu.iommus.counters import Counters
from emu.reports.counts import count
from emu.running.cost import CACHED_ORDER_MAX, Call, Cost
from emu.units import page_count

WIDTHS = (18, 8, 9, 9, 9, 9, 8, 7)
HEADS = (
    ("revision", "flushes", "commands", "register", "register", "dropped", "of them", "walks"),
    ("", "", "", "reads", "writes", "", "valid", "caused"),
)

UNUSED = {
    IommuUse.SHARED: "The tables are those of the CPUs: hooks leave them alone, and whoever changes them has to flush.",
    IommuUse.PASSTHROUGH: "The domain's devices are not translated: it has none here.",
    IommuUse.OFF: "There is no IOMMU for the domain: the wrappers return at once.",
}

NOTE = (
    "flushes: invalidations of cached translations, on all units; the domain uses the first only, and VT-d flushes no "
    "other; commands: with the waits for them; dropped: cached translations, and how many of them were still valid; "
    "walks caused: the device walks again for a page that was dropped although it was valid. Only counted: no checks, "
    "no histories, no trace, and each store is visible at once. Up to order "
    f"{CACHED_ORDER_MAX} the device had cached the pages of the call, and always one other page."
)

STORIES = {
    Call.MAP: "map {pages} that {were} not mapped",
    Call.REPLACE: "map {pages} that {were} mapped otherwise",
    Call.UNMAP: "unmap {pages}",
    Call.UNMAP_AGAIN: "unmap {pages} that {were} not mapped any more",
    Call.MAP_FAILS: "map {pages}, of which the last one fails",
    Call.MOVE: "move {pages} to other addresses",
    Call.BOOT: "fill the hardware domain's tables with {pages}",
}


def title(call: Call, order: int) -> str:
    """Return what a call does, as the title of its table."""
    number = page_count(order)
    story = STORIES[call].format(pages=count(number, "page"), were="was" if number == 1 else "were")
    return f"{story} (order {order})"


def row(cells: Sequence[object]) -> str:
    """Return a line of a table."""
    first, *rest = (str(cell) for cell in cells)
    return first.ljust(WIDTHS[0]) + "".join(cell.rjust(width) for cell, width in zip(rest, WIDTHS[1:], strict=True))


def line(cost: Cost) -> str:
    """Return the line of a revision."""
    one, width = cost.counters, WIDTHS[0] - 1
    name = cost.revision if len(cost.revision) <= width else f"...{cost.revision[3 - width :]}"
    numbers = (one.flushes, one.posted, one.register_reads, one.register_writes)
    return row((name, *numbers, one.dropped, one.over_flushed, one.walks_caused))


def kinds(costs: Sequence[Cost]) -> str:
    """Return what was flushed, one clause a revision."""
    return "flushed: " + "; ".join(f"{cost.revision}: {flushed(cost.counters)}" for cost in costs)


def flushed(counters: Counters) -> str:
    """Return the flushes by kind and range."""
    named = [f"{number} {kind}" for kind, number in counters.commands.items() if kind != "wait"]
    if counters.buffer_flushes:
        named.append(count(counters.buffer_flushes, "write buffer flush", "write buffer flushes"))
    return ", ".join(named) or "none"


def data(cost: Cost) -> dict[str, Any]:
    """Return the data of a call."""
    return {
        "call": cost.call.value,
        "order": cost.order,
        "revision": cost.revision,
        **counters_data(cost.counters),
    }


def counters_data(counters: Counters) -> dict[str, Any]:
    """Return counters as JSON data."""
    counted = attrs.asdict(counters, filter=lambda one, _: one.name != "lost")
    return {**counted, "posted": counters.posted, "waits": counters.waits}
