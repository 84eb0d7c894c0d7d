"""`emu bench`: its table, its JSON, and its answer to a wrong count."""

import json
from collections.abc import Callable

import attrs
import pytest

from emu.bench import details, library, steps, timing

Emu = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def few_repetitions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take each time as seldom as may be: no test looks at how long anything takes."""
    monkeypatch.setattr(timing, "REPETITIONS_MAX", timing.REPETITIONS_MIN)


@pytest.fixture
def a_wrong_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the benchmark `writers` claim that there is one trace more."""
    known = library.benchmarks()
    known["writers"] = attrs.evolve(known["writers"], traces={3: 7})
    monkeypatch.setattr(library, "benchmarks", lambda: known)


def test_the_table_shows_counts_and_speed_within_80_columns(emu: Emu) -> None:
    status, out, err = emu("bench", "sb-3", "philosophers_reversed-3", "flush_page_locked.present-2")
    assert (status, err) == (0, "")
    head, line, *_ = out.splitlines()
    assert head.split() == ["program", "known", "executed", "traces", "blocked", "exec/s", "steps/s", "ratio"]
    assert line.startswith("sb-3                           141      141    141       0")
    assert all(len(shown) <= 80 for shown in out.splitlines())
    assert "\x1b" not in out
    assert "wrong" not in out


def test_without_names_all_benchmarks_and_single_steps_are_measured(emu: Emu, monkeypatch: pytest.MonkeyPatch) -> None:
    few = {name: one for name, one in library.benchmarks().items() if name in {"incrw", "philosophers", "writers"}}
    monkeypatch.setattr(library, "benchmarks", lambda: few)
    monkeypatch.setattr(steps, "STEPS", 80)
    monkeypatch.setattr(details, "EXECUTIONS_MAX", 20)
    status, out, _ = emu("bench")
    assert status == 0
    assert {"incrw-4", "philosophers-6", "writers-5", "writers-7"} <= set(out.split())
    assert "random step, direct host    pick, send and perform" in out
    assert "controlled step, Trio host  park and reschedule" in out
    assert "asynchronous engine                                   16" in out
    assert all(len(line) <= 80 for line in out.splitlines())


def test_a_program_that_is_named_is_measured_without_single_steps(emu: Emu) -> None:
    _, out, _ = emu("bench", "writers-3")
    assert "Trio host" not in out


@pytest.mark.usefixtures("a_wrong_count")
def test_a_wrong_count_is_told_and_fails(emu: Emu) -> None:
    status, out, _ = emu("bench", "writers-3", "sb-2")
    assert status == 1
    assert out.endswith("\nwrong: writers-3: 6 distinct traces, and there are 7\n")
    assert out.count("wrong") == 1


@pytest.mark.usefixtures("a_wrong_count")
def test_a_wrong_count_stands_out_in_colour(emu: Emu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    _, out, _ = emu("bench", "writers-3")
    assert "\x1b[31mwriters-3 " in out
    assert "\x1b[31m\x1b[1m\nwrong: writers-3" in out


@pytest.mark.usefixtures("a_wrong_count")
def test_the_json_holds_every_measure_and_the_mistakes(emu: Emu) -> None:
    status, out, _ = emu("bench", "--json", "writers-3", "philosophers-3")
    report = json.loads(out)
    wrong, right = report["programs"]
    assert status == 1
    assert report["steps"] == []
    assert wrong["mistakes"] == ["writers-3: 6 distinct traces, and there are 7"]
    assert right["mistakes"] == []
    assert right["known"] == {"traces": 7, "deadlocks": 1, "executions_max": 7}
    counted = {key: right[key] for key in ("program", "executions", "traces", "blocked", "deadlocks")}
    assert counted == {"program": "philosophers-3", "executions": 7, "traces": 7, "blocked": 0, "deadlocks": 1}
    assert right["ratio"] == right["seconds"] / right["plain_seconds"]
    assert right["steps"] > 0


def test_the_list_names_every_benchmark_within_80_columns(emu: Emu) -> None:
    status, out, _ = emu("bench", "--list")
    assert status == 0
    assert set(library.benchmarks()) <= set(out.split())
    assert "  sizes 4, 5, and 6 with --all" in out
    assert all(len(line) <= 80 for line in out.splitlines())


def test_the_list_as_json_holds_sizes_and_stories(emu: Emu) -> None:
    _, out, _ = emu("bench", "--list", "--json")
    sb = next(one for one in json.loads(out)["benchmarks"] if one["name"] == "sb")
    assert sb.pop("story").startswith("Two agents write their own variable and read the other's, n times")
    assert sb == {"name": "sb", "sizes": [4, 5], "long": [6]}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "filesistem",
            "there is no benchmark 'filesistem' (did you mean 'filesystem'?); `emu bench --list` shows them",
        ),
        ("indexer-16", "nobody has counted the traces of indexer-16: its sizes are 1 to 15"),
        ("sb-0", "sb-0 is too small: sizes start at 1"),
        ("sb-1000000000", "sb-1000000000 has more than 1,000,000 traces: take a smaller size"),
        ("sb-99", "sb-99 has more than 1,000,000 traces: take a smaller size"),
    ],
)
def test_an_unknown_benchmark_or_size_is_refused_in_one_sentence(emu: Emu, name: str, message: str) -> None:
    assert emu("bench", "sb-2", name) == (2, "", f"emu: {message}\n")
