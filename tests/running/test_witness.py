"""Witnesses: an access that is appended to a schedule."""

import json
from pathlib import Path

import pytest

from emu.devices.device import Commit
from emu.engine.hosts import direct
from emu.engine.strategies.round_robin import RoundRobinStrategy
from emu.hypervisor.revisions.loader import BUNDLED
from emu.reports.exploration import ExplorationReport
from emu.running.add_witness import is_witnessed, with_witnesses
from emu.running.read import read
from emu.running.replay import Replay
from emu.running.witness import Witness
from emu.scenarios.library import find
from tests.running.explored import bundled_with, explored
from tests.running.saved import saved


def test_a_witness_does_not_change_the_numbers_of_its_devices_other_accesses() -> None:
    machine = find("remap_before_flush").bind({"dma": "2"}).build()
    Witness("00:1f.0", 0x1000).join(machine)
    direct.run(machine.execution(RoundRobinStrategy()))
    made = [
        (agent.name, operation.request.number & 0xFFFF_FFFF)
        for agent, operation in machine.trace.performed()
        if isinstance(operation, Commit)
    ]
    assert sorted(made) == [("00:1f.0", 0), ("00:1f.0", 1), ("00:1f.0 (witness)", 1 << 31)]


def test_a_witness_turns_possible_into_observed(tmp_path: Path) -> None:
    schedule = saved("map_same_frame_before_flush")
    repeated = Replay.of(str(schedule.write(tmp_path)), None, {})
    (witnessed,) = with_witnesses(repeated, repeated.run("direct"))
    for host in ("direct", "trio"):
        run = witnessed.run(host)
        assert run.reported is not None
        (finding,) = run.reported.findings
        assert finding.use is not None  # type: ignore[union-attr]  # it is a stale translation
    assert read(str(witnessed.saved.write(tmp_path))) == witnessed.saved


TABLE_ENTRIES = [
    *(("table_freed_before_flush", f"revision={revision}", "read") for revision in BUNDLED),
    ("first_map_under_new_table", "widen=fault", "write"),
]


@pytest.mark.parametrize(("name", "parameters", "access"), TABLE_ENTRIES)
def test_where_units_cache_table_entries_a_witness_uses_one_that_was_replaced(
    name: str, parameters: str, access: str, tmp_path: Path
) -> None:
    done = explored(bundled_with(name, f"{parameters} walk_caches=true"))
    ((cause, report),) = ExplorationReport(done).causes()
    assert f"(observed, by a {access} that emu has added)" in report.headline()
    assert cause.saved is not None
    replay = Replay.of(str(cause.saved.write(tmp_path)), None, {"revision": done.bound.values["revision"]})
    for host in ("direct", "trio"):
        assert is_witnessed(replay, replay.run(host))
    assert "walk_caches" not in ExplorationReport(done).occurrence(cause)


@pytest.mark.parametrize(("name", "parameters", "access"), TABLE_ENTRIES)
def test_where_they_cache_none_it_is_only_possible_and_the_report_says_what_would_show_it(
    name: str, parameters: str, access: str
) -> None:
    done = explored(bundled_with(name, parameters))
    ((cause, report),) = ExplorationReport(done).causes()
    assert "(possible)" in report.headline()
    assert ExplorationReport(done).occurrence(cause).endswith("; to see a device use it: -p walk_caches=true")


def test_that_is_not_said_of_a_leaf() -> None:
    done = explored(bundled_with("map_fails_halfway", "revision=v1"))
    assert all("walk_caches" not in ExplorationReport(done).occurrence(cause) for cause in done.causes.values())


def test_a_witness_that_only_reads_a_page_is_saved_as_before(tmp_path: Path) -> None:
    schedule = saved("map_same_frame_before_flush")
    repeated = Replay.of(str(schedule.write(tmp_path)), None, {})
    (witnessed,) = with_witnesses(repeated, repeated.run("direct"))
    content = json.loads(witnessed.saved.write(tmp_path).read_text())
    assert content["witness"] == {"device": "00:1f.0", "dfn": 0x1000}
