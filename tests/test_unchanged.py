"""What users have been told stays: logs, verdicts' counts and signatures, and schedules that they have saved.

`python -m tests.test_unchanged` renews the files in `unchanged/`; say in the commit why they had to change.
"""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from emu.checks.signatures import signature
from emu.reports.run import RunReport
from emu.running.exploration import ScenarioExploration
from emu.running.replay import Replay
from emu.running.run import Run
from emu.scenarios.library import bundled, bundled_names
from tests.cells import TABLE_CELLS
from tests.running.explored import bundled_with, explored
from tests.test_determinism import digest as digest_of

FOLDER = Path(__file__).parent / "unchanged"
LOGS, CELLS = FOLDER / "logs.json", FOLDER / "cells.json"

OF_ALL = ("iotlb_entries=2", "synchronous=true", "walk_at_once=true")
SETTINGS = {
    "vtd": ("coherent=false", "caching_mode=true", "write_buffer=true", "drain=false", "queue_entries=4", *OF_ALL),
    "amd": ("np_cache=true", "queue_entries=4", *OF_ALL),
    "smmu": ("coherent=false", "drain=false", *OF_ALL),
    "smmuv3": ("coherent=false", "aarch32=true", "queue_entries=4", *OF_ALL),
}


def logged() -> Iterator[str]:
    """Yield scenario and parameters: each scenario on each revision, and with each setting of the hardware.

    So it is for its first vendor; on others it is logged on each revision.
    """
    for name, scenario in bundled().items():
        first, *others = scenario.platforms()
        for parameter in (*(f"revision={revision}" for revision in first.revisions), *SETTINGS[first.name]):
            yield f"{name} {parameter}"
        for vendor in others:
            yield from (f"{name} iommu={vendor.name} revision={revision}" for revision in vendor.revisions)


def digest(what: str) -> str:
    """Return the SHA-256 of the log of one execution, without source lines and messages."""
    run = Run(bundled_with(*what.split(maxsplit=1)), "random", 0, 1, sources=False)
    run.on("direct")
    written = io.BytesIO()
    RunReport(run, what.split(maxsplit=1)[0]).write_log(written)
    return digest_of(written.getvalue())


def counted(done: ScenarioExploration) -> dict[str, Any]:
    """Return what an exploration that has ended counts, and how many executions show each signature."""
    shown = {str(cause.signature): cause.executions for cause in done.causes.values()}
    return {"traces": done.done, "steps": done.coverage.steps, "signatures": dict(sorted(shown.items()))}


@pytest.mark.parametrize("name", bundled_names())
def test_the_logs_of_a_scenario_are_the_committed_ones(name: str) -> None:
    committed = json.loads(LOGS.read_text())
    of_it = [what for what in logged() if what.split()[0] == name]
    assert {what: digest(what) for what in of_it} == {what: committed[what] for what in of_it}


def test_each_log_that_was_committed_is_compared() -> None:
    assert list(json.loads(LOGS.read_text())) == list(logged())
    assert list(json.loads(CELLS.read_text())) == TABLE_CELLS


SAVED = {
    "unmap_twice_before_flush.schedule.json": "stale | unmapped | 1 | 4096 | 1572866 | vtd0 | cpu1",
    "displace_while_moving.schedule.json": "released | released | 1 | 4097 | 1572867 | vtd0 | cpu0",
    "remove_moved_page.schedule.json": "released | released | 1 | 4096 | 1572866 | vtd0 | cpu0",
    "entry_replaced_in_halves.schedule.json": "torn-entry | torn | 1 | 4096 | 3670017 | amd0 | cpu0",
    "remap_before_flush.schedule.json": "stale | mapped | 1 | 4096 | 1572866 | vtd0 | cpu0",
    "domain_id_freed_too_early.schedule.json": "stale | unmapped | 2 | 4096 | 1572866 | vtd0 | cpu1",
    "write_in_flight.token": "late-access | unmap of cpu0 | 1 | 4096 | 1572866 | vtd0 | 00:1f.0",
}
"""Saved schedules and a token, and what they are about: R1 to R6 among them, of which ae7a3af has saved R1 and R5."""


@pytest.mark.parametrize("name", SAVED)
def test_a_schedule_that_was_saved_long_ago_shows_what_it_was_saved_for(name: str) -> None:
    path = FOLDER / name
    replay = Replay.of(path.read_text().strip() if path.suffix == ".token" else str(path), None, {})
    run = replay.run("trio")
    assert run.failure is None
    assert run.reported is not None
    trace = run.reported.machine.trace
    assert SAVED[name] in [str(signature(finding, trace)) for finding in run.reported.findings]


def renew() -> None:
    LOGS.write_text(json.dumps({what: digest(what) for what in logged()}, indent=1) + "\n")
    cells = {what: counted(explored(bundled_with(*what.split(maxsplit=1)))) for what in TABLE_CELLS}
    CELLS.write_text(json.dumps(cells, indent=1) + "\n")


if __name__ == "__main__":
    renew()
