"""`emu log` answers questions, follows a file, and says what a schedule is."""

import json
import shlex
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from emu.reports.vocabulary import KEYS

Emu = Callable[..., tuple[int, str, str]]
VERSION_1 = Path(__file__).parent / "version_1"
QUESTIONS = ("--page 0x1000", "--owed", "--lock-holders d1", "--windows", "--summary", "--columns step,agent,event,dfn")


def logged(emu: Emu, arguments: str) -> str:
    emu("run", *arguments.split(), "--log", "made.jsonl")
    return "made.jsonl"


@pytest.fixture
def race(emu: Emu) -> str:
    """The log of the race."""
    return logged(emu, "remap_before_flush -p dma=8 --seed 23 --no-shrink")


def rows(emu: Emu, log: str, question: str) -> list[dict[str, Any]]:
    status, out, _ = emu("log", log, *question.split(), "--json")
    assert status == 0
    return [json.loads(line) for line in out.splitlines()]


def records(log: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(log).read_text().splitlines()]


def test_a_page_has_its_calls_stores_flushes_and_accesses_in_order_and_nothing_else(emu: Emu, race: str) -> None:
    told = rows(emu, race, "--page 0x1000")
    about = ("call.", "pte.write", "pte.clear", "iotlb.", "invalidate.", "dma.", "finding", "window")
    expected = [one for one in records(race) if one["event"].startswith(about)]
    assert len(expected) > 20
    assert [(one.get("step"), one["event"]) for one in told] == [(one.get("step"), one["event"]) for one in expected]
    assert all(one["domain"] == 1 for one in told)


def test_a_page_of_another_domain_or_number_has_no_history(emu: Emu, race: str) -> None:
    for question in ("--page 0x1000 --domain 2", "--page 0x5000"):
        status, out, err = emu("log", race, *question.split())
        assert (status, out) == (0, "")
        assert err.startswith("emu: nothing happened to dfn 0x")


def test_a_promise_that_is_put_off_is_told_as_one(emu: Emu) -> None:
    out = emu("log", logged(emu, "flush_misses_last_page"), "--page", "0x1001")[1]
    assert "map returns ok: promises nothing yet, the flush is put off" in out
    assert "entry: 0x180003803 -> 0x180005803" in out


def test_a_flush_of_the_whole_domain_is_one_of_each_page(emu: Emu) -> None:
    told = rows(emu, logged(emu, "batch_flushes_whole_domain"), "--page 0x1000")
    assert [one["what"] for one in told if one.get("call") == "flush_all"] == [
        "flush_all begins",
        "flush_all returns ok: promises that nothing old is used",
    ]
    assert "drops 2 cached, of all pages" in [one["what"] for one in told]


def test_a_store_to_a_superpage_is_one_to_each_of_its_pages(emu: Emu) -> None:
    Path("s.jsonl").write_text(
        '{"event":"execution.begin","level":"info","execution":0,"parameters":["superpage_bits=1"]}\n'
        '{"event":"pte.clear","level":"info","execution":0,"step":1,"agent":"cpu0","dfn":4096,"table_level":2,"old":1}\n'
    )
    assert len(rows(emu, "s.jsonl", "--page 0x1001")) == 1
    assert rows(emu, "s.jsonl", "--page 0x1002") == []
    Path("s.jsonl").write_text(Path("s.jsonl").read_text().replace("superpage_bits=1", "order=1"))
    assert len(rows(emu, "s.jsonl", "--page 0x11ff")) == 1
    assert rows(emu, "s.jsonl", "--page 0x1200") == []


