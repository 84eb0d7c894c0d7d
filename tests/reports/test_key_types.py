"""One type a key: values of other types get keys of their own."""

from enum import Enum
from typing import Any

import pytest

from emu.reports.key_types import plain_key, typed


class Colour(Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ({"value": 5}, {"value": 5}),
        ({"value": False}, {"value_flag": False}),
        ({"value": "0x1"}, {"value_text": "0x1"}),
        ({"value": (1 << 64) - 1}, {"value": (1 << 64) - 1}),
        ({"value": 1 << 64}, {"value_text": "0x10000000000000000"}),
        ({"value": -(1 << 64)}, {"value_text": "-0x10000000000000000"}),
        ({"value": float("nan")}, {"value_text": "nan"}),
        ({"value": 1.5}, {"value": 1.5}),
        ({"value": Colour.RED}, {"value_text": "red"}),
        ({"value": None}, {}),
        ({"value": {1: 2}}, {"value_text": "{1: 2}"}),
        ({"tag": "all"}, {"tag_text": "all"}),
        ({"result": -12}, {"result": "-ENOMEM"}),
        ({"result": "ok"}, {"result": "ok"}),
        ({"steps": (3, 4)}, {"steps_list": [3, 4]}),
        ({"deferred": True}, {"deferred": True}),
        ({"own": 5}, {"own": 5}),
        ({"own": "five"}, {"own": "five"}),
    ],
)
def test_a_value_has_the_key_of_its_type(given: dict[str, Any], written: dict[str, Any]) -> None:
    assert dict(typed(given)) == written


@pytest.mark.parametrize(
    ("key", "plain"),
    [
        ("value_flag", "value"),
        ("steps_list", "steps"),
        ("tag_text", "tag"),
        ("page_count", "page_count"),
        ("a_text", "a_text"),
    ],
)
def test_people_see_a_value_under_one_key_whatever_its_type(key: str, plain: str) -> None:
    assert plain_key(key) == plain
