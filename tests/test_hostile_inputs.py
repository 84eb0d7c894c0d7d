"""Ten thousand hostile inputs: each is answered or refused, runs no code that was not named, and leaves files alone."""

import json
import random
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emu.cli import run_cli
from emu.scenarios.library import bundled_names
from tests.running.saved import saved

INPUTS = 1_000
"""Of each generator."""

MEMORY_MAX = 512 << 10
"""Kilobytes that the process may grow by."""

Arguments = list[str]
Generator = Callable[[random.Random], Arguments]

PATHS = ("", "\0", "\x1b[31m", "../../evil", "evil.py", "/", "a" * 5_000)
TEXTS = (*PATHS, "\ud800", "é", "0x10", "-1", "1e9", "nan", "\n")
VALUES: tuple[Any, ...] = (None, True, -1, 0, 10**18, 1.5, 1e308, [], {}, [[]], {"": {}}, *PATHS, "é", "nan")

TRIGGER = "from pathlib import Path\nPath(__file__).with_name('ran').touch()\n"
"""Code that nobody names: it leaves a file beside it."""

SCENARIO = (
    "from emu import CLEAN, Cpu, Machine, scenario\n\n\n@scenario(expect=CLEAN)\n"
    "def mine(m: Machine, *, order: int = 0, name: str = 'x', flag: bool = False) -> None:\n"
    "    '''A story.'''\n    domain = m.domain(1, devices=('00:1f.0',))\n"
    "    @m.cpu(0)\n    async def first(cpu: Cpu) -> None:\n        await m.hypervisor.flush_all(cpu, domain)\n"
    "    @m.cpu(1)\n    async def second(cpu: Cpu) -> None:\n        await cpu.load64(8)\n"
)


def mutated(draw: random.Random, data: Any) -> Any:
    """Return JSON with one value, somewhere in it, replaced, removed, doubled or renamed."""
    if isinstance(data, dict) and data and draw.random() < 0.9:
        key = draw.choice(sorted(data))
        without = {name: value for name, value in data.items() if name != key}
        renamed = {**without, draw.choice(PATHS): data[key]}
        return draw.choice([without, renamed, *[{**data, key: mutated(draw, data[key])}] * 4])
    if isinstance(data, list) and data and draw.random() < 0.8:
        place = draw.randrange(len(data))
        changed = [*data[:place], mutated(draw, data[place]), *data[place + 1 :]]
        return draw.choice([data[:place], data + data[place:], changed, changed])
    return draw.choice(VALUES)


def damaged(draw: random.Random, content: bytes) -> bytes:
    """Return bytes cut off, with some of them changed, or with others put in."""
    changed = bytearray(content[: draw.randrange(len(content))] if draw.random() < 0.2 else content)
    for _ in range(draw.randrange(6)):
        place = draw.randrange(len(changed) + 1)
        changed[place : place + draw.randrange(3)] = draw.randbytes(draw.randrange(4))
    return bytes(changed)


def written(name: str, content: bytes) -> str:
    Path(name).write_bytes(content)
    return name


def as_json(data: Any) -> bytes:
    return json.dumps(data).encode()


SCHEDULE = json.loads(saved().token_content())
TOKEN = saved().token()
LOG = [
    {"event": "execution.begin", "level": "info", "execution": 0, "format": "emu-log-2", "scenario": "mine"},
    {
        "event": "pte.write",
        "level": "info",
        "execution": 0,
        "step": 3,
        "cpu": 1,
        "domain": 1,
        "dfn": 16,
        "page_count": 2,
    },
    {"event": "finding", "level": "warning", "execution": 0, "message": "stale", "page_order": 1, "dfn": 16},
    {"event": "call.enter", "level": "info", "step": 1, "agent": "cpu1", "domain": 1, "dfn": 16},
    {"event": "call.return", "level": "info", "step": 4, "agent": "cpu1", "domain": 1, "dfn": 16, "deferred": True},
    {"event": "window", "level": "info", "domain": 1, "dfn": 16, "iommu": "vtd0", "tag": 1, "opened": 3, "closed": 5},
    {"event": "invalidate.complete", "level": "info", "step": 5, "iommu": "vtd0", "tag": 1, "page_order": 3, "dfn": 16},
    {"event": "lock.contend", "level": "info", "step": 2, "agent": "cpu1", "lock": "d1.mapping_lock"},
    {"event": "lock.acquire", "level": "info", "step": 3, "agent": "cpu1", "lock": "d1.mapping_lock", "waited": 1},
]
FILTERS = (
    "",
    "--json",
    "--agent cpu1",
    "--domain 1",
    "--dfn 16",
    "--event pte",
    "--frame 1",
    "--steps 1:",
    "--page 16",
    "--owed",
    "--lock-holders d1",
    "--windows",
    "--summary",
    "--columns step,agent,dfn,old,after",
)
SHOWN = {"kind": "stale", "page": [1, 16], "sentence": "s", "executions": 1}
CELL = {"is_exhausted": True, "executions": 1, "steps": 9, "shown": {"s": SHOWN}, "executed": {}, "problem": None}
RESULT = {"format": "emu-check-1", "cells": {"flag_left_set": {**CELL, "is_bug": False}}}


def schedules(draw: random.Random) -> Arguments:
    data = mutated(draw, SCHEDULE)
    more = draw.choice([[], ["--witness"], ["-p", "revision=v1"], ["--json"], ["--host", "direct"], ["mine.py"]])
    return ["replay", written("hostile.json", as_json(data)), *more]


