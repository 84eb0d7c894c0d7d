"""Logs as people and as machines read them."""

import io

import orjson
import pytest

from emu.reports.log import Record, write_console, write_json

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