@pytest.mark.parametrize("vendor", ["vtd", "amd"])
def test_a_debt_names_its_call_what_it_changed_and_the_flush_that_paid_it(emu: Emu, vendor: str) -> None:
    log = logged(emu, f"flush_misses_last_page -p iommu={vendor}")
    paid, unpaid = rows(emu, log, "--owed")
    by_step = {one["step"]: one for one in records(log) if one["event"] in ("pte.write", "queue.post", "call.return")}
    assert (paid["dfn"], unpaid["dfn"]) == (0x1000, 0x1001)
    assert all(by_step[one["step"]]["deferred"] is True for one in (paid, unpaid))
    assert all(by_step[one["changed"]]["dfn"] == one["dfn"] for one in (paid, unpaid))
    assert by_step[paid["posted"]]["event"] == "queue.post"
    assert paid["step"] < paid["posted"] < paid["paid"]
    assert paid["paid_by"] == "cpu0"
    assert unpaid["payment"] == "wrong-range"
    assert "paid" not in unpaid
    assert "never (a finding: wrong-range)" in " ".join(emu("log", log, "--owed")[1].split())


def test_a_deferred_call_that_changed_nothing_owes_nothing(emu: Emu) -> None:
    first, _ = rows(emu, logged(emu, "flag_left_set"), "--owed")
    assert "changed" not in first


def test_a_lock_is_held_by_one_after_the_other_and_each_wait_is_told(emu: Emu, race: str) -> None:
    first, second = rows(emu, race, "--lock-holders d1.mapping_lock")
    assert (first["agent"], second["agent"]) == ("cpu0", "cpu1")
    assert first["waiting"] == ["cpu1"]
    assert second["waited"] == second["step"] - second["ticketed"]
    assert first["released"] <= second["step"]
    assert [one["agent"] for one in rows(emu, race, "--lock-holders d1 --agent cpu1")] == ["cpu1"]


def test_a_lock_that_is_never_got_or_released_is_told(emu: Emu) -> None:
    ticket = '{{"event":"lock.{}","level":"info","execution":0,"step":{},"agent":"{}","lock":"l"}}\n'
    lines = [("ticket", 1, "cpu0"), ("acquire", 2, "cpu0"), ("contend", 3, "cpu1")]
    Path("l.jsonl").write_text("".join(ticket.format(*one) for one in lines))
    out = " ".join(emu("log", "l.jsonl", "--lock-holders", "l")[1].split())
    assert "never released it; cpu1 waited meanwhile" in out
    assert "never got it" in out


def test_the_name_of_no_lock_is_answered_with_the_name_that_is_meant(emu: Emu, race: str) -> None:
    err = emu("log", race, "--lock-holders", "d1.maping_lock")[2]
    assert "no lock of the log is 'd1.maping_lock' (did you mean 'd1.mapping_lock'?)" in err


def test_windows_are_those_of_the_log_and_the_longest_comes_first(emu: Emu) -> None:
    log = logged(emu, "flush_misses_last_page")
    told = rows(emu, log, "--windows")
    lengths = [one["steps"] for one in told]
    assert lengths == sorted(lengths, reverse=True) != []
    assert sorted(map(repr, told)) == sorted(repr(one) for one in records(log) if one["event"] == "window")
    assert rows(emu, log, "--windows --dfn 0x1001") == [one for one in told if one["dfn"] == 0x1001]


def test_a_summary_counts_what_passes_the_filters(emu: Emu, race: str) -> None:
    counted = {(one["sort"], one["name"]): one["count"] for one in rows(emu, race, "--summary")}
    found = records(race)
    assert counted["all", "steps"] == 70
    assert counted["finding", "stale"] == counted["all", "findings"] == 1
    events = Counter(one["event"] for one in found)
    assert {name: number for (sort, name), number in counted.items() if sort == "event"} == dict(events)
    of_cpu1 = {
        (one["sort"], one["name"]): one["count"] for one in rows(emu, race, "--summary --event pte --agent cpu1")
    }
    stores = [one for one in found if one["event"].startswith("pte.") and one["agent"] == "cpu1"]
    assert of_cpu1["agent", "cpu1"] == len(stores)
    assert ("agent", "cpu0") not in of_cpu1


