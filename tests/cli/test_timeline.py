"""`emu timeline`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.running.saved import saved

Emu = Callable[..., tuple[int, str, str]]


@pytest.fixture
def log(emu: Emu) -> str:
    """Return the log of the README's race, in the folder of the test."""
    emu("run", "remap_before_flush", "-p", "dma=8", "--seed", "23", "--log", "race.jsonl", "--host", "direct")
    return "race.jsonl"


def test_a_log_becomes_a_page_and_its_path_is_printed(emu: Emu, log: str) -> None:
    assert emu("timeline", log) == (0, "race.timeline.html\n", "")
    assert Path("race.timeline.html").read_text().startswith("<!doctype html>")


def data_in(path: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(Path(path).read_text().split('id="data">')[1].split("</script>")[0])
    return data


def test_a_schedule_and_its_log_give_the_same_timeline(emu: Emu, log: str) -> None:
    (schedule,) = Path("emu-findings").iterdir()
    assert emu("timeline", str(schedule), "-o", "a.html") == (0, "a.html\n", "")
    emu("timeline", log, "-o", "b.html")
    assert without_order(data_in("a.html")) == without_order(data_in("b.html"))
    assert any(event["after"] for event in data_in("a.html")["events"])


def without_order(data: dict[str, Any]) -> dict[str, Any]:
    for event in data["events"]:
        del event["after"], event["before"]
    return data


def test_equal_input_gives_equal_bytes(emu: Emu) -> None:
    token = saved().token()
    pages = []
    for name in ("a.html", "b.html"):
        assert emu("timeline", token, "-o", name)[0] == 0
        pages.append(Path(name).read_bytes())
    assert pages[0] == pages[1]


def test_a_token_becomes_a_page_named_by_scenario_and_digest(emu: Emu) -> None:
    schedule = saved()
    name = f"remap_before_flush-{schedule.digest()}.timeline.html"
    assert emu("timeline", schedule.token()) == (0, f"{name}\n", "")
    assert Path(name).exists()


def test_the_page_takes_no_place_of_a_file_that_is_read(emu: Emu, log: str) -> None:
    before = Path(log).read_bytes()
    status, _, err = emu("timeline", log, "-o", f"./{log}")
    assert (status, Path(log).read_bytes()) == (2, before)
    assert "would overwrite 'race.jsonl', which is read" in err


def test_a_page_that_cannot_be_written_leaves_nothing(emu: Emu, log: str) -> None:
    status, out, err = emu("timeline", log, "-o", "no/where.html")
    assert (status, out) == (2, "")
    assert "'no/where.html' cannot be written: there is no such folder" in err


def test_a_schedule_of_a_scenario_of_ones_own_needs_its_file_as_a_replay_does(emu: Emu) -> None:
    source = Path(__file__).parents[2] / "scenarios/remap_before_flush.py"
    Path("mine.py").write_text(source.read_text().replace("def remap_before_flush(", "def mine("))
    emu("run", "mine.py", "-p", "dma=8", "--seed", "23", "--host", "direct")
    (schedule,) = map(str, Path("emu-findings").iterdir())
    status, out, err = emu("timeline", schedule)
    assert (status, out) == (2, "")
    assert "'mine', which does not come with emu: add the path of its file" in err
    assert emu("timeline", schedule, "mine.py", "-o", "page.html") == (0, "page.html\n", "")
    status, _, err = emu("timeline", schedule, "mine.py", "-o", "mine.py")
    assert status == 2
    assert "would overwrite" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.jsonl"], "'nowhere.jsonl' cannot be read: No such file"),
        (["."], "'.' is no regular file: name a log or a schedule"),
        (["race.jsonl", "mine.py"], "a log needs no code: leave the scenario and -p out"),
        (["race.jsonl", "-p", "revision=v1"], "a log needs no code"),
        (["race.jsonl", "--execution", "7"], "'race.jsonl' has no execution 7; it has 23"),
        (["other.txt"], "'other.txt' is no schedule"),
        (["emu1:x"], "the token is damaged"),
        (["emu1:x", "--execution", "1"], "a schedule has one execution: leave --execution out"),
    ],
)
def test_a_mistake_is_one_sentence(emu: Emu, log: str, arguments: list[str], said: str) -> None:
    Path("other.txt").write_text("hello\n")
    status, out, err = emu("timeline", *arguments)
    assert (status, out) == (2, "")
    assert said in err


def test_a_damaged_log_is_refused_whole(emu: Emu, log: str) -> None:
    with Path(log).open("a") as file:
        file.write('{"event": 7}\n')
    Path(log).write_text(Path(log).read_text().replace('"event":"finding"', '"event":"no.finding"'))
    status, _, err = emu("timeline", log)
    assert status == 2
    assert "left out: 1 of" in err
    assert not Path("race.timeline.html").exists()
