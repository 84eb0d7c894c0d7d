"""Logs as people and as machines read them."""

import io

import orjson
import pytest

from emu.checks.findings import Finding
from emu.engine.happens_before import HappensBefore
from emu.engine.hosts import direct
from emu.engine.strategies.random import RandomStrategy
from emu.machine.machine import Machine
from emu.reports.log import KEYS_FROM, Record, is_in, records, write_console, write_json
from emu.scenarios.library import find

RECORD: Record = {
    "event": "pte.clear",
    "level": "info",
    "execution": 0,
    "step": 12,
    "cpu": 0,
    "value": 0,
    "dfn": 0x200,
    "domain": 1,
    "source": "emu/x.py:1",
}


def test_json_keeps_numbers_and_the_order_of_the_vocabulary() -> None:
    file = io.BytesIO()
    write_json([RECORD], file)
    assert file.getvalue() == (
        b'{"event":"pte.clear","level":"info","execution":0,"step":12,"cpu":0,"domain":1,"dfn":512,"value":0,'
        b'"source":"emu/x.py:1"}\n'
    )


def test_people_see_step_agent_and_event_in_columns_and_addresses_in_hexadecimal() -> None:
    file = io.StringIO()
    write_console([RECORD], file, colors=False)
    assert file.getvalue() == "12   cpu0     pte.clear           domain=1 dfn=0x200 value=0x0\n"


@pytest.mark.parametrize("colors", [True, False])
def test_colour_is_used_only_where_it_is_wanted(colors: bool) -> None:
    file = io.StringIO()
    write_console([RECORD], file, colors=colors)
    assert ("\x1b" in file.getvalue()) is colors


def test_a_scenario_s_own_keys_come_last() -> None:
    file = io.BytesIO()
    write_json([{"event": "x", "level": "info", "zeal": 1, "invented": 2, "source": "f.py:1"}], file)
    assert list(orjson.loads(file.getvalue())) == ["event", "level", "source", "invented", "zeal"]


def test_each_line_is_json_by_itself() -> None:
    file = io.BytesIO()
    write_json([RECORD, {**RECORD, "step": 13}], file)
    assert [orjson.loads(line)["step"] for line in file.getvalue().splitlines()] == [12, 13]


def machine_after_the_race() -> tuple[Machine, list[Finding]]:
    machine = find("remap_before_flush").bind({"dma": "8"}).build(sources=True)
    execution = machine.execution(RandomStrategy.seeded(23))
    direct.run(execution)
    return machine, machine.conclude(execution)


def test_a_step_names_the_steps_that_it_depends_on_once() -> None:
    machine, findings = machine_after_the_race()
    told: dict[int, list[list[int]]] = {}
    for record in records(machine, findings, {"seed": 23}):
        if "step" in record and record["event"] != "finding":
            told.setdefault(record["step"], []).append(record.get("after", []))
    order = HappensBefore.of(machine.trace)
    for step, direct_ones in enumerate(order.direct, start=1):
        first, *others = told[step]
        assert first == list(direct_ones)
        assert not any(others)
    assert any(order.direct)


def test_a_trace_without_sources_has_a_log_without_the_order_of_its_steps() -> None:
    machine = find("remap_before_flush").bind({}).build()
    execution = machine.execution(RandomStrategy.seeded(0))
    direct.run(execution)
    assert all("after" not in record for record in records(machine, machine.conclude(execution), {"seed": 0}))


def test_a_finding_names_the_agents_in_its_sentence_and_no_others() -> None:
    machine, findings = machine_after_the_race()
    (told,) = [one for one in records(machine, findings, {"seed": 23}) if one["event"] == "finding"]
    assert told["agents"] == ["vtd0", "cpu0", "cpu1", "00:1f.0"]
    assert told["agent"] == "cpu1"


@pytest.mark.parametrize(
    ("name", "message", "is_named"),
    [
        ("cpu1", "when cpu1's map returned", True),
        ("cpu1", "when cpu12's map returned", False),
        ("00:1f.0", "device 00:1f.0: it", True),
        ("00:1f.0", "device 00:1fx0: it", False),
    ],
)
def test_a_name_is_a_whole_word(name: str, message: str, is_named: bool) -> None:
    assert is_in(name, message) is is_named


def test_a_line_for_people_that_is_too_wide_goes_on_below_its_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    file = io.StringIO()
    write_console([{**RECORD, "one": "x" * 20, "two": "y" * 20}], file, colors=False)
    first, *others = file.getvalue().splitlines()
    assert others
    assert max(map(len, (first, *others))) <= 60
    assert all(line.startswith(" " * KEYS_FROM) for line in others)