def test_columns_are_the_keys_that_are_chosen(emu: Emu, race: str) -> None:
    told = rows(emu, race, "--columns step,dfn --event pte.clear")
    assert told == [{"step": 12, "dfn": 0x1000}]
    assert emu("log", race, "--columns", "step,dfn", "--event", "pte.clear")[1].split() == [
        "step",
        "dfn",
        "12",
        "0x1000",
    ]


def test_the_questions_are_answered_from_a_log_of_format_1_too(emu: Emu) -> None:
    log = str(VERSION_1 / "run.log")
    assert {one["agent"] for one in rows(emu, log, "--lock-holders d1")} == {"cpu0", "cpu1"}
    assert rows(emu, log, "--page 0x1000")
    assert all(one["event"] == "finding" or one["cpu"] == 1 for one in rows(emu, log, "--agent cpu1"))


@pytest.mark.parametrize("question", QUESTIONS)
def test_an_answer_fits_80_columns_and_sends_a_terminal_no_commands(emu: Emu, question: str) -> None:
    log = logged(emu, "flush_misses_last_page")
    text = Path(log).read_text().replace("vtd0", r"v\u001btd0").replace("d1.mapping", r"d1.\u009bmapping")
    Path(log).write_text(text)
    status, out, _ = emu("log", log, *question.split())
    assert status == 0
    assert out.count("\n") > 2
    assert max(map(len, out.splitlines())) <= 80
    assert all(one.isprintable() or one == "\n" for one in out)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--owed --windows", "--owed and --windows are two questions: ask one at a time"),
        ("--summary --follow", "--follow shows events as they come: leave the question out, or take --columns"),
        ("--columns step,dnf", "--columns: no log has the key 'dnf' (did you mean 'dfn'?)"),
        ("--columns=", "--columns: no log has the key ''"),
        ("--page=", "--page takes numbers such as 12 or 0x1000, not ''"),
        ("--page zz", "--page takes numbers such as 12 or 0x1000, not 'zz'"),
        ("--dfn 9:1", "--dfn 9:1 ends before it begins: write 1:9"),
    ],
)
def test_a_question_that_cannot_be_asked_is_refused_with_its_mend(emu: Emu, arguments: str, said: str) -> None:
    Path("x.jsonl").write_bytes(b"")
    assert emu("log", "x.jsonl", *arguments.split()) == (2, "", f"emu: {said}\n")


def test_lines_that_are_left_out_are_told_below_the_answer(emu: Emu, race: str) -> None:
    told = emu("log", race, "--windows")[1]
    with Path(race).open("a") as file:
        file.write('{"event":"window","le')
    status, out, err = emu("log", race, "--windows")
    assert (status, out) == (2, told)
    assert err.endswith("is not JSON: it is no log of emu, or was cut off; left out: 1 of 81 lines\n")


def acts(log: Path, lines: list[str]) -> Iterator[None]:
    """Do what happens to a log while nobody reads it: it grows, also by half a line, and is written anew."""
    yield
    for text in (lines[1], lines[2][:9], lines[2][9:]):
        with log.open("a") as file:
            file.write(text)
        yield
    log.write_text(lines[3])
    yield
    log.with_name("new").write_text(lines[4])
    log.with_name("new").replace(log)
    yield
    log.unlink()
    yield
    log.write_text(lines[5] + lines[6][:9])
    yield
    raise KeyboardInterrupt


