"""The log of the README's race, and of other scenarios, as records."""

from functools import cache

from emu.reports.log import Record
from emu.reports.recorded import Recorded
from emu.reports.run import RunReport
from emu.running.run import Run
from emu.scenarios.library import find

VARIED = (
    "completion_wait_given_up",
    "domain_id_freed_too_early",
    "flush_after_continuation",
    "map_into_flagged_region",
    "move_more_than_fit",
    "remove_moved_page",
)
"""Scenarios that contend for locks, put flushes off, go on with hypercalls, nest locks, and run on either vendor."""


@cache
def records_of(name: str, strategy: str = "round-robin", seed: int = 0, **parameters: str) -> list[Record]:
    """Return the log of an execution, with the order of its steps."""
    run = Run(find(name).bind(parameters), strategy, seed, 1)
    run.on("direct")
    assert run.reported is not None
    return list(RunReport(run, name).records(with_order=True))


def race() -> list[Record]:
    return records_of("remap_before_flush", "random", 23, dma="8")


def recorded(records: list[Record]) -> Recorded:
    return Recorded.of(records, "race.jsonl")


def many(records: list[Record], times: int) -> list[Record]:
    """Return the log of an execution that goes through the same steps again and again."""
    begin, *events, end = records
    steps = events[-3]["step"]
    shifted = (
        {
            **record,
            **{key: record[key] + steps * time for key in ("step", "opened", "closed") if key in record},
            "after": [one + steps * time for one in record.get("after", ())],
        }
        for time in range(times)
        for record in events
    )
    return [begin, *shifted, end]
