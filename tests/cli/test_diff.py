"""`emu diff`: the step at which two executions part, whether they are logs, files of schedules or tokens."""

import io
import json
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import cattrs
import orjson
import pytest

from emu.reports.parting import Difference
from emu.reports.steps import WrittenLog
from emu.running.read import read

Emu = Callable[..., tuple[int, str, str]]

RACE = ("run", "remap_before_flush", "-p", "dma=8")


@pytest.fixture
def logs(emu: Emu) -> tuple[str, str]:
    """The logs of two executions that have their first two steps in common."""
    for seed in ("23", "24"):
        emu(*RACE, "--seed", seed, "--no-shrink", "--log", f"{seed}.jsonl")
    return "23.jsonl", "24.jsonl"


@pytest.fixture
def schedules(emu: Emu) -> list[str]:
    """Files of schedules: with a choice, and with an access that a replay adds."""
    emu("explore", "first_map_under_new_table", "-p", "allocation_faults=1", "--expect", "lost-error")
    emu("explore", "remap_before_flush")
    return sorted(map(str, Path("emu-findings").glob("*.json")))


def records(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def write(path: str, lines: list[dict[str, Any]]) -> str:
    Path(path).write_text("".join(f"{json.dumps(one)}\n" for one in lines))
    return path


def test_two_logs_part_at_the_first_step_that_is_not_the_same(emu: Emu, logs: tuple[str, str]) -> None:
    steps = [[(one["step"], one["event"]) for one in records(log) if one.get("step")] for log in logs]
    first = next(i for i, (one, other) in enumerate(zip(*steps, strict=False)) if one != other)
    status, out, _ = emu("diff", *logs)
    assert status == 1
    assert out.startswith(f"A and B part at step {steps[0][first][0]}: 00:1f.0 goes on in A, and cpu0 in B\n")


def test_what_each_agent_does_next_is_its_first_event_from_there_on(emu: Emu, logs: tuple[str, str]) -> None:
    data = json.loads(emu("diff", *logs, "--json")[1])
    assert {one["agent"] for one in data["next"]} == {"cpu0", "cpu1", "00:1f.0", "vtd0"}
    for one in data["next"]:
        for side, log in zip("AB", logs, strict=True):
            later = [record for record in records(log) if record.get("step", 0) >= data["step"]]
            assert one[side] == next(record for record in later if emu_name(record) == one["agent"])


def emu_name(record: dict[str, Any]) -> str:
    return f"cpu{record['cpu']}" if "cpu" in record else str(record.get("device") or record["iommu"])


@pytest.mark.parametrize("context", [0, 2, 5])
def test_so_many_equal_lines_stand_before(emu: Emu, logs: tuple[str, str], context: int) -> None:
    before = json.loads(emu("diff", *logs, "--context", str(context), "--json")[1])["before"]
    equal = [one for one in records(logs[0])[1:] if one.get("step", 3) < 3]
    assert before == equal[len(equal) - context :]


def test_a_log_is_equal_to_itself_to_another_seed_and_to_moved_lines_of_code(emu: Emu, logs: tuple[str, str]) -> None:
    changed = [{**one, "execution": 99} | ({"source": "x.py:1"} if "source" in one else {}) for one in records(logs[0])]
    for other in (logs[0], write("changed.jsonl", changed)):
        assert emu("diff", logs[0], other) == (0, "equal: 70 steps\n", "")


def test_every_changed_line_is_noticed_at_its_step(emu: Emu, logs: tuple[str, str]) -> None:
    lines = records(logs[0])
    for number in (3, 20, 40, len(lines) - 1):
        changed = [*lines[:number], {**lines[number], "event": "other"}, *lines[number + 1 :]]
        status, out, _ = emu("diff", logs[0], write("changed.jsonl", changed), "--json")
        step = lines[number].get("step")
        assert (status, json.loads(out)["step"]) == (1, step)


def test_a_value_that_differs_is_named(emu: Emu, logs: tuple[str, str]) -> None:
    lines = records(logs[0])
    changed = [one | {"value": 7} if one["event"] == "pte.clear" else one for one in lines]
    status, out, _ = emu("diff", logs[0], write("changed.jsonl", changed))
    assert (status, out.splitlines()[0]) == (1, "A and B part at step 12: cpu0's pte.clear differs in value")


@pytest.mark.parametrize("order", [1, -1])
def test_one_that_ends_before_the_other_parts_from_it(emu: Emu, logs: tuple[str, str], order: int) -> None:
    short = write("short.jsonl", [one for one in records(logs[0]) if one.get("step", 99) <= 15])
    status, out, _ = emu("diff", *(logs[0], short)[::order])
    ended, others = "BA" if order == 1 else "AB"
    assert (status, out.splitlines()[0]) == (
        1,
        f"A and B part behind step 15: {ended} ends there, and {others} goes on",
    )


def test_other_parameters_are_said_first(emu: Emu, logs: tuple[str, str]) -> None:
    emu("run", "remap_before_flush", "-p", "revision=merged", "--log", "merged.jsonl")
    out = emu("diff", logs[0], "merged.jsonl")[1]
    assert out.startswith("A is of remap_before_flush dma=8 on v1, and B of remap_before_flush on merged\n")


def test_a_log_follows_its_schedule(emu: Emu, schedules: list[str]) -> None:
    for schedule in schedules:
        assert emu("replay", schedule, "--log", "replayed.jsonl")[0] == 0
        for pair in ((schedule, "replayed.jsonl"), ("replayed.jsonl", schedule)):
            status, out, _ = emu("diff", *pair)
            assert (status, out.partition(":")[0]) == (0, "equal")


def test_a_token_is_equal_to_its_file_and_to_its_log(emu: Emu, schedules: list[str]) -> None:
    for schedule in schedules:
        token = read(schedule).token()
        emu("replay", token, "--log", "replayed.jsonl")
        for pair in ((schedule, token), (token, schedule), (token, token), (token, "replayed.jsonl")):
            assert emu("diff", *pair)[0] == 0


def other_choice(path: str) -> tuple[str, str]:
    """Return a schedule whose last choice is another one: as a file, and as a token."""
    saved = read(path)
    changed = attrs.evolve(saved, choices=[*saved.choices[:-1], 1 - saved.choices[-1]])
    Path("other.json").write_bytes(orjson.dumps(cattrs.unstructure(changed)))
    return "other.json", changed.token()


def test_another_choice_is_found_where_it_is_made(emu: Emu, schedules: list[str]) -> None:
    path = next(one for one in schedules if read(one).choices)
    saved = read(path)
    chooses = [number for number, name in enumerate(saved.operations, 1) if name.startswith("Choose")]
    step = chooses[len(saved.choices) - 1]
    said = f"A and B part at step {step}: by cpu0 {saved.choices[-1]} is chosen in A, and {1 - saved.choices[-1]} in B"
    emu("replay", path, "--log", "replayed.jsonl")
    for one in (path, "replayed.jsonl"):
        for other in other_choice(path):
            status, out, _ = emu("diff", one, other)
            assert (status, " ".join(out.partition("\n\n")[0].split())) == (1, said)


def test_two_tokens_do_not_say_where_a_choice_is_made(emu: Emu, schedules: list[str]) -> None:
    path = next(one for one in schedules if read(one).choices)
    status, out, _ = emu("diff", read(path).token(), other_choice(path)[1])
    assert status == 1
    assert out.startswith("A and B part at a step that tokens do not name: ")


def test_schedules_say_what_each_agent_had_announced(emu: Emu, schedules: list[str]) -> None:
    path = next(one for one in schedules if "remap" in one)
    saved = read(path)
    steps = list(saved.schedule().agents)
    at = next(number for number, agent in enumerate(steps) if agent == "cpu1")
    operations = [*saved.operations[:at], "Other", *saved.operations[at + 1 :]]
    Path("other.json").write_bytes(orjson.dumps(cattrs.unstructure(attrs.evolve(saved, operations=operations))))
    data = json.loads(emu("diff", path, "other.json", "--json")[1])
    assert data["step"] == at + 1
    for one in data["next"]:
        if one["agent"] != "cpu1":
            announced = next(i for i in range(at, len(steps)) if steps[i] == one["agent"])
            assert one["A"]["operation"] == one["B"]["operation"] == saved.operations[announced]


def test_schedules_of_other_code_are_said_to_be_so(emu: Emu, schedules: list[str]) -> None:
    saved = read(schedules[0])
    changed = attrs.evolve(saved, scenario=attrs.evolve(saved.scenario, digest="0" * 16))
    Path("other.json").write_bytes(orjson.dumps(cattrs.unstructure(changed)))
    out = " ".join(emu("diff", schedules[0], "other.json")[1].split())
    assert "different states of its code equal: " in out


def test_another_access_that_a_replay_adds_is_a_difference(emu: Emu, schedules: list[str]) -> None:
    path = next(one for one in schedules if read(one).witness)
    Path("other.json").write_bytes(orjson.dumps(cattrs.unstructure(attrs.evolve(read(path), witness=None))))
    status, out, _ = emu("diff", path, "other.json")
    assert (status, out.startswith("A and B have equal steps, and the accesses that a replay adds")) == (1, True)


def test_a_line_fits_80_columns_whatever_a_log_holds(emu: Emu, logs: tuple[str, str]) -> None:
    hostile = [one | {"device": "d\x1b" * 200, "x": "y" * 3000} for one in records(logs[0]) if "cpu" not in one]
    for pair in (logs, (logs[0], write("hostile.jsonl", hostile))):
        status, out, _ = emu("diff", *pair)
        assert status == 1
        assert max(map(len, out.splitlines())) <= 80
        assert all(one.isprintable() or one == "\n" for one in out)


def test_a_log_is_read_from_standard_input(emu: Emu, logs: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BufferedReader(io.BytesIO(Path(logs[0]).read_bytes()))
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=file))
    assert emu("diff", "-", logs[0])[:2] == (0, "equal: 70 steps\n")


def many(count: int, changed: int) -> Iterator[dict[str, Any]]:
    """Yield the records of a long log, one of which is changed."""
    for step in range(1, count + 1):
        yield {"event": "pte.read", "level": "info", "step": step, "cpu": step % 2, "value": int(step == changed)}


def test_no_more_of_a_long_log_is_kept_than_is_shown() -> None:
    def peak(count: int) -> int:
        tracemalloc.start()
        found = Difference.of(WrittenLog(many(count, 0), "A"), WrittenLog(many(count, count - 10), "B"), 5)
        assert found.step == count - 10
        try:
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(100)
    assert peak(10_000) < peak(1_000) + 20_000


@pytest.mark.parametrize(
    "arguments",
    [("-", "-"), ("nowhere", "nowhere"), ("/", "/"), ("emu1:x", "emu1:x"), ("empty", "empty"), ("junk", "junk")],
)
def test_what_is_neither_a_log_nor_a_schedule_is_one_sentence(emu: Emu, arguments: tuple[str, str]) -> None:
    Path("empty").touch()
    Path("junk").write_text('{"format": "emu-run-1"}\n')
    status, out, err = emu("diff", *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
