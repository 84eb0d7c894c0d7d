"""`emu replay`: the same bytes again, and code only where it was named."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

Emu = Callable[..., tuple[int, str, str]]

REVISION = {
    "iommu.py": (
        "from emu.hypervisor.revisions.v1.iommu import iommu_iotlb_flush, iommu_iotlb_flush_all, iommu_map\n"
        "from emu.units import offset, page_count\n\n\n"
        "async def iommu_unmap(cpu, domain, dfn, page_order):\n"
        "    for i in range(page_count(page_order)):\n"
        "        await domain.ops.unmap_page(cpu, domain, offset(dfn, i))\n"
        "    return 0\n"
    ),
    "vtd.py": "from emu.hypervisor.revisions.v1.vtd import IntelIommuOps\n",
}


def saved(emu: Emu, *arguments: str) -> list[str]:
    """Run a scenario with a log, and return the words of the command that replays it."""
    _, out, _ = emu("run", *arguments, "--executions", "1000", "--log", "first.log")
    line = next(line for line in out.splitlines() if line.startswith("replay: "))
    return shlex.split(line)[2:]


@pytest.mark.parametrize("host", ["direct", "trio"])
@pytest.mark.parametrize("scenario", ["remap_before_flush -p dma=8", "flag_left_set", "map_into_flagged_region"])
def test_a_replay_writes_the_same_log_on_both_hosts(emu: Emu, scenario: str, host: str) -> None:
    name, *parameters = scenario.split()
    command = saved(emu, name, *parameters, *(["-p", "revision=merged"] if name.startswith("map") else []))
    status, out, err = emu(*command, "--host", host, "--log", "second.log")
    assert (status, err) == (0, "")
    assert "shown by execution 1" in " ".join(out.split())
    assert Path("second.log").read_bytes() == Path("first.log").read_bytes()


def test_a_replay_with_a_witness_shows_the_device_and_saves_a_schedule_with_it(emu: Emu) -> None:
    command = saved(emu, "unmap_twice_before_flush", "-p", "revision=implicit")
    status, out, _ = emu(*command, "--witness")
    assert status == 0
    assert "stale translation (observed, by a read that emu has added)" in out
    again = next(line for line in out.splitlines() if line.startswith("again: emu replay "))
    assert "stale translation (observed, by a read that emu has added)" in emu(*shlex.split(again)[2:])[1]


def test_a_witness_that_comes_too_late_is_told_so(emu: Emu) -> None:
    status, out, err = emu(*saved(emu, "flag_left_set"), "--witness")
    assert status == 0
    assert err == "emu: the device got another translation: the IOTLB no longer holds the old one\n"
    assert "flush owed (possible)" in out


@pytest.mark.parametrize("flag", [(), ("--cycles", "cycles.json")])
def test_a_replay_takes_cycles_as_a_run_does(emu: Emu, flag: tuple[str, ...]) -> None:
    Path("cycles.json").write_text('{"other": 0, "pte.clear": 1000000}')
    report = json.loads(emu(*saved(emu, "remap_before_flush"), "--json", *flag)[1])
    assert {"windows", "over_flushed", "lock_held", "lock_cycles"} <= set(report)
    assert (report["lock_cycles"] > 1_000_000) == bool(flag)


def test_a_revision_of_the_users_own_is_loaded_only_where_it_is_named(emu: Emu) -> None:
    folder = Path("mine")
    folder.mkdir()
    for file, text in REVISION.items():
        (folder / file).write_text(text)
    command = saved(emu, "unmap_twice_before_flush", "-p", "revision=mine")
    assert command[-2:] == ["-p", "revision=mine"]
    assert emu(*command)[0] == 1
    status, _, err = emu(*command[:-2])
    assert status == 2
    assert err.endswith("add its folder, `-p revision=PATH`\n")


def test_a_scenario_of_the_users_own_is_loaded_only_where_it_is_named(emu: Emu) -> None:
    path = Path("mine.py")
    path.write_text(
        "from emu import DEADLOCK, scenario\n"
        "@scenario(expect=DEADLOCK, sequential=True)\n"
        "def mine(m):\n"
        "    '''Wait for what never comes.'''\n"
        "    never = m.signal('never')\n"
        "    @m.cpu(0)\n"
        "    async def waiter(cpu):\n"
        "        await cpu.load64(0)\n"
        "        await never.wait()\n"
    )
    command = saved(emu, "mine.py")
    assert emu(*command)[0] == 0
    status, _, err = emu(*command[:-1])
    assert status == 2
    assert "add the path of its file" in err


def test_changed_code_is_remarked_and_the_first_step_that_differs_is_named(emu: Emu) -> None:
    command = saved(emu, "remap_before_flush")
    status, out, err = emu(*command, "-p", "revision=implicit")
    assert (status, out) == (2, "")
    assert "emu: the revision is not v1 as it was when the schedule was saved\n" in err
    assert "the schedule no longer fits, from step" in err


@pytest.mark.parametrize("file", ["nowhere.json", "/", "emu1:xyz", ""])
def test_a_text_that_is_no_schedule_is_refused_in_one_line(emu: Emu, file: str) -> None:
    status, out, err = emu("replay", file)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1


def test_where_the_schedule_cannot_be_saved_its_token_is_printed(emu: Emu) -> None:
    Path("file").touch()
    status, out, err = emu("run", "flag_left_set", "--schedules", "file/nowhere")
    assert status == 0
    assert "the schedule cannot be saved in 'file/nowhere': Not a directory" in err
    token = next(line for line in out.splitlines() if line.startswith("replay: emu replay emu1:"))
    assert emu(*shlex.split(token)[2:])[0] == 0


def test_a_token_in_the_place_of_a_file_replays_the_finding(emu: Emu) -> None:
    for verb in (["run", "flag_left_set"], ["explore", "flag_left_set"]):
        status, out, _ = emu(*verb, "--token")
        (replay,) = [line.removeprefix("replay: emu ") for line in out.splitlines() if line.startswith("replay: ")]
        assert (status, replay.startswith("replay emu1:")) == (0, True)
        assert emu(*shlex.split(replay))[0] == 0
    assert list(Path().iterdir()) == []


def test_a_replay_can_be_made_shorter_and_the_shorter_schedule_tells_the_same(emu: Emu) -> None:
    emu("run", "remap_before_flush", "-p", "dma=8", "--seed", "23", "--no-shrink")
    (found,) = Path("emu-findings").iterdir()
    status, out, _ = emu("replay", str(found), "--shrink")
    assert status == 0
    assert "schedule   0 preemptions, down from 22 (minimal: proved)" in out
    again = next(line for line in out.splitlines() if line.startswith("again: emu replay "))
    assert emu(*shlex.split(again)[2:])[1] == out
    assert "schedule   22 preemptions\n" in emu("replay", str(found))[1]


def test_a_replay_without_a_finding_has_nothing_to_make_shorter(emu: Emu) -> None:
    command = saved(emu, "remap_before_flush")
    schedule = json.loads(Path(command[1]).read_text())
    schedule |= {"turns": [[schedule["turns"][0][0], 1]], "operations": schedule["operations"][:1]}
    Path("first_step.json").write_text(json.dumps(schedule))
    status, _, err = emu("replay", "first_step.json", "--shrink")
    assert (status, err) == (
        2,
        "emu: there is no finding whose schedule could be made shorter: leave --shrink out\n",
    )


def test_a_schedule_with_an_access_of_emu_s_own_is_not_made_shorter(emu: Emu) -> None:
    emu("explore", "remap_before_flush")
    (found,) = Path("emu-findings").iterdir()
    status, _, err = emu("replay", str(found), "--shrink")
    assert (status, err) == (2, "emu: the schedule ends with an access that emu has added: leave --shrink out\n")


def test_what_a_file_says_of_its_preemptions_is_not_believed_where_it_cannot_be(emu: Emu) -> None:
    emu("run", "remap_before_flush", "-p", "dma=8", "--seed", "23")
    (found,) = Path("emu-findings").iterdir()
    schedule = json.loads(found.read_text())
    assert schedule["shortened"]["is_minimal"] is True
    for wrong, status in ({"preemptions": -7}, 2), ({"found_with": 10**18}, 2), ({"preemptions": 5}, 0):
        Path("forged.json").write_text(json.dumps({**schedule, "shortened": {**schedule["shortened"], **wrong}}))
        done = emu("replay", "forged.json")
        assert done[0] == status
        assert "minimal: proved" not in done[1]