def damaged_schedules(draw: random.Random) -> Arguments:
    return ["replay", written("hostile.json", damaged(draw, as_json(SCHEDULE)))]


def tokens(draw: random.Random) -> Arguments:
    text = damaged(draw, TOKEN.encode()).decode("latin-1")
    return ["replay", f"emu1:{text}" if draw.random() < 0.5 else text]


def logs(draw: random.Random) -> Arguments:
    lines = [as_json(mutated(draw, draw.choice(LOG))) for _ in range(draw.randrange(1, 9))]
    content = b"\n".join(lines)
    path = written("hostile.log", damaged(draw, content) if draw.random() < 0.3 else content)
    filters = draw.choice(FILTERS).split()
    shown = draw.choice([["timeline"], ["export"], ["export", "--format", "vcd"]])
    return draw.choice([["log", path, *filters], [*shown, path, "-o", "shown"]])


def cycles(draw: random.Random) -> Arguments:
    data = mutated(draw, {"other": 20, "queue.post": 500, "pte.write": 1})
    content = as_json(data)
    path = written("hostile.json", damaged(draw, content) if draw.random() < 0.3 else content)
    return ["run", "mine.py", "--cycles", path, "--json"]


def parameters(draw: random.Random) -> Arguments:
    names = ("order", "name", "flag", "steps", "levels", "revision", "iommu", "widen", "coherent", "dma", *TEXTS)
    pairs = [f"{draw.choice(names)}={draw.choice(TEXTS)}" for _ in range(draw.randrange(1, 4))]
    return ["run", draw.choice(["mine.py", "flag_left_set"]), *(word for pair in pairs for word in ("-p", pair))]


def results(draw: random.Random) -> Arguments:
    content = as_json(mutated(draw, RESULT))
    path = written("hostile.json", damaged(draw, content) if draw.random() < 0.3 else content)
    return ["check", "v1", "--against", path, "flag_left_set", "--list"]


def command_lines(draw: random.Random) -> Arguments:
    words = ("replay", "log", "list", "new", "revision", "explore", "mine.py", "flag_left_set", "--json", "--expect")
    options = ("--like", "--seed", "--host", "--strategy", "--steps", "-p", "--cycles", "-h", "--from", "--", "clean")
    chosen = [draw.choice((*words, *options, *TEXTS[:-1])) for _ in range(draw.randrange(5))]
    return [draw.choice(("run", "replay", "log", "list", "new", "explore", *TEXTS)), *chosen]


def scenarios(draw: random.Random) -> Arguments:
    return [draw.choice(("run", "explore")), written("hostile.py", damaged(draw, SCENARIO.encode()))]


def paths(draw: random.Random) -> Arguments:
    targets = ("", ".", "/", "\0", "a" * 300, "no/where", "/dev/null", "/dev/full", "/proc/self/mem", "mine.py", "./x")
    option = draw.choice(("--log", "--schedules", "--cycles"))
    return ["run", "mine.py", option, draw.choice(targets)]


GENERATORS: dict[str, Generator] = {
    one.__name__: one
    for one in (
        *(schedules, damaged_schedules, tokens, logs, cycles),
        *(parameters, results, command_lines, scenarios, paths),
    )
}


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[Path, bytes]:
    """What stands around the folder in which everything runs."""
    here = tmp_path / "outside" / "here"
    here.mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "outside", here):
        (folder / "evil.py").write_text(TRIGGER)
        (folder / "evil").mkdir()
        (folder / "evil" / "iommu.py").write_text(TRIGGER)
    (here / "mine.py").write_text(SCENARIO)
    monkeypatch.chdir(here)
    return {path: path.read_bytes() for path in around(tmp_path)}


def around(folder: Path) -> list[Path]:
    """Return the files that nothing may change."""
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and "here" not in path.parts[:-1]]


@pytest.mark.long
@pytest.mark.parametrize("name", GENERATORS)
def test_a_hostile_input_is_answered_or_refused_in_a_sentence_and_touches_nothing_else(
    name: str,
    outside: dict[Path, bytes],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(INPUTS):
        draw = random.Random(f"{name} {number}")
        arguments = GENERATORS[name](draw)
        is_named = any("evil" in one for one in arguments)
        monkeypatch.setattr(sys, "argv", ["emu", *arguments])
        status = run_cli()
        _, err = capsys.readouterr()
        assert status in {0, 1, 2, 3}, (number, arguments, err)
        assert "Traceback" not in err, (number, arguments, err)
        assert err.isascii() or err.replace("\n", "").isprintable(), (number, arguments, err)
        if status == 2:
            assert err.startswith(("emu: ", "Usage: ")), (number, arguments, err)
        for ran in tmp_path.rglob("ran"):
            assert is_named, (number, arguments)
            ran.unlink()
        assert Path("mine.py").read_text() == SCENARIO, (number, arguments)
    assert {path: path.read_bytes() for path in around(tmp_path)} == outside
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < MEMORY_MAX


def test_the_inputs_are_ten_thousand_and_each_generator_draws_many_kinds(outside: dict[Path, bytes]) -> None:
    assert INPUTS * len(GENERATORS) == 10_000
    assert "flag_left_set" in bundled_names()
    for name, generator in GENERATORS.items():
        drawn = set()
        for number in range(40):
            arguments = generator(random.Random(f"{name} {number}"))
            hostile = [Path(one).read_bytes() for one in arguments if one.startswith("hostile.")]
            drawn.add(repr((arguments, hostile)))
        assert len(drawn) > 10
