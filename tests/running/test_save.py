"""Saved schedules are read back, and repeat their executions."""

import re
from pathlib import Path

import attrs
import pytest

from emu.running.digests import Code
from emu.running.read import read
from emu.running.replay import Replay
from emu.running.save import schedule_of_run
from tests.running.saved import saved, shown


def test_a_schedule_reads_back_from_its_file_and_an_equal_one_is_saved_once(tmp_path: Path) -> None:
    schedule = saved()
    first, again, other = (one.write(tmp_path) for one in (schedule, schedule, saved(dma="8")))
    assert first == again != other
    assert sorted(tmp_path.iterdir()) == sorted([first, other])
    assert read(str(first)) == schedule


def test_a_file_with_the_name_of_a_schedule_and_another_content_stays(tmp_path: Path) -> None:
    path = saved().write(tmp_path)
    path.write_text("mine")
    assert saved().write(tmp_path).name == f"{path.stem}.2.json"
    assert path.read_text() == "mine"


def test_a_file_is_named_by_scenario_revision_and_cause_and_no_name_leads_out_of_the_folder(tmp_path: Path) -> None:
    hostile = attrs.evolve(saved(), scenario=Code("../../a b\x1b", "", is_bundled=False), about="stale | mapped")
    path = hostile.write(tmp_path)
    assert re.fullmatch(r"_a_b_-v1-stale-[0-9a-f]{8}\.json", path.name)
    assert path.parent == tmp_path


def test_a_token_reads_back_without_the_operations_and_fits_a_chat() -> None:
    schedule = saved(dma="8")
    token = schedule.token()
    assert len(token) < 1000
    assert read(token).schedule().agents == schedule.schedule().agents
    assert read(token).operations == []


@pytest.mark.parametrize("host", ["direct", "trio"])
@pytest.mark.parametrize("as_token", [False, True])
def test_a_replay_gives_the_same_trace_and_findings(host: str, as_token: bool, tmp_path: Path) -> None:
    run = shown("remap_before_flush", dma="8", iotlb_entries="1")
    schedule = schedule_of_run(run, "remap_before_flush")
    assert schedule is not None
    text = schedule.token() if as_token else str(schedule.write(tmp_path))
    again = Replay.of(text, None, {}).run(host)
    assert again.failure is None
    assert run.reported is not None
    assert again.reported is not None
    events = [
        [(event.step, event.agent.name, event.name, dict(event.fields)) for event in ended.machine.trace.events()]
        for ended in (run.reported, again.reported)
    ]
    assert events[0] == events[1]
    assert again.reported.findings == run.reported.findings


def test_a_schedule_that_no_longer_fits_names_the_first_step_with_both_operations(tmp_path: Path) -> None:
    run = Replay.of(str(saved().write(tmp_path)), None, {"revision": "merged"}).run("direct")
    assert run.failure is not None
    words = str(run.failure)
    assert "the schedule no longer fits, from step" in words
    assert "then cpu0 did ReadBits read:bitmap/d1.iommu_bitmap" in words
    assert "now cpu0 is about to do ReadPerCpu read:percpu/iommu_dont_flush_iotlb" in words