@pytest.mark.parametrize("arguments", [["--json"], ["--columns", "step"], []])
def test_a_file_that_grows_is_followed_until_ctrl_c(
    emu: Emu, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    lines = [f'{{"event":"x","level":"info","step":{step},"note":"{"n" * (99 - step)}"}}\n' for step in range(7)]
    Path("f.jsonl").write_text(lines[0])
    doing, waits = acts(Path("f.jsonl"), lines), []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        next(doing)

    monkeypatch.setattr("emu.cli.log_input.time.sleep", sleep)
    status, out, err = emu("log", "f.jsonl", "--follow", *arguments)
    assert (status, err) == (0, "")
    assert min(waits) > 0.1
    if arguments == ["--json"]:
        assert out == "".join(lines[:6])
    else:
        assert [line.split()[0] for line in out.splitlines() if line[0].isdigit()] == [str(step) for step in range(6)]


@pytest.fixture
def schedule(emu: Emu) -> str:
    """The schedule of the race."""
    emu("run", "remap_before_flush", "-p", "dma=8", "--seed", "23", "--no-shrink")
    (path,) = Path("emu-findings").iterdir()
    return str(path)


def test_a_schedule_is_told_as_one_with_commands_that_work(emu: Emu, schedule: str) -> None:
    status, out, err = emu("log", schedule)
    assert (status, err) == (0, "")
    said, _, commands = out.partition("\nreplay: ")
    assert " ".join(said.split()) == (
        "This is a schedule, not a log: 70 steps of the scenario remap_before_flush -p dma=8, on the revision v1, "
        "found by the strategy random with seed 23, saved for the finding 'stale | mapped | 1 | 4096 | 1572866 | "
        "vtd0 | cpu0'."
    )
    replay, _, log = commands.partition("\nlog: ")
    assert replay == f"emu replay {schedule}"
    assert emu(*shlex.split(replay)[1:])[0] == 0
    assert emu(*shlex.split(log)[1:])[0] == 0
    assert Path("remap_before_flush.jsonl").exists()


def test_a_token_is_told_as_a_schedule_be_it_an_argument_or_in_a_file(emu: Emu) -> None:
    out = emu("run", "remap_before_flush", "-p", "dma=8", "--seed", "23", "--no-shrink", "--token")[1]
    token = out.split()[-1]
    Path("token.txt").write_text(token + "\n")
    for named in (token, "token.txt"):
        status, out, _ = emu("log", named, "--json")
        told = json.loads(out)
        assert (status, told["format"], told["steps"]) == (0, "emu-schedule-summary-1", 70)


def test_the_commands_for_a_schedule_of_foreign_code_say_what_is_to_be_named(emu: Emu, schedule: str) -> None:
    data = json.loads(Path(schedule).read_text())
    data["scenario"]["name"], data["revision"]["name"] = "theirs", "theirs"
    Path(schedule).write_text(json.dumps(data))
    assert f"replay: emu replay {schedule} path/to/theirs.py -p revision=path/to/theirs\n" in emu("log", schedule)[1]


def test_a_damaged_schedule_is_refused_as_one(emu: Emu, schedule: str) -> None:
    Path(schedule).write_text(Path(schedule).read_text()[:-20])
    status, out, err = emu("log", schedule)
    assert (status, out) == (2, "")
    assert "is no schedule" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--windows", "the log has no window: no entry that devices could use was replaced"),
        ("--windows --domain 7", "no row passes the filters"),
        ("--owed", "no call of the log has put its flush off"),
        ("--summary --agent cpu1", "no event passes the filters; no agent of the log is 'cpu1'"),
        ("--page 1", "nothing happened to dfn 0x1"),
        ("--lock-holders a", "no row passes the filters; no lock of the log is 'a'"),
    ],
)
def test_an_answer_without_rows_says_why(emu: Emu, arguments: str, said: str) -> None:
    Path("x.jsonl").write_text('{"event":"x","level":"info","execution":0,"step":1,"agent":"vtd0"}\n')
    status, _, err = emu("log", "x.jsonl", *arguments.split())
    assert (status, err) == (0, f"emu: {said}\n")


def test_the_columns_of_all_keys_have_a_heading(emu: Emu, race: str) -> None:
    out = emu("log", race, "--columns", ",".join(KEYS), "--event", "pte.clear")[1]
    assert out.split("\n", 1)[0].split() == list(KEYS)
