"""`emu log`: filters, both forms, and files that are no logs."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.errors import ScenarioError
from emu.reports.reading import LINE_BYTES_MAX, read_records

Emu = Callable[..., tuple[int, str, str]]


@pytest.fixture
def log(emu: Emu) -> str:
    """A log of the race."""
    emu("run", "remap_before_flush", "-p", "dma=8", "--executions", "1000", "--log", "race.log")
    return "race.log"


def agents(record: dict[str, object]) -> list[str]:
    found = record.get("agents", [])
    assert isinstance(found, list)
    return found


def chosen(emu: Emu, log: str, *filters: str) -> list[dict[str, object]]:
    status, out, _ = emu("log", log, *filters, "--json")
    assert status == 0
    return [json.loads(line) for line in out.splitlines()]


def test_without_filters_the_whole_log_is_printed(emu: Emu, log: str) -> None:
    assert emu("log", log, "--json")[1] == Path(log).read_text()


@pytest.mark.parametrize(
    ("filters", "holds"),
    [
        (["--agent", "cpu1"], lambda record: "cpu1" in (record["agent"], *agents(record))),
        (["--agent", "00:1f.0", "--agent", "vtd0"], lambda record: "cpu" not in record),
        (["--domain", "1"], lambda record: record["domain"] == 1),
        (["--event", "pte"], lambda record: record["event"].startswith("pte.")),
        (["--event", "pte.clear"], lambda record: record["event"] == "pte.clear"),
        (["--steps", "10:20"], lambda record: 10 <= record["step"] <= 20),
        (["--steps", "60:"], lambda record: record["step"] >= 60),
        (["--steps", "5"], lambda record: record["step"] == 5),
        (["--dfn", "0x1000"], lambda record: record["dfn"] == 0x1000),
    ],
)
def test_a_filter_passes_the_events_that_it_names_and_no_others(
    emu: Emu, log: str, filters: list[str], holds: Callable[[dict[str, object]], bool]
) -> None:
    records = chosen(emu, log, *filters)
    assert records
    assert all(map(holds, records))
    everything = chosen(emu, log)
    assert 0 < len(records) < len(everything)


def test_several_filters_pass_the_events_that_each_of_them_passes(emu: Emu, log: str) -> None:
    (record,) = chosen(emu, log, "--agent", "cpu0", "--event", "pte.clear", "--dfn", "4096")
    assert record["value"] == 0


def test_an_event_of_a_range_passes_for_each_page_of_the_range(emu: Emu) -> None:
    emu("run", "replace_while_device_reads", "-p", "order=2", "--log", "range.log")
    returned = [one for one in chosen(emu, "range.log", "--dfn", "0x1003") if one["event"] == "call.return"]
    assert len(returned) == 1


def test_standard_input_is_read_for_a_dash(emu: Emu, log: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(Path(log).read_bytes())))
    assert "pte.clear" in emu("log", "-", "--event", "pte")[1]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"not json\n", "line 1 of 'x.log' is not JSON"),
        (b'{"event":"x","level":"info"}\n{"event":', "line 2 of 'x.log' is not JSON"),
        (b"[]\n", "has no event and level"),
        (b'{"event":1,"level":"info"}\n', "has no event and level"),
        (b'{"event":"x","level":"shout"}\n', "has no event and level"),
    ],
)
def test_a_file_that_is_no_log_is_refused_with_the_line(emu: Emu, content: bytes, complaint: str) -> None:
    Path("x.log").write_bytes(content)
    status, _, err = emu("log", "x.log")
    assert status == 2
    assert complaint in err
    assert err.count("\n") == 1


def test_a_line_without_end_is_refused_before_it_fills_the_memory() -> None:
    with pytest.raises(ScenarioError, match="is longer than 1 MiB"):
        list(read_records(io.BytesIO(b"x" * (LINE_BYTES_MAX + 2)), "x"))


def test_a_sentence_says_that_no_event_passes(emu: Emu, log: str) -> None:
    assert emu("log", log, "--domain", "9") == (0, "", "emu: no event passes the filters\n")


@pytest.mark.parametrize(
    ("filters", "said"),
    [
        (["--agent", "cup1"], "no event passes the filters; no agent of the log is 'cup1' (did you mean 'cpu1'?)"),
        (["--event", "pte.wrte"], "no event passes the filters; no event of the log is 'pte.wrte' (did you mean"),
        (["--event", "pte", "--event", "lok"], "no event of the log is 'lok'"),
    ],
)
def test_a_mistyped_name_in_a_filter_is_answered_with_the_name_that_is_meant(
    emu: Emu, log: str, filters: list[str], said: str
) -> None:
    status, _, err = emu("log", log, *filters)
    assert (status, err.count("\n")) == (0, 1)
    assert err.startswith(f"emu: {said}")


def test_lines_without_a_record_are_left_out_and_counted_and_the_first_is_named(emu: Emu, log: str) -> None:
    lines = Path(log).read_text().splitlines()
    foreign = ['{"event":"pte.write","level":{},"step":1}', "nonsense", "[1]"]
    Path("mixed.log").write_text("\n".join([lines[0], foreign[0], *lines[1:], *foreign[1:]]))
    status, out, err = emu("log", "mixed.log", "--json")
    assert (status, out.splitlines()) == (2, lines)
    count = len(lines) + len(foreign)
    assert err == (
        f"emu: line 2 of 'mixed.log' has no event and level: it is no log of emu; left out: 3 of {count} lines\n"
    )


def test_a_record_of_any_content_is_shown_and_sends_a_terminal_no_commands(emu: Emu) -> None:
    keys = ("self", "logger", "method", "exc_info", "exception", "stack", "timestamp", "step", "cpu", "dfn", "a\x1bb")
    values: list[object] = [None, {}, "\x1b\r", 1]
    records = [{"event": "\x1b[31m", "level": "info", key: value} for key in keys for value in values]
    Path("evil.log").write_text("\n".join(map(json.dumps, records)))
    for filters in ([], ["--domain", "1"], ["--dfn", "1"], ["--steps", "1:"], ["--agent", "cpu0"]):
        status, out, err = emu("log", "evil.log", *filters)
        assert status == 0
        assert all(one.isprintable() or one == "\n" for one in out + err)
    assert len(emu("log", "evil.log")[1].splitlines()) == len(records)


@pytest.mark.parametrize("arguments", [["nowhere.log"], ["/"], ["--steps", "a:b", "x.log"], ["--dfn", "zz", "x.log"]])
def test_bad_arguments_are_one_line(emu: Emu, arguments: list[str]) -> None:
    Path("x.log").write_bytes(b"")
    status, _, err = emu("log", *arguments)
    assert (status, err.count("\n")) == (2, 1)


@settings(max_examples=500, deadline=None, derandomize=True, database=None)
@given(st.lists(st.binary(max_size=40) | st.just(b'{"event":"x","level":"info","step":1}'), max_size=5))
def test_a_log_of_any_content_is_read_or_refused_in_a_sentence(lines: list[bytes]) -> None:
    try:
        list(read_records(io.BytesIO(b"\n".join(lines)), "x"))
    except ScenarioError as error:
        said = str(error)
    else:
        said = ""
    assert "\n" not in said
