"""No file that is read is overwritten, none is left half written, and none is read without a bound."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from emu.files.whole import Writable, write_new, write_whole
from emu.reports.run import RunReport

Emu = Callable[..., tuple[int, str, str]]

RACE = ("run", "remap_before_flush", "-p", "dma=8", "--seed", "23")
MINE = (
    "from emu import CLEAN, scenario\n@scenario(expect=CLEAN, sequential=True)\ndef mine(m):\n    m.cpu(0).runs(load)\n"
    "async def load(cpu): await cpu.load64(0)\n"
)
VERSION_1 = Path(__file__).parent / "version_1"


def write(name: str, text: str) -> str:
    Path(name).write_text(text)
    return name


@pytest.fixture
def saved(emu: Emu) -> str:
    """A schedule of a finding."""
    assert emu(*RACE)[0] == 0
    (path,) = Path("emu-findings").iterdir()
    return str(path)


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_log_never_overwrites_the_schedule_that_is_replayed(emu: Emu, saved: str) -> None:
    before = Path(saved).read_bytes()
    Path("link").symlink_to(saved)
    for log in (saved, f"./{saved}", "link"):
        status, out, err = emu("replay", saved, "--log", log)
        assert (status, out) == (2, "")
        assert err == f"emu: the log {log!r} would overwrite {saved!r}, which is read: name another file\n"
    assert Path(saved).read_bytes() == before


def test_a_log_never_overwrites_the_scenario_its_cycles_or_a_revisions_file(emu: Emu) -> None:
    write("mine.py", MINE), write("cycles.json", '{"other": 1}')
    assert emu("new", "revision", "rev")[0] == 0
    for log in ("mine.py", "cycles.json", "rev/iommu.py", "rev/vtd.py"):
        before = Path(log).read_bytes()
        status, _, err = emu("run", "mine.py", "-p", "revision=./rev", "--cycles", "cycles.json", "--log", log)
        assert (status, err.count("\n")) == (2, 1)
        assert f"the log {log!r} would overwrite" in err
        assert Path(log).read_bytes() == before


def test_a_junit_file_never_overwrites_the_base_of_its_check(emu: Emu) -> None:
    arguments = ("check", "merged", "flush_misses_last_page", "--against")
    result = write("base.json", json.dumps({"format": "emu-check-1", "cells": {}}))
    status, _, err = emu(*arguments, result, "--junit", result)
    assert (status, "the JUnit file 'base.json' would overwrite" in err) == (2, True)
    assert json.loads(Path(result).read_text())["cells"] == {}


@pytest.mark.parametrize("schedule", ["nowhere.json", "saved", "saved -p revision=merged"])
def test_a_replay_that_fails_leaves_an_older_log_as_it_was(emu: Emu, saved: str, schedule: str) -> None:
    log = write("old.log", "old")
    words = schedule.replace("saved", saved).split()
    failing = ("--cycles", "nowhere") if words == [saved] else ()
    assert emu("replay", *words, *failing, "--log", log)[0] == 2
    assert Path(log).read_text() == "old"


def test_a_finding_is_printed_and_saved_though_the_log_cannot_be_written(
    emu: Emu, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = write("old.log", "old")

    def half(report: RunReport, file: Writable) -> None:
        file.write(b"half")
        full()

    monkeypatch.setattr(RunReport, "write_log", half)
    status, out, err = emu(*RACE, "--log", log)
    assert (status, err) == (2, "emu: the log 'old.log' cannot be written: No space left on device\n")
    assert "stale translation (observed)" in out
    (schedule,) = Path("emu-findings").iterdir()
    assert f"replay: emu replay {schedule}" in out
    assert Path(log).read_text() == "old"
    assert sorted(path.name for path in Path().iterdir()) == ["emu-findings", "old.log"]


def test_a_full_device_is_told_after_the_finding(emu: Emu) -> None:
    status, out, err = emu(*RACE, "--log", "/dev/full")
    assert (status, err) == (2, "emu: the log '/dev/full' cannot be written: No space left on device\n")
    assert "stale translation (observed)" in out


def test_a_log_goes_to_a_pipe_as_it_is_written(emu: Emu) -> None:
    reading, writing = os.pipe()
    assert emu(*RACE, "--log", f"/dev/fd/{writing}")[0] == 0
    os.close(writing)
    with open(reading, "rb") as file:  # noqa: PTH123 - the end of a pipe has no path
        assert file.read().splitlines()[0].startswith(b'{"event":"execution.begin"')


def test_where_the_working_directory_is_gone_a_finding_is_shown_with_a_token(emu: Emu) -> None:
    Path.cwd().rmdir()
    status, out, err = emu(*RACE)
    assert status == 0
    assert "stale translation (observed)" in out
    assert "replay: emu replay emu1:" in out
    assert err == "emu: the schedule cannot be saved in 'emu-findings': No such file or directory\n"
    assert emu("list", "--revisions")[0] == 0


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    def half(file: Writable) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o640)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            write_whole(path, half, 10)
        with pytest.raises(OSError, match="larger than"):
            write_whole(path, lambda file: file.write(b"x" * 11), 10)
        with pytest.raises(OSError, match="larger than"):
            write_new(iter([tmp_path / "new"]), b"x" * 11, 10)
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("file", b"old")]
    write_whole(path, lambda file: file.write(b"new"), 10)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", 0o640)


@pytest.mark.parametrize("has_links", [True, False])
def test_a_new_file_takes_the_first_free_name_unless_a_file_with_its_content_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool
) -> None:
    if not has_links:
        monkeypatch.setattr(os, "link", full)
    names = [tmp_path / name for name in "abc"]
    names[0].write_bytes(b"old")
    assert write_new(iter(names), b"new", 10) == names[1]
    assert write_new(iter(names), b"new", 10) == names[1]  # it is there
    assert write_new(iter(names), b"old", 10) == names[0]
    assert [(path.name, path.read_bytes()) for path in sorted(tmp_path.iterdir())] == [("a", b"old"), ("b", b"new")]


@pytest.mark.parametrize(
    "arguments",
    [
        ("replay", "{}"),
        ("run", "mine.py", "--cycles", "{}"),
        ("check", "v1", "--against", "{}.json"),
        ("run", "{}.py"),
        ("run", "mine.py", "-p", "revision=./rev.{}"),
    ],
)
@pytest.mark.parametrize("kind", ["fifo", "folder", "zero", "sparse"])
def test_a_pipe_a_device_a_folder_and_a_huge_file_are_refused(emu: Emu, arguments: tuple[str, ...], kind: str) -> None:
    write("mine.py", MINE)
    names = [kind, f"{kind}.json", f"{kind}.py", f"rev.{kind}/iommu.py"]
    Path(f"rev.{kind}").mkdir()
    for name in names:
        match kind:
            case "fifo":
                os.mkfifo(name)
            case "folder":
                Path(name).mkdir()
            case "zero":
                Path(name).symlink_to("/dev/zero")
            case "sparse":
                Path(name).touch()
                os.truncate(name, 1 << 40)
    shutil.copy("mine.py", f"rev.{kind}/vtd.py")
    status, out, err = emu(*(one.format(kind) for one in arguments))
    assert (status, out, err.count("\n")) == (2, "", 1)


def test_files_of_version_1_are_read(emu: Emu) -> None:
    status, out, _ = emu("log", str(VERSION_1 / "run.log"), "--json")
    assert (status, out) == (0, (VERSION_1 / "run.log").read_text())
    status, out, _ = emu("replay", str(VERSION_1 / "schedule.json"), "--json")
    assert (status, json.loads(out)["format"]) == (0, "emu-run-2")
    arguments = ("check", "merged", "flush_misses_last_page", "-p", "repaired=true", "-j", "1", "--json", "--against")
    status, out, _ = emu(*arguments, str(VERSION_1 / "check.json"))
    assert status == 0
    assert json.loads(out)["differences"] == []


def test_a_log_of_another_version_is_refused_with_its_format(emu: Emu) -> None:
    log = write("new.log", '{"event":"execution.begin","level":"info","format":"emu-log-9"}\n')
    status, out, err = emu("log", log)
    assert (status, out) == (2, "")
    assert err == "emu: 'new.log' has the format 'emu-log-9', not 'emu-log-2' or 'emu-log-1': make it anew\n"


@pytest.mark.parametrize(
    ("arguments", "format_"),
    [
        (("run", "flag_left_set"), "emu-run-2"),
        (("explore", "flag_left_set"), "emu-exploration-2"),
        (("list",), "emu-scenarios-1"),
        (("list", "--revisions"), "emu-revisions-1"),
        (("bench", "--list"), "emu-benchmarks-1"),
        (("check", "v1", "--against", "merged", "flag_left_set", "--list"), "emu-cells-1"),
    ],
)
def test_each_json_report_names_its_format_and_version(emu: Emu, arguments: tuple[str, ...], format_: str) -> None:
    assert json.loads(emu(*arguments, "--json")[1])["format"] == format_
